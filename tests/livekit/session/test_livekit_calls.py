"""LiveKit's own calls on an agent of a graph, and LiveKit's own tools: honored, or refused with the graph's way."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import livekit.agents as lk
import pytest
from graph_agent_support import a_call, a_text_call, outputs_in_graph, spoken, told_by_graph, voice
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from livekit.agents import AgentSession, llm
from livekit.agents.llm import ToolFlag, Toolset

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError, TurnError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = pytest.mark.virtual_clock


@function_tool
async def look() -> str:
    """Look."""
    return "found"


@lk.function_tool
async def opening_hours(day: str) -> str:
    """Tell the opening hours.

    Args:
        day: of the week.
    """
    return f"{day}: nine to five"


def office(model: ScriptedModel, *tools: Any, **options: Any) -> GraphAgent:
    main = Agent("main", instructions="Old.", tools=tools, handoffs=["other"], voice=voice("main"), **options)
    other = Agent("other", instructions="Other.", voice=voice("other"), handoffs=[Handoff("main", tool=False)])
    return GraphAgent(create_voice_graph([main, other], llm=model))


def asks(name: str, **args: Any) -> ScriptedModel:
    """A model that calls this tool once for each of the caller's turns, and then says the result."""
    return ScriptedModel(lambda ms: f"So: {ms[-1].text}" if ms[-1].type == "tool" else call(name, args))


# ---- refused


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "update_instructions": (lambda a: a.update_instructions("New."), "instructions=lambda userdata"),
    "update_options(llm=)": (lambda a: a.update_options(llm="openai/gpt-4.1"), r"create_voice_graph\(\.\.\., llm="),
    "update_tools with a graph's tool": (lambda a: a.update_tools([look]), r"Declare it in the graph: Agent\(\.\.\."),
    "update_tools with a provider's tool": (
        lambda a: a.update_tools([llm.ProviderTool(id="web_search")]),
        r'tools=\[\{"type": "web_search"\}\]',
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
async def test_what_would_have_no_effect_is_refused(mistake: str) -> None:
    do, words = REFUSED[mistake]
    async with a_text_call(office(ScriptedModel(["Hello."]), look)) as session:
        with pytest.raises((TurnError, BuildError), match=words):
            await asyncio.gather(do(session.current_agent))
        await session.run(user_input="hi")


@pytest.mark.parametrize(
    ("tool", "words"),
    [(llm.ProviderTool(id="web_search"), "web_search"), (look, "look.*Declare it in the graph")],
)
async def test_tools_that_livekit_can_not_run_for_a_graph_are_refused_at_the_start(tool: Any, words: str) -> None:
    session = AgentSession[Any](vad=None, tools=[tool])
    with pytest.raises(BuildError, match=words):
        await session.start(office(ScriptedModel([])))
    await session.aclose()


@pytest.mark.parametrize("what", ["host.update", "session", "with_filler", "function_call"])
async def test_livekits_context_in_a_tool_says_what_to_write(what: str, caplog: pytest.LogCaptureFixture) -> None:
    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        if what == "host.update":
            await ctx.host.update("still searching")
        else:
            getattr(ctx, what)
        raise AssertionError

    model = ScriptedModel([call("search"), "Sorry."])
    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        async with a_text_call(office(model, search)) as session:
            await session.run(user_input="go")
    assert (
        "ctx.update(...)" in caplog.text
        or "ctx.say" in caplog.text
        or "filler=" in caplog.text
        or "tool_call_id" in caplog.text
    )
    assert len(model.prompts) == 2


async def test_the_context_of_an_agent_that_is_not_active_yet_is_the_handoffs() -> None:
    ga = office(ScriptedModel(["Hello."]))
    async with a_text_call(ga) as session:
        with pytest.raises(TurnError, match=r'agent\("other", history=\.\.\.\)'):
            await ga.agent("other").update_chat_ctx(llm.ChatContext.empty())
        await session.run(user_input="hi")


GRAPHS_OF_THEIR_OWN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "update_instructions": (lambda a: a.update_instructions("New."), "system_prompt="),
    "update_tools": (lambda a: a.update_tools([opening_hours]), r"create_agent\(model, tools=\[...\]"),
    "update_chat_ctx": (lambda a: a.update_chat_ctx(llm.ChatContext.empty()), "VoiceState"),
}


