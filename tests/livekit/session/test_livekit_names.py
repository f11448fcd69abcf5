"""LiveKit's names in a graph: honored, or refused where they are written, with the line to write instead."""

from collections.abc import Callable
from typing import Any

import livekit.agents as lk
import pytest
from langchain_core.messages import ToolMessage
from livekit.agents.llm import function_tool as raw_tool

from graph_voice import Agent, Handoff, RunContext, Voice, create_voice_graph, function_tool, history
from graph_voice.errors import BuildError
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])
OURS = "from graph_voice import function_tool"
SCHEMA = {"name": "raw", "description": "d", "parameters": {"type": "object", "properties": {}}}


@lk.function_tool
async def look(city: str) -> str:
    """Look the weather up."""
    return "sunny"


@raw_tool(raw_schema=SCHEMA)
async def raw(raw_arguments: dict[str, Any]) -> str:
    return "sunny"


async def may_take_livekits_context(city: str, ctx: lk.RunContext[Any] | None = None) -> str:
    """Look."""
    return "x"


async def takes_livekits_context(ctx: lk.RunContext[Any]) -> str:
    """Look."""
    return "x"


class Hours(Agent):
    instructions = "x"

    @lk.function_tool
    async def open_hours(self) -> str:
        """Tell the opening hours."""
        return "nine to five"


class Enters(Agent):
    instructions = "x"

    async def on_enter(self) -> None:  # type: ignore[override]
        raise AssertionError


class Leaves(Agent):
    instructions = "x"

    async def on_exit(self) -> None:  # type: ignore[override]
        raise AssertionError


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "LiveKit's function_tool": (
        lambda: Agent("a", instructions="x", tools=[look]),
        "from graph_voice import function_tool",
    ),
    "with a raw schema": (lambda: Agent("a", instructions="x", tools=[raw]), "from graph_voice import function_tool"),
    "as a method": (Hours, "open_hours.*from graph_voice import function_tool"),
    "LiveKit's RunContext": (
        lambda: Agent("a", instructions="x", tools=[takes_livekits_context]),
        "from graph_voice import RunContext",
    ),
    "in a marked tool": (
        lambda: Agent("a", instructions="x", tools=[function_tool(takes_livekits_context)]),
        "ctx.* LiveKit's RunContext",
    ),
    "or None": (
        lambda: Agent("a", instructions="x", tools=[function_tool(may_take_livekits_context)]),
        "ctx.* LiveKit's RunContext",
    ),
    "on_enter(self)": (Enters, r"async def on_enter\(self, ctx: RunContext\)"),
    "on_exit(self)": (Leaves, r"async def on_exit\(self, ctx: RunContext\)"),
    "history without a call": (lambda: Handoff("b", history=history.full), r"history\.full\(\)"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_refused_where_it_is_written(mistake: str) -> None:
    build, words = MISTAKES[mistake]
    with pytest.raises(BuildError, match=words):
        build()


def test_what_can_be_honored_is() -> None:
    other = Agent("other", instructions="o")
    agent = Agent("a", instructions="x", voice="cartesia/sonic-3", handoffs=[other])  # type: ignore[arg-type]
    assert agent.voice == Voice(tts="cartesia/sonic-3")
    assert agent.handoffs == [Handoff("other")]
    assert [tool.name for tool in agent.transfers] == ["transfer_to_other"]
    assert Handoff(other).to == "other"  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("ways", [["other"], [Agent("other", instructions="o")], [Handoff("other")], [Agent]])
async def test_a_name_in_handoffs_gives_the_model_a_transfer_tool(front_end: str, ways: list[Any]) -> None:
    other = Agent("other", instructions="o", on_enter="Greet.")
    ways = [other] if ways == [Agent] else ways
    model = ScriptedModel({"main": [call("transfer_to_other")], "other": ["Other here."]})
    graph = create_voice_graph([Agent("main", instructions="x", handoffs=ways), other])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        assert (await phone.says("go")).heard == "Other here."
        assert phone.active_agent == "other"
        assert model.prompts[0].tools == ("transfer_to_other",)


@both
async def test_a_bare_edge_gives_the_model_no_tool(front_end: str) -> None:
    main = Agent("main", instructions="x", handoffs=[Handoff("other", tool=False)])
    model = ScriptedModel(["Hello."])
    graph = create_voice_graph([main, Agent("other", instructions="o")])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("go")
        assert model.prompts[0].tools == ()


@both
@pytest.mark.filterwarnings("ignore:agent .other. can't be reached")
@pytest.mark.parametrize("words", [None, "I am putting you through."])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_tool_that_returns_an_agent_hands_off(front_end: str, words: str | None, declared: bool) -> None:
    other = Agent("other", instructions="o")

    @function_tool
    async def transfer() -> Any:
        """Transfer."""
        return other if words is None else (other, words)

    def answer(messages: list[Any]) -> Any:
        return call("transfer") if messages[-1].text == "go" else "Hello."

    main = Agent(
        "main", instructions="x", tools=[transfer], handoffs=[Handoff("other", tool=False)] if declared else []
    )
    async with Call(create_voice_graph([main, other]), llm=ScriptedModel(answer), front_end=front_end) as phone:
        await phone.says("go")
        assert phone.active_agent == ("other" if declared else "main")
        (told,) = [m.text for m in phone.messages if isinstance(m, ToolMessage)]
        assert told == (words or "Transferring to other.") if declared else "other" in told


@both
async def test_livekits_tool_error_and_stop_response_mean_the_same(front_end: str) -> None:
    @function_tool
    async def refuse() -> str:
        """Refuse."""
        raise lk.ToolError("we are closed on Mondays")

    @function_tool
    async def stop() -> str:
        """Stop."""
        raise lk.StopResponse

    def answer(messages: list[Any]) -> Any:
        last = messages[-1]
        return (
            f"So: {last.text}" if isinstance(last, ToolMessage) else call("stop" if "stop" in last.text else "refuse")
        )

    graph = create_voice_graph([Agent("main", instructions="x", tools=[refuse, stop])])
    model = ScriptedModel(answer)
    async with Call(graph, llm=model, front_end=front_end) as phone:
        assert (await phone.says("go")).heard == "So: we are closed on Mondays"
        await phone.says("stop it")
        assert len(model.prompts) == 3


@both
async def test_a_ctx_without_an_annotation_is_the_context(front_end: str) -> None:
    @function_tool
    async def note(ctx, word: str) -> str:  # type: ignore[no-untyped-def]
        """Note."""
        assert isinstance(ctx, RunContext)
        return f"{ctx.agent} notes {word}"

    agent = Agent("main", instructions="x", tools=[note])
    assert set(agent.own_tools[0].tool_call_schema.model_json_schema()["properties"]) == {"word"}
    model = ScriptedModel(
        lambda ms: f"So: {ms[-1].text}" if isinstance(ms[-1], ToolMessage) else call("note", {"word": "it"})
    )
    async with Call(create_voice_graph([agent]), llm=model, front_end=front_end) as phone:
        assert (await phone.says("go")).heard == "So: main notes it"
