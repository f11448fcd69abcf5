"""Summaries: what they cover, how they are prepared while the caller talks, and what happens without one."""

import asyncio
import time
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool, history
from graph_voice.errors import BuildError, HistoryError
from graph_voice.testing import ScriptedModel, call, fail, hang, say

SAID: list[AnyMessage] = [
    HumanMessage("My internet is down.", id="u1"),
    AIMessage("", id="a1", tool_calls=[{"name": "check_line", "args": {}, "id": "c1"}]),
    ToolMessage("The line is up.", id="r1", tool_call_id="c1", name="check_line"),
    AIMessage("Your line is up.", id="a2"),
    HumanMessage("Still <no> internet.", id="u2"),
    AIMessage("I see.", id="a3"),
]


def texts(messages: Any) -> list[str]:
    return [m.text for m in messages]


# ---- what an operation makes of a context


async def test_older_turns_become_one_marked_message() -> None:
    model = ScriptedModel(["Internet is down, the line is up."])
    (summary,) = await history.apply(history.summarize(model=model), SAID)
    assert isinstance(summary, SystemMessage)
    assert summary.text == "Prior conversation summary: Internet is down, the line is up."
    assert summary.additional_kwargs["is_summary"] is True
    assert history.is_made(summary)
    (prompt,) = model.prompts
    assert prompt.messages[-1].text == (
        'Conversation to summarize:\n\n<user>My internet is down.</user>\n<result of="check_line">The line is up.'
        "</result>\n<assistant>Your line is up.</assistant>\n<user>Still &lt;no&gt; internet.</user>\n"
        "<assistant>I see.</assistant>"
    )


async def test_the_last_turns_stay_as_they_are() -> None:
    policy = history.summarize(model=ScriptedModel(["S"]), keep_last_turns=1, prompt="Be brief.")
    result = await history.apply(policy, SAID)
    assert result[1:] == SAID[4:]
    assert await history.apply(history.summarize(model=ScriptedModel([]), keep_last_turns=2), SAID) == SAID


async def test_system_messages_are_no_turns() -> None:
    rules = SystemMessage("Never promise a date.", id="s")
    policy = history.summarize(model=ScriptedModel(["S"]))
    assert texts(await history.apply(policy, [rules, *SAID])) == [rules.text, "Prior conversation summary: S"]
    without = history.exclude_instructions() | history.summarize(model=ScriptedModel(["S"]))
    assert texts(await history.apply(without, [rules, *SAID])) == ["Prior conversation summary: S"]


async def test_an_earlier_summary_is_folded_in_and_replaced() -> None:
    model = ScriptedModel(["First.", "Second."])
    policy = history.summarize(model=model)
    earlier = await history.apply(policy, SAID[:4])
    result = await history.apply(policy, [*earlier, *SAID[4:]])
    assert texts(result) == ["Prior conversation summary: Second."]
    assert (
        model.prompts[1].messages[-1].text.startswith("Conversation to summarize:\n\n<summary>First.</summary>\n<user>")
    )


@pytest.mark.parametrize("messages", [[], SAID[1:3], [SystemMessage("x", id="s")]], ids=["none", "tools", "system"])
async def test_with_nothing_to_say_no_model_is_asked(messages: list[AnyMessage]) -> None:
    model = ScriptedModel([])
    result = await history.apply(history.summarize(model=model), messages)
    assert texts(result) == texts(m for m in messages if isinstance(m, SystemMessage))
    assert not model.prompts


async def test_an_earlier_summary_is_kept_when_nothing_was_said_since() -> None:
    earlier = await history.apply(history.summarize(model=ScriptedModel(["First."])), SAID)
    assert await history.apply(history.summarize(model=ScriptedModel([])), earlier) == earlier


async def test_without_any_model_it_says_what_to_write() -> None:
    with pytest.raises(HistoryError, match=r"summarize\(model="):
        await history.apply(history.summarize(), SAID)


async def test_a_model_instance_survives_a_checkpoint_in_its_process_and_is_missed_in_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel(["S"])
    stored = history.summarize(model=model).to_dict()
    assert texts(await history.apply(history.from_dict(stored), SAID)) == ["Prior conversation summary: S"]
    stored["steps"][0]["model"] = "instance:ScriptedModel:of-another-process"
    assert await history.apply(history.from_dict(stored), SAID) == SAID
    assert "Name it by a string" in caplog.text


