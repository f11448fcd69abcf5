"""The scripted model: what it streams, what it records, what it refuses."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph

from graph_voice import Agent, Handoff, create_voice_graph, history
from graph_voice.testing import Call, PromptError, ScriptedModel, ScriptError, call, fail, hang, say

HI = [SystemMessage("Be brief."), HumanMessage("Hi")]


@tool
def look_up(number: int) -> str:
    """Look something up."""
    return f"number {number}"


@tool
def weather() -> str:
    """Tell the weather."""
    return "rain"


async def streamed(model: Any, messages: list[BaseMessage]) -> tuple[list[str], AIMessageChunk]:
    chunks = [chunk async for chunk in model.astream(messages)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return [chunk.text for chunk in chunks if chunk.text], whole


@pytest.mark.parametrize("text", ["Hello there, friend.", "  two  spaces\n and a line ", "one", "Ünïcödé ✓ ok?", " "])
async def test_text_is_streamed_word_by_word_and_exactly(text: str) -> None:
    words, whole = await streamed(ScriptedModel([text]), HI)
    assert whole.content == text
    assert len(words) == max(1, len(text.split()) + (text != text.rstrip() and text.strip() != ""))


async def test_replies_come_in_order_by_every_way_of_asking() -> None:
    model = ScriptedModel(["one", "two", "three", "four"])
    assert (await model.ainvoke(HI)).content == "one"
    assert (await streamed(model, HI))[1].content == "two"
    assert model.invoke(HI).content == "three"
    assert "".join(chunk.text for chunk in model.stream(HI)) == "four"
    assert [prompt.outcome for prompt in model.prompts] == ["finished"] * 4


async def test_parallel_tool_calls_come_behind_the_text_as_chunks() -> None:
    model = ScriptedModel([say("One moment.", call("look_up", {"number": 3}), call("weather", id="w"))])
    words, whole = await streamed(model.bind_tools([look_up, weather]), HI)
    assert "".join(words) == "One moment."
    assert [(c["name"], c["args"], c["id"]) for c in whole.tool_calls] == [
        ("look_up", {"number": 3}, "call_1"),
        ("weather", {}, "w"),
    ]
    assert whole.response_metadata["finish_reason"] == "tool_calls"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 4


def test_an_invoked_model_has_the_same_tool_calls() -> None:
    reply = ScriptedModel([say("Wait.", call("weather"))]).bind_tools([weather]).invoke(HI)
    assert isinstance(reply, AIMessage)
    assert not isinstance(reply, AIMessageChunk)
    assert (reply.content, [c["name"] for c in reply.tool_calls]) == ("Wait.", ["weather"])


async def test_broken_arguments_stay_broken() -> None:
    model = ScriptedModel([call("look_up", "three")])
    reply = await model.bind_tools([look_up]).ainvoke(HI)
    assert [c["args"] for c in reply.invalid_tool_calls] == ["three"]


async def test_call_ids_avoid_those_of_the_prompt() -> None:
    model = ScriptedModel([call("weather")])
    earlier = [
        *HI,
        AIMessage("", tool_calls=[{"name": "weather", "args": {}, "id": "call_1"}]),
        ToolMessage("x", tool_call_id="call_1"),
    ]
    reply = await model.bind_tools([weather]).ainvoke([*earlier, HumanMessage("again")])
    assert reply.tool_calls[0]["id"] == "call_2"


@pytest.mark.virtual_clock
async def test_delays_are_those_of_the_script() -> None:
    loop = asyncio.get_running_loop()
    model = ScriptedModel(["a b c", say("a b c", first_token=2, per_token=0.5)], first_token=0.4, per_token=0.1)
    for first, last in ((0.4, 0.6), (2, 3)):
        began = loop.time()
        times = [loop.time() - began async for chunk in model.astream(HI) if chunk.text]
        assert (times[0], times[-1]) == (pytest.approx(first), pytest.approx(last))


async def test_errors_come_before_the_first_token_or_after_some() -> None:
    model = ScriptedModel(
        [fail(TimeoutError("slow")), fail(TimeoutError("cut"), 2, text="one two three"), OSError("gone")]
    )
    for error, text in ((TimeoutError, ""), (TimeoutError, "one two"), (OSError, "")):
        with pytest.raises(error):
            await streamed(model, HI)
        assert (model.prompts[-1].text, model.prompts[-1].outcome) == (text, "failed")


@pytest.mark.virtual_clock
async def test_a_hanging_model_can_be_cancelled() -> None:
    model = ScriptedModel([hang(after_tokens=2)])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(streamed(model, HI), 100)
    assert (model.prompts[0].text, model.prompts[0].outcome) == ("1 2", "cancelled")


async def test_the_prompt_is_recorded() -> None:
    model = ScriptedModel(["ok"])
    await model.bind_tools([look_up, weather], tool_choice="auto").ainvoke(HI, stop=["\n"])
    (prompt,) = model.prompts
    assert (prompt.messages, prompt.tools, prompt.tool_choice) == (HI, ("look_up", "weather"), "auto")
    assert prompt.options == {"stop": ["\n"]}
    assert prompt.agent is None


def two_agents(model: ScriptedModel) -> Any:
    async def streams(state: MessagesState) -> dict[str, Any]:
        return {"messages": (await streamed(model, state["messages"]))[1]}

    async def invokes(state: MessagesState) -> dict[str, Any]:
        return {
            "messages": [
                HumanMessage("go on"),
                await model.ainvoke([*state["messages"], HumanMessage("go on")]),
            ]
        }

    graph = StateGraph(MessagesState)
    graph.add_node("support", streams)
    graph.add_node("billing", invokes)
    graph.add_edge(START, "support")
    graph.add_edge("support", "billing")
    graph.add_edge("billing", END)
    return graph.compile()


async def test_each_agent_has_its_own_script() -> None:
    model = ScriptedModel({"support": ["support here"], "billing": ["billing here"]})
    result = await two_agents(model).ainvoke({"messages": [HumanMessage("hi")]})
    assert [m.text for m in result["messages"] if m.type in ("ai", "AIMessageChunk")] == [
        "support here",
        "billing here",
    ]
    assert model.agents == ["support", "billing"]


async def test_the_script_of_an_agent_serves_the_graph_inside_its_node() -> None:
    model = ScriptedModel({"outer": ["from the inside"]})
    inner = StateGraph(MessagesState)
    inner.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    inner.add_edge(START, "model")
    outer = StateGraph(MessagesState)
    outer.add_node("outer", inner.compile())
    outer.add_edge(START, "outer")
    result = await outer.compile().ainvoke({"messages": [HumanMessage("hi")]})
    assert result["messages"][-1].text == "from the inside"


async def test_an_agent_without_a_script_is_named() -> None:
    model = ScriptedModel({"support": ["x"]})
    with pytest.raises(ScriptError, match=r"(?s)node 'billing'.*'support'"):
        await two_agents(model).ainvoke({"messages": [HumanMessage("hi")]})


async def test_rules_give_the_same_prompt_the_same_reply() -> None:
    model = ScriptedModel([("refund", [call("weather"), "Done."]), ("", "Pardon?")]).bind_tools([weather])
    asked = [HumanMessage("A REFUND, please")]
    for _ in range(2):
        assert (await model.ainvoke(asked)).tool_calls
    called = AIMessage("", tool_calls=[{"name": "weather", "args": {}, "id": "1"}])
    after = [*asked, called, ToolMessage("rain", tool_call_id="1")]
    assert (await model.ainvoke(after)).content == "Done."
    assert (await model.ainvoke([*after, AIMessage("Done."), HumanMessage("hm")])).content == "Pardon?"
    with pytest.raises(ScriptError, match="has 2 steps, and this is step 3"):
        await model.ainvoke([*after, AIMessage("Done.")])


async def test_a_function_may_be_the_script() -> None:
    model = ScriptedModel(lambda messages: f"You said {messages[-1].text}")
    assert (await model.ainvoke(HI)).content == "You said Hi"


async def test_an_exhausted_script_shows_the_prompt() -> None:
    model = ScriptedModel(["only one"])
    await model.ainvoke(HI)
    with pytest.raises(ScriptError, match=r"(?s)has 1 replies, and one more was asked for.*'Hi'"):
        await model.ainvoke(HI)
    assert len(model.errors) == 1


async def test_a_bad_prompt_is_refused_and_remembered() -> None:
    model = ScriptedModel(["never said"])
    with pytest.raises(PromptError, match="no human message"):
        await model.ainvoke([SystemMessage("x")])
    assert [type(error) for error in model.errors] == [PromptError]
    assert model.prompts[0].outcome == "failed"


async def test_a_tool_that_was_not_given_is_an_error_unless_meant() -> None:
    with pytest.raises(ScriptError, match="not given"):
        await ScriptedModel([call("weather")]).ainvoke(HI)
    assert (await ScriptedModel([call("weather", unknown=True)]).ainvoke(HI)).tool_calls


async def test_tool_choice_none_forbids_calls() -> None:
    with pytest.raises(ScriptError, match="tool_choice='none'"):
        await ScriptedModel([call("weather")]).bind_tools([weather], tool_choice="none").ainvoke(HI)


@pytest.mark.parametrize("script", ["text", [3], [("a", "b"), "c"], [asyncio.CancelledError()]])
def test_a_script_that_makes_no_sense_is_refused_at_once(script: Any) -> None:
    with pytest.raises(TypeError, match=r"script|list of rules"):
        ScriptedModel(script)


def test_text_behind_calls_is_refused() -> None:
    with pytest.raises(TypeError, match="text first"):
        say(call("weather"), "and then?")


def test_a_failure_after_more_tokens_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 tokens"):
        fail(OSError(), 2, text="one")


# ---- summaries


@pytest.mark.virtual_clock
@pytest.mark.parametrize("script", ["list", "mapping", "rules"])
@pytest.mark.parametrize(
    ("summary", "shown"), [("Wants a refund.", "Wants a refund."), (["One.", "Two."], "One."), (None, "(a summary of")]
)
async def test_a_summary_takes_no_reply_of_the_script_and_warns_of_nothing(
    script: str, summary: Any, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    by_agent = {"desk": ["Yes?", "Go on.", call("transfer_to_billing")], "billing": ["Billing here."]}
    scripts: dict[str, Any] = {
        "list": [*by_agent["desk"], *by_agent["billing"]],
        "mapping": by_agent,
        "rules": [("one", "Yes?"), ("two", "Go on."), ("three", [call("transfer_to_billing"), "Billing here."])],
    }
    model = ScriptedModel(scripts[script], summary=summary)
    to_billing = Handoff("billing", history=history.summarize(keep_last_turns=1))
    graph = create_voice_graph(
        [Agent("desk", instructions="D.", handoffs=[to_billing]), Agent("billing", instructions="B.")]
    )
    async with Call(graph, llm=model) as phone:
        for words in ("one", "two", "three"):
            await phone.says(words)
            await phone.silence(1)
        assert phone.active_agent == "billing"
        assert any(shown in m.text for m in model.prompts[-1].messages)
    assert model.errors == []
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