@pytest.mark.parametrize("mistake", GRAPHS_OF_THEIR_OWN)
async def test_a_graph_of_its_own_refuses_what_it_would_not_know_of(mistake: str) -> None:
    do, words = GRAPHS_OF_THEIR_OWN[mistake]
    graph = create_agent(ScriptedModel(["Hello."]), tools=[], name="desk")
    async with a_text_call(GraphAgent(graph, speak=["model"])) as session:
        with pytest.raises((TurnError, BuildError), match=words):
            await asyncio.gather(do(session.current_agent))
        await session.run(user_input="hi")


async def test_tools_of_a_session_that_no_agent_or_only_some_can_be_given(caplog: pytest.LogCaptureFixture) -> None:
    alone = create_agent(ScriptedModel(["Hello."]), tools=[], name="desk")
    session = AgentSession[Any](vad=None, tools=[opening_hours])
    with pytest.raises(BuildError, match=r"opening_hours can't be given to model, a graph of its own.*create_agent"):
        await session.start(GraphAgent(alone, speak=["model"]))
    await session.aclose()
    main = Agent("main", instructions="x", handoffs=["desk"])
    ga = GraphAgent(create_voice_graph([main, alone], llm=ScriptedModel([call("transfer_to_desk")])))
    async with a_text_call(ga, tools=[opening_hours]) as session:
        await session.run(user_input="hi")
        assert ga.conversation.active_agent == "desk"
    assert caplog.text.count("opening_hours can't be given to desk, a graph of its own") == 1


# ---- update_chat_ctx


@pytest.mark.parametrize("change", ["add", "remove", "clear", "edit"])
async def test_update_chat_ctx_is_what_the_model_is_shown(change: str) -> None:
    model = ScriptedModel(lambda ms: call("look") if ms[-1].text == "one" else "hello")
    ga = office(model, look)
    async with a_text_call(ga, model) as session:
        await session.run(user_input="one")
        context = session.current_agent.chat_ctx.copy()
        if change == "add":
            context.add_message(role="user", content="I am Ann.")
        elif change == "remove":
            context.items[:] = [item for item in context.items if item.type == "message"]
        elif change == "clear":
            context = llm.ChatContext.empty()
        else:
            (said,) = [item for item in context.items if item.type == "message" and item.role == "user"]
            context.items[context.items.index(said)] = said.model_copy(update={"content": ["1"]})
        await session.current_agent.update_chat_ctx(context)
        before = told_by_graph(ga)
        await session.run(user_input="two")
        shown = [(m.type, m.text) for m in model.prompts[-1].messages[1:]]
        ran = [("ai", ""), ("tool", "found")]
        expected = {
            "add": [("human", "one"), *ran, ("ai", "hello"), ("human", "I am Ann.")],
            "remove": [("human", "one"), ("ai", "hello")],
            "clear": [],
            "edit": [("human", "1"), *ran, ("ai", "hello")],
        }
        assert shown == [*expected[change], ("human", "two")]
        assert told_by_graph(ga)[: len(before)] == before  # `messages` keeps what was said


# ---- LiveKit's tools


async def test_update_tools_changes_what_the_model_may_call() -> None:
    model = ScriptedModel(lambda ms: "hello")
    async with a_text_call(office(model, look), model) as session:
        for more, offered in [
            ([*session.current_agent.tools, opening_hours], ("look", "transfer_to_other", "opening_hours")),
            (session.current_agent.tools[1:], ("transfer_to_other",)),
            ([opening_hours], ("opening_hours",)),
            ([], ()),
        ]:
            await session.current_agent.update_tools(more)
            await session.run(user_input="go")
            assert model.prompts[-1].tools == offered


async def test_the_tools_of_a_session_are_tools_of_every_agent() -> None:
    def answer(messages: list[Any]) -> Any:
        last = messages[-1]
        if last.type == "tool" and last.name == "opening_hours":
            return f"So: {last.text}"
        return {"over": call("transfer_to_other")}.get(last.text) or call("opening_hours", {"day": "Monday"})

    model = ScriptedModel(answer)
    ga = office(model, look)
    async with a_text_call(ga, model, tools=[opening_hours]) as session:
        for said in ("when", "over", "when"):
            await session.run(user_input=said)
            assert told_by_graph(ga)[-1] == ("assistant", "So: Monday: nine to five")
    assert model.prompts[0].tools == ("look", "transfer_to_other", "opening_hours")
    assert model.prompts[-1].tools == ("opening_hours",)  # of an agent that has no tools of its own
    assert list(outputs_in_graph(ga).values()).count("Monday: nine to five") == 3


class Desk(Toolset):
    def __init__(self) -> None:
        super().__init__(id="desk", tools=[opening_hours])

    @lk.function_tool(flags=ToolFlag.CANCELLABLE)
    async def wait(self) -> str:
        """Wait."""
        return "waited"