# ---- no summary in time: the last messages, and a word about it in the trace


class Trace(AsyncCallbackHandler):
    """The outcome of each summary, as a trace shows it."""

    def __init__(self) -> None:
        self.outcomes: list[dict[str, Any]] = []

    async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        if isinstance(outputs, dict) and "source" in outputs:
            self.outcomes.append(outputs)


TALK = ["Hello.", "My internet is down.", "I tried that.", "Still down.", "Please help."]


def specialist_call(
    summaries: ScriptedModel, *, say: str | None = None, **options: Any
) -> tuple[Conversation[Any], ScriptedModel, Trace]:
    """Triage answers until it is asked for a transfer; then the specialist greets."""
    voice = ScriptedModel(
        {
            "triage": [("transfer", [call("transfer_to_specialist")]), ("", ["I see."])],
            "specialist": lambda messages: "Specialist here.",
        }
    )
    policy = history.exclude_instructions() | history.summarize(model=summaries, **options)
    graph = create_voice_graph(
        [
            Agent("triage", instructions="Triage.", handoffs=[Handoff("specialist", history=policy, say=say)]),
            Agent("specialist", instructions="Help.", handoffs=[Handoff("triage", tool=False)]),
        ],
        llm=voice,
    )
    trace = Trace()
    return Conversation(graph, config={"callbacks": [trace]}), voice, trace


def shown(voice: ScriptedModel) -> list[str]:
    """What the specialist's model was shown, without instructions."""
    return [m.text for m in voice.prompts[-1].messages[1:] if m.text]


def waited(began: float) -> float:
    """Virtual seconds since then; the clock itself ticks in microseconds."""
    return round(time.time() - began, 2)


def inline(text: str) -> str:
    return f"<instructions>\nPrior conversation summary: {text}\n</instructions>"


@pytest.mark.virtual_clock
async def test_a_summary_is_prepared_while_the_caller_talks_so_the_handoff_waits_for_nothing() -> None:
    summaries = ScriptedModel(["Internet is down."], first_token=3.0)
    conversation, voice, trace = specialist_call(summaries)
    await conversation.run("My internet is down.")
    await asyncio.sleep(5)
    began = time.time()
    await conversation.run("Please transfer me.")
    assert waited(began) == 0
    assert shown(voice) == [inline("Internet is down."), "Please transfer me.", "Transferring to specialist."]
    assert trace.outcomes == [{"summary": "Internet is down.", "covers": 2, "source": "prepared"}]
    assert len(summaries.prompts) == 1
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_one_that_is_nearly_ready_is_waited_for() -> None:
    conversation, voice, trace = specialist_call(ScriptedModel(["S"], first_token=3.0))
    await conversation.run("Hello.")
    await asyncio.sleep(2.5)
    began = time.time()
    await conversation.run("Please transfer me.")
    assert waited(began) == 0.5
    assert shown(voice)[0] == inline("S")
    assert trace.outcomes[0]["source"] == "awaited"
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_it_is_refreshed_when_it_lacks_more_than_two_turns() -> None:
    summaries = ScriptedModel(["One.", "Four.", "unused"])
    conversation, voice, _ = specialist_call(summaries)
    for expected, text in zip([1, 1, 1, 2], TALK[:4], strict=True):
        await conversation.run(text)
        await asyncio.sleep(1)
        assert len(summaries.prompts) == expected
    await conversation.run("Please transfer me.")
    assert shown(voice) == [
        inline("Four."),
        "Please transfer me.",
        "Transferring to specialist.",
    ]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_the_older_one_is_used_while_its_refresh_is_being_made() -> None:
    conversation, voice, trace = specialist_call(ScriptedModel([say("One."), hang()]))
    for text in TALK[:4]:
        await conversation.run(text)
        await asyncio.sleep(1)
    began = time.time()
    await conversation.run("Please transfer me.")
    assert waited(began) == 0
    assert shown(voice)[:2] == [inline("One."), TALK[1]]
    assert trace.outcomes[0]["source"] == "prepared"
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_without_one_at_the_deadline_the_last_messages_are_carried_and_the_trace_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation, voice, trace = specialist_call(ScriptedModel([hang(), hang()]))
    await conversation.run("Hello.")
    began = time.time()
    await conversation.run("Please transfer me.")
    assert waited(began) == 1.0, "the default deadline"
    assert shown(voice) == ["Hello.", "I see.", "Please transfer me.", "Transferring to specialist."]
    (outcome,) = trace.outcomes
    assert outcome["source"] == "fallback"
    assert outcome["reason"] == "there was no summary within 1 seconds"
    assert outcome["fallback"] == "exclude_instructions() | truncate(max_items=6)"
    assert "no summary within" in caplog.text
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_the_deadline_is_the_operations_own() -> None:
    conversation, _, _ = specialist_call(ScriptedModel([hang(), hang()]), deadline=0.25)
    began = time.time()
    await conversation.run("Please transfer me.")
    assert waited(began) == 0.25
    await conversation.aclose()


