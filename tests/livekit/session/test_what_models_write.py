"""What models may write by mistake, on both front ends: it is told to the model, and spoils no later prompt."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.graph.generate import depth_of
from graph_voice.messages.tool_names import is_legal_name, legal_name, with_legal_names
from graph_voice.testing import Call, PromptError, ScriptedModel, call, check_prompt, say

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])


def desk(*tools: Any) -> Any:
    return create_voice_graph([Agent("front", instructions="F", tools=list(tools))])


@both
@pytest.mark.parametrize(
    "bad", ["functions.look_up", "transfer_to_fröntdesk", "look up", "", "x" * 80, "look_up()", "…", "look\nup"]
)
async def test_a_malformed_name_of_a_tool_is_told_and_stands_in_no_later_prompt(front_end: str, bad: str) -> None:
    ran: list[str] = []

    @function_tool
    async def look_up(x: str) -> str:
        """Look."""
        ran.append(x)
        return "two kettles"

    def answer(messages: list[Any]) -> Any:
        return call(bad, {"x": "y"}, unknown=True) if "try" in messages[-1].text else "Fine."

    model = ScriptedModel(answer)
    async with Call(desk(look_up), llm=model, front_end=front_end) as phone:
        await phone.says("try it")
        await phone.says("and now?")
    assert ran == []
    told = [m for m in model.prompts[-1].messages if isinstance(m, ToolMessage)]
    assert [is_legal_name(m.name) for m in told] == [True]
    assert "unknown" in told[0].text.lower()
    for prompt in model.prompts:
        check_prompt(prompt.messages)


@given(st.text(max_size=90), st.sets(st.sampled_from(["look_up", "look_up_", "unknown", "a"])))
def test_a_legal_name_is_legal_and_none_that_is_known(name: str, known: set[str]) -> None:
    made = legal_name(name, known)
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", made)
    assert made == name or made not in known


def test_the_names_of_other_nodes_messages_are_made_legal_and_the_kit_says_what_is_wrong() -> None:
    blocks = [{"type": "tool_use", "name": "a.b", "id": "c", "input": {}}, {"type": "text", "text": "Hm."}]
    wrong = AIMessage(blocks, tool_calls=[{"name": "a.b", "args": {}, "id": "c"}])
    with pytest.raises(PromptError, match=r"'a\.b', which no provider accepts"):
        check_prompt([HumanMessage("hi"), wrong, ToolMessage("r", tool_call_id="c"), HumanMessage("so?")])
    right = with_legal_names(wrong)
    assert right.tool_calls[0]["name"] == "a_b"
    assert right.content[0] == blocks[0] | {"name": "a_b"}
    assert with_legal_names(right) is right


@both
@pytest.mark.parametrize("error", [asyncio.CancelledError(), BaseExceptionGroup("g", [asyncio.CancelledError()])])
async def test_a_tool_that_raises_cancelled_error_has_failed(front_end: str, error: BaseException) -> None:
    @function_tool
    async def fetch() -> str:
        """Fetch."""
        raise error

    model = ScriptedModel(lambda ms: f"So: {ms[-1].text}" if isinstance(ms[-1], ToolMessage) else call("fetch"))
    async with Call(desk(fetch), llm=model, front_end=front_end) as phone:
        assert (await phone.says("go")).heard == "So: An internal error occurred."


@both
async def test_arguments_that_are_nested_too_deep_are_refused(front_end: str) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    ran: list[Any] = []

    @function_tool
    async def keep(x: Any) -> str:
        """Keep."""
        ran.append(x)
        return "kept"

    model = ScriptedModel(
        lambda ms: f"So: {ms[-1].text}" if isinstance(ms[-1], ToolMessage) else call("keep", {"x": deep})
    )
    async with Call(desk(keep), llm=model, front_end=front_end) as phone:
        said = await phone.says("go")
    assert said.heard.startswith("So: The arguments are refused: they are nested more than 64 deep.")
    assert ran == []


@given(
    st.recursive(
        st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )
)
def test_the_depth_of_a_value(value: Any) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    wrapped = {"x": value}
    assert depth_of(wrapped, 100) == depth(wrapped)


@both
@pytest.mark.parametrize("asked", [3, 1000])
async def test_a_message_with_a_thousand_tool_calls_is_cut_and_the_model_is_told(front_end: str, asked: int) -> None:
    ran: list[int] = []

    @function_tool
    async def look(number: int) -> str:
        """Look."""
        ran.append(number)
        return f"seen {number}"

    many = say("One moment.", *(call("look", {"number": n}, id=f"c{n}") for n in range(asked)))
    model = ScriptedModel(lambda ms: "Done." if isinstance(ms[-1], ToolMessage) else many)
    graph = create_voice_graph([Agent("front", instructions="F", tools=[look])], max_tool_calls=5)
    async with Call(graph, llm=model, front_end=front_end) as phone:
        assert (await phone.says("go")).heard == "One moment. Done."
    assert sorted(ran) == list(range(min(asked, 5)))
    told = [m.text for m in model.prompts[-1].messages if isinstance(m, ToolMessage)]
    note = "\n[995 more tool calls of this message were not run: make fewer at once]" if asked > 5 else ""
    assert told == [*(f"seen {n}" for n in range(min(asked, 5) - 1)), f"seen {min(asked, 5) - 1}{note}"]


# ---- what a model is given


@pytest.mark.parametrize("own", [True, False])
async def test_a_providers_own_tool_is_passed_on_as_it_is(own: bool) -> None:
    @function_tool
    async def look() -> str:
        """Look."""
        return "seen"

    bound: list[Any] = []

    class Model(ScriptedModel):
        def bind_tools(self, tools: Any, **options: Any) -> Any:
            bound.append(list(tools))
            return super().bind_tools([tool for tool in tools if not isinstance(tool, dict)], **options)

    search = {"type": "web_search", "max_uses": 2}
    agent = Agent("front", instructions="F", tools=[look, search] if own else [search])
    async with Call(create_voice_graph([agent]), llm=Model(["Hello."]), front_end="core") as phone:
        assert (await phone.says("go")).heard == "Hello."
    assert [tool for tool in bound[0] if isinstance(tool, dict)] == [search]
    assert len(bound[0]) == 1 + own
    with pytest.raises(BuildError, match="without a function"):
        Agent("front", instructions="F", tools=[{"type": "function", "function": {"name": "x"}}])


@both
@pytest.mark.parametrize("kind", ["async", "sync", "optional", "with context"])
async def test_a_tool_gets_langchains_config_and_the_model_never_sees_it(front_end: str, kind: str) -> None:
    @function_tool
    async def plain(x: int, config: RunnableConfig) -> str:
        """Look."""
        return str(config["configurable"]["user"])

    @function_tool
    def blocking(x: int, config: RunnableConfig) -> str:
        """Look."""
        return str(config["configurable"]["user"])

    @function_tool
    async def optional(x: int, config: RunnableConfig | None = None) -> str:
        """Look."""
        return str(config and config["configurable"]["user"])

    @function_tool
    async def with_context(ctx: RunContext[Any], x: int, config: RunnableConfig) -> str:
        """Look."""
        return f"{config['configurable']['user']}"

    tool = {"async": plain, "sync": blocking, "optional": optional, "with context": with_context}[kind]
    agent = Agent("front", instructions="F", tools=[tool])
    assert set(agent.own_tools[0].tool_call_schema.model_json_schema()["properties"]) == {"x"}
    name = agent.own_tools[0].name
    model = ScriptedModel(lambda ms: f"So: {ms[-1].text}" if isinstance(ms[-1], ToolMessage) else call(name, {"x": 1}))
    config = {"configurable": {"user": "ada"}}
    async with Call(create_voice_graph([agent]), llm=model, config=config, front_end=front_end) as phone:
        assert (await phone.says("go")).heard == "So: ada"