async def test_a_toolset_is_offered_with_what_livekit_adds_to_it() -> None:
    model = asks("wait")
    ga = office(model)
    async with a_text_call(ga, model, tools=[Desk()]) as session:
        await session.run(user_input="go")
    assert {"opening_hours", "wait"} < {name for name in model.prompts[0].tools if "lk_agents" not in name}
    assert any("lk_agents" in name for name in model.prompts[0].tools)
    assert told_by_graph(ga)[-1] == ("assistant", "So: waited")


@pytest.mark.parametrize("beside", ["graph", "transfer", "livekit"])
async def test_a_batch_of_tools_of_both(beside: str) -> None:
    other = {
        "graph": call("look"),
        "transfer": call("transfer_to_other"),
        "livekit": call("opening_hours", {"day": "Friday"}),
    }[beside]
    batch = say(call("opening_hours", {"day": "Monday"}), other)
    model = ScriptedModel(lambda ms: batch if ms[-1].text == "go" else "Well.")
    ga = office(model, look)
    async with a_call(ga, model, tools=[opening_hours]) as rig:
        await rig.user_says("go")
        await rig.until_idle()
        assert spoken(rig)[-1][1] == "Well."
    first, second = outputs_in_graph(ga).values()
    assert first == "Monday: nine to five"
    assert (
        second
        == {
            "graph": "found",
            "transfer": "Transferring to other.",
            "livekit": "Friday: nine to five",
        }[beside]
    )


@pytest.mark.parametrize(
    ("ends", "told", "replies"),
    [
        (lk.ToolError("closed on Mondays"), "closed on Mondays", True),
        (KeyError("secret"), "An internal error occurred", True),
        (lk.StopResponse(), "", False),
        (None, "", False),
    ],
    ids=["ToolError", "error", "StopResponse", "None"],
)
@pytest.mark.parametrize("own", [[], [look]], ids=["alone", "with tools"])
async def test_how_a_tool_of_livekits_may_end(ends: Any, told: str, replies: bool, own: list[Any]) -> None:
    @lk.function_tool
    async def work() -> None:
        """Work."""
        if ends is not None:
            raise ends

    model = asks("work")
    ga = office(model, *own)
    async with a_text_call(ga, tools=[work], accident="executing tool") as session:
        await session.run(user_input="go")
        assert [m.text for m in ga.conversation.messages if isinstance(m, ToolMessage)] == [told]
        assert len(model.prompts) == 1 + replies
        await session.run(user_input="go on")


@pytest.mark.parametrize("own", [[], [look]], ids=["alone", "with tools"])
@pytest.mark.parametrize("flags", [ToolFlag.NONE, ToolFlag.CANCELLABLE])
async def test_a_tool_of_livekits_behind_a_barge_in_is_remembered_with_its_result(
    own: list[Any], flags: ToolFlag
) -> None:
    ran: list[str] = []

    @lk.function_tool(flags=flags)
    async def pay() -> str:
        """Pay."""
        await asyncio.sleep(1)
        ran.append("paid")
        return "paid"

    def answer(messages: list[Any]) -> Any:
        return say("One moment please, I am paying it for you now.", call("pay")) if len(messages) == 2 else "Yes?"

    model = ScriptedModel(answer)
    ga = office(model, *own)
    async with a_call(ga, model, tools=[pay]) as rig:
        await rig.user_says("Pay it.")
        await asyncio.sleep(0.7)
        await rig.user_says("Hello?", seconds=2.5)
        await rig.until_idle()
    (told,) = outputs_in_graph(ga).values()
    assert ran == ["paid"]
    assert "paid" in told


@pytest.mark.parametrize("own", [[], [look]], ids=["alone", "with tools"])
@pytest.mark.parametrize(("flags", "told"), [(ToolFlag.NONE, "done"), (ToolFlag.CANCELLABLE, "")])
async def test_a_session_that_closes_while_its_tool_runs_leaves_nothing_open(
    flags: ToolFlag, told: str, own: list[Any]
) -> None:
    @lk.function_tool(flags=flags)
    async def work() -> str:
        """Work."""
        await asyncio.sleep(20)
        return "done"

    ga = office(asks("work"), *own)
    async with voice_rig(ga, tools=[work]) as rig:
        await rig.user_says("go")
        await asyncio.sleep(5)
        await rig.session.aclose()
    assert ga.conversation.closed
    assert all(told in output for output in outputs_in_graph(ga).values())
    assert len(outputs_in_graph(ga)) == 1