@pytest.mark.virtual_clock
@pytest.mark.parametrize("failure", [fail(ValueError("no quota")), say("  ")], ids=["raises", "empty"])
async def test_a_failing_summariser_never_fails_a_handoff(failure: Any) -> None:
    conversation, voice, trace = specialist_call(ScriptedModel([failure, failure, failure]))
    await conversation.run("Hello.")
    await asyncio.sleep(1)
    await conversation.run("Please transfer me.")
    assert conversation.active_agent == "specialist"
    assert shown(voice)[0] == "Hello."
    assert trace.outcomes[0]["source"] == "fallback"
    assert not voice.errors
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_preparation_that_failed_is_tried_again_after_the_next_turn() -> None:
    summaries = ScriptedModel([fail(ValueError("no quota")), "Two."])
    conversation, voice, _ = specialist_call(summaries)
    for text in TALK[:2]:
        await conversation.run(text)
        await asyncio.sleep(1)
    await conversation.run("Please transfer me.")
    assert shown(voice)[:2] == [inline("Two."), "Please transfer me."]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_what_was_not_heard_is_not_summarised() -> None:
    summaries = ScriptedModel(["S"])
    conversation, _, _ = specialist_call(summaries)
    turn = conversation.turn("Hello.")
    turn.commit()
    async for event in turn:
        if hasattr(event, "message_id"):
            turn.heard(event.message_id, "I")
    turn.close()
    await asyncio.sleep(1)
    assert summaries.prompts[0].messages[-1].text.endswith("<user>Hello.</user>\n<assistant>I</assistant>")
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_summary_of_words_that_were_changed_since_is_not_used() -> None:
    """Somebody corrects an old message; the front end reports late what was played."""
    summaries = ScriptedModel(["Internet.", "Phone."])
    conversation, voice, trace = specialist_call(summaries)
    await conversation.run("My internet is down.")
    await asyncio.sleep(1)
    conversation.add(HumanMessage("My phone is down.", id=conversation.messages[0].id))
    await conversation.run("Please transfer me.")
    assert shown(voice)[0] == inline("Phone.")
    assert trace.outcomes[0]["source"] == "made"
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_discarded_turn_prepares_nothing() -> None:
    summaries = ScriptedModel([])
    conversation, _, _ = specialist_call(summaries)
    turn = conversation.turn("Hello.")
    await asyncio.sleep(1)
    turn.discard()
    await asyncio.sleep(1)
    assert not summaries.prompts
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_an_agent_without_such_a_handoff_prepares_nothing_and_a_summary_of_the_other_is_given_up() -> None:
    summaries = ScriptedModel([hang(), hang()])
    conversation, _, _ = specialist_call(summaries)
    await conversation.run("Hello.")
    await conversation.run("Please transfer me.")
    await conversation.run("Well?")
    await asyncio.sleep(1)
    assert [p.outcome for p in summaries.prompts] == ["cancelled"]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_the_end_of_the_call_ends_the_preparation() -> None:
    summaries = ScriptedModel([hang()])
    conversation, _, _ = specialist_call(summaries)
    await conversation.run("Hello.")
    await asyncio.sleep(1)
    await conversation.aclose()
    assert [p.outcome for p in summaries.prompts] == ["cancelled"]


@pytest.mark.virtual_clock
async def test_without_a_conversation_the_handoff_makes_its_summary_and_nobody_hears_it() -> None:
    """In LangGraph Studio, or with `ainvoke`: no turn, so nothing is prepared."""
    summaries = ScriptedModel(["S"], first_token=0.5)
    conversation, voice, _ = specialist_call(summaries)
    heard = [
        chunk.text
        async for chunk, _ in conversation.graph.astream({"messages": ["Please transfer me."]}, stream_mode="messages")
        if isinstance(chunk, AIMessage)
    ]
    assert "".join(heard) == "Specialist here."
    assert shown(voice)[0] == inline("S")


@pytest.mark.virtual_clock
async def test_the_active_agents_model_is_asked_when_none_is_named() -> None:
    asked: list[str] = []

    def answer(messages: list[Any]) -> Any:
        asked.append(messages[0].text.split()[0])
        return "S" if asked[-1] == "Compress" else call("transfer_to_b") if "transfer" in messages[-1].text else "Hi."

    graph = create_voice_graph(
        [
            Agent("a", instructions="Triage.", handoffs=[Handoff("b", history=history.summarize())]),
            Agent("b", instructions="Help.", llm=ScriptedModel(["B here."])),
        ],
        llm=ScriptedModel(answer),
    )
    conversation = Conversation(graph)
    await conversation.run("Hello.")
    await asyncio.sleep(1)
    await conversation.run("Please transfer me.")
    assert asked == ["Triage.", "Compress", "Triage."]
    assert conversation.chat_ctx[0].text == "Prior conversation summary: S"
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_floor_that_is_given_from_outside_carries_a_summary_too() -> None:
    conversation, _, _ = specialist_call(ScriptedModel(["S", "S"]))
    await conversation.run("Hello.")
    await conversation.update_agent("specialist", history.summarize(model=ScriptedModel(["Outside."])))
    assert texts(conversation.chat_ctx) == ["Prior conversation summary: Outside."]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_handoff_that_is_rejected_leaves_the_summary_for_the_next_one() -> None:
    summaries = ScriptedModel(["S"])
    conversation, voice, trace = specialist_call(summaries)
    await conversation.run("Hello.")
    await asyncio.sleep(1)
    turn = conversation.turn("Please transfer me.")
    turn.commit()
    async for event in turn:
        if type(event).__name__ == "ToolCalls":
            turn.allow(event.calls[0].id)
        if type(event).__name__ == "HandedOff":
            turn.reject_handoff(event.call_id, "interrupted")
    turn.close()
    assert conversation.active_agent == "triage"
    await conversation.run("I said: transfer me.")
    assert conversation.active_agent == "specialist"
    assert shown(voice)[0] == inline("S")
    assert {o["source"] for o in trace.outcomes} == {"prepared"}
    assert len(summaries.prompts) == 1
    await conversation.aclose()


# ---- what is a fact


async def test_a_transfers_own_result_is_no_fact_unless_somebody_wrote_it() -> None:
    @function_tool
    async def refund(ctx: RunContext[Any]) -> Handoff:
        """Refund."""
        return ctx.handoff("b", "The refund of order 42 is approved.")

    model = ScriptedModel({"a": [call("transfer_to_b"), call("refund")], "b": ["B here.", call("transfer_to_a")]})
    graph = create_voice_graph(
        [
            Agent("a", instructions="A.", tools=[refund], handoffs=[Handoff("b")]),
            Agent("b", instructions="B.", handoffs=[Handoff("a")]),
        ],
        llm=model,
    )
    conversation = Conversation(graph)
    await conversation.run("My bill is wrong.")
    await conversation.update_agent("a")
    await conversation.run("Give me my money.")
    summaries = ScriptedModel(["S"])
    await history.apply(history.summarize(model=summaries), conversation.messages)
    told = summaries.prompts[0].messages[-1].text
    assert "Transferring" not in told
    assert '<result of="refund">The refund of order 42 is approved.</result>' in told
    await conversation.aclose()


async def test_a_transfers_own_call_and_result_are_two_of_the_items_that_a_handoff_carries() -> None:
    model = ScriptedModel({"a": ["Hi.", call("transfer_to_b")], "b": ["B here."]})
    policy = history.truncate(max_items=3)
    graph = create_voice_graph(
        [Agent("a", instructions="A.", handoffs=[Handoff("b", history=policy)]), Agent("b", instructions="B.")],
        llm=model,
    )
    conversation = Conversation(graph)
    await conversation.run("Hello.")
    await conversation.run("Transfer me.")
    assert texts(conversation.chat_ctx) == ["Transfer me.", "", "Transferring to b.", "B here."]
    await conversation.aclose()


# ---- a policy for the agent's own tools


def tool_call(
    summaries: ScriptedModel, way: Handoff, **overrides: Any
) -> tuple[Conversation[Any], ScriptedModel, Trace]:
    @function_tool
    async def check(ctx: RunContext[Any]) -> Handoff:
        """Check the contract."""
        return ctx.handoff("specialist", **overrides)

    voice = ScriptedModel(
        {"triage": [("contract", [call("check")]), ("", ["I see."])], "specialist": lambda m: "Here."}
    )
    graph = create_voice_graph(
        [
            Agent("triage", instructions="Triage.", tools=[check], handoffs=[way]),
            Agent("specialist", instructions="Help.", handoffs=[Handoff("triage", tool=False)]),
        ],
        llm=voice,
    )
    trace = Trace()
    return Conversation(graph, config={"callbacks": [trace]}), voice, trace


@pytest.mark.virtual_clock
async def test_a_way_without_a_tool_says_how_the_agents_own_tools_take_it_and_its_summary_is_prepared() -> None:
    summaries = ScriptedModel(["Internet is down."], first_token=3.0)
    way = Handoff(
        "specialist", history=history.summarize(model=summaries), say="One moment.", result="Passed on.", tool=False
    )
    conversation, voice, trace = tool_call(summaries, way)
    await conversation.run("My internet is down.")
    await asyncio.sleep(5)
    assert voice.prompts[-1].tools == ("check",), "no transfer tool"
    began = time.time()
    seen = await conversation.run("It is in my contract.")
    assert waited(began) == 0
    assert [e.text for e in seen if isinstance(e, events.Say)] == ["One moment."]
    assert shown(voice) == [inline("Internet is down."), "It is in my contract.", "One moment.", "Passed on."]
    assert [o["source"] for o in trace.outcomes] == ["prepared"]
    assert len(summaries.prompts) == 1
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_policy_that_a_tool_passes_uses_a_summary_that_a_declared_one_had_prepared() -> None:
    summaries = ScriptedModel(["Internet is down."], first_token=3.0)
    declared = Handoff("specialist", history=history.summarize(model=summaries), tool=False)
    passed = history.exclude_instructions() | history.summarize(model=summaries)
    conversation, voice, trace = tool_call(summaries, declared, history=passed)
    await conversation.run("My internet is down.")
    await asyncio.sleep(5)
    began = time.time()
    await conversation.run("It is in my contract.")
    assert waited(began) == 0
    assert shown(voice)[0] == inline("Internet is down.")
    assert [o["source"] for o in trace.outcomes] == ["prepared"]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_summary_behind_a_limit_is_prepared_once_the_limit_is_passed() -> None:
    summaries = ScriptedModel(["Internet is down."], first_token=3.0)
    policy = history.when(max_items=3, then=history.exclude_empty() | history.summarize(model=summaries))
    conversation, _, trace = tool_call(summaries, Handoff("specialist", history=policy, tool=False))
    await conversation.run("My internet is down.")
    await asyncio.sleep(5)
    assert not summaries.prompts
    await conversation.run("Since Monday.")
    await asyncio.sleep(5)
    assert len(summaries.prompts) == 1
    began = time.time()
    await conversation.run("It is in my contract.")
    assert waited(began) == 0
    assert [o["source"] for o in trace.outcomes] == ["prepared"]
    await conversation.aclose()


async def test_a_tool_takes_the_way_that_was_declared_for_tools_and_the_model_its_own() -> None:
    quiet, said = Handoff("b", say="Quiet.", tool=False), Handoff("b", say="By tool.")
    agent = Agent("a", instructions="A.", handoffs=[said, quiet])
    assert agent.ways["b"] is quiet
    assert [t.handoff for t in agent.transfers] == [said]
    assert Agent("a", instructions="A.", handoffs=[said, Handoff("c")]).ways["b"] is said


def test_a_way_without_a_tool_takes_no_name_for_it() -> None:
    with pytest.raises(BuildError, match="has no tool"):
        Handoff("b", name="go", tool=False)
