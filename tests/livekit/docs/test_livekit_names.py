"""Each row of the tables of LiveKit's names and calls in docs/livekit.md: honored, or refused with the words there."""

import asyncio
import inspect
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import livekit.agents as lk
import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool as langchain_tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import AgentSession, llm
from livekit.agents.llm import function_tool as their_tool
from livekit.agents.voice.events import CloseReason
from pydantic import Field

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    Task,
    Voice,
    create_voice_graph,
    function_tool,
    history,
)
from graph_voice.errors import GraphVoiceError
from graph_voice.testing import ScriptedModel, call, fail
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = [pytest.mark.virtual_clock, pytest.mark.filterwarnings("ignore:agent .* can't be reached")]
PAGE = (Path(__file__).parents[3] / "docs" / "livekit.md").read_text(encoding="utf-8")
TABLES = PAGE.partition("## LiveKit's names in a graph")[2]
TOLD = dict(re.findall(r"^\| (.+?) \| (.+) \|$", TABLES, re.MULTILINE))
TOLD = {row: told for row, told in TOLD.items() if row != "you write"}
SCHEMA = {"name": "raw", "description": "d", "parameters": {"type": "object", "properties": {}}}
OTHER = Agent("other", instructions="o")


@lk.function_tool
async def theirs() -> str:
    """Tell the hours."""
    return "nine to five"


@their_tool(raw_schema=SCHEMA)
async def raw(raw_arguments: dict[str, Any]) -> str:
    return "x"


@function_tool
async def ours() -> str:
    """Look."""
    return "found"


async def takes_theirs(ctx: lk.RunContext[Any]) -> str:
    """Look."""
    return "x"


class Human(lk.Agent):
    def __init__(self) -> None:
        super().__init__(instructions="x")


def main(*tools: Any, **options: Any) -> Agent:
    return Agent("main", instructions="x", tools=tools, **options)


def hook(name: str) -> Any:
    async def enters(self: Any) -> None: ...

    return type("Desk", (Agent,), {"instructions": "x", name: enters})


async def talk(agent: Agent, script: Any, *said: str, **session: Any) -> tuple[GraphAgent, ScriptedModel]:
    """A call in LiveKit, in text."""
    model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
    ga = GraphAgent(create_voice_graph([agent, OTHER], llm=model))
    async with AgentSession[Any](vad=None, **session) as opened:
        await opened.start(ga)
        for words in said or ("go",):
            await opened.run(user_input=words)
    return ga, model


def once(name: str, **args: Any) -> ScriptedModel:
    return ScriptedModel(lambda ms: f"So: {ms[-1].text}" if ms[-1].type == "tool" else call(name, args))


async def told(*tools: Any, name: str) -> str:
    """What the model is told of a tool call."""
    ga, _ = await talk(main(*tools), once(name))
    return next(m.text for m in ga.conversation.messages if isinstance(m, ToolMessage))


async def with_session(act: Callable[[AgentSession[Any], GraphAgent], Any]) -> None:
    ga = GraphAgent(create_voice_graph([main(), OTHER], llm=ScriptedModel([])))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        made = act(session, ga)
        if inspect.isawaitable(made):
            await made


async def start(*tools: Any, graph: GraphAgent | None = None) -> None:
    ga = graph or GraphAgent(create_voice_graph([main(), OTHER], llm=ScriptedModel([])))
    async with AgentSession[Any](vad=None, tools=list(tools)) as session:
        await session.start(ga)


def using(do: Callable[[RunContext[Any]], Any]) -> Any:
    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        made = do(ctx)
        return str(await made if inspect.isawaitable(made) else made)

    return search


def returning(what: Any) -> Any:
    @function_tool
    async def transfer() -> Any:
        """Transfer."""
        return what()

    return transfer


class Ask(lk.AgentTask[str]):
    def __init__(self) -> None:
        super().__init__(instructions="x")


async def asked_in_tools() -> str:
    async def later() -> str:
        return await Ask()

    def awaits(ctx: RunContext[Any]) -> Any:
        return later()

    in_tool = await told(using(awaits), name="search")
    returned = await told(returning(Ask), name="transfer")
    in_code = await told(using(lambda ctx: ctx.run_task(Ask())), name="search")
    words = 'await ctx.run_task("name")'
    assert all(words in one for one in (in_tool, returned, in_code)), (in_tool, returned, in_code)
    return in_tool


async def asked_in_on_enter() -> None:
    class Desk(Agent):
        name, instructions = "desk", "x"

        async def on_enter(self, ctx: RunContext[Any]) -> None:
            await Ask()

    ga, _ = await talk(Desk(), ["Hello."])
    assert ga.conversation.call.apology in [m.text for m in ga.conversation.messages]


def built_with(*found: Any) -> str:
    words = []
    for ask in found:
        for build in (
            lambda ask=ask: main(ask),
            lambda ask=ask: main(tasks=[ask]),
            lambda ask=ask: function_tool(needs={"a": ask})(returning),
            lambda ask=ask: function_tool(tasks=[ask])(returning),
        ):
            with pytest.raises(GraphVoiceError, match="AgentTask") as refused:
                build()
            words.append(str(refused.value))
    assert len({w.partition("Ask is")[2] for w in words}) == 1
    return words[0]


class Waiter(Agent):
    instructions = "x"

    @lk.function_tool
    async def hours(self) -> str:
        """Tell the hours."""
        return "x"


@function_tool
async def transfer_to_billing() -> str:
    """Transfer."""
    return "x"


def words_of(*builds: Callable[[], Any]) -> str:
    """The words with which each of these is refused."""
    refused = []
    for build in builds:
        with pytest.raises(GraphVoiceError) as found:
            build()
        refused.append(str(found.value))
    return "\n".join(refused)


async def failed(*does: Callable[[Agent], Any]) -> str:
    """What a method of an agent's class is told that does this with itself."""
    for do in does:

        class Desk(Agent):
            instructions = "x"

            @function_tool
            async def look(self) -> str:
                """Look."""
                return str(do(self))  # noqa: B023

        ga, _ = await talk(Desk(), once("look"))
        (said,) = [m.text for m in ga.conversation.messages if isinstance(m, ToolMessage)]
        assert said == "An internal error occurred."
    return ""


class City(Task[str]):
    result, instructions = str, "Ask for the city."


@function_tool
async def with_city(ctx: RunContext[Any]) -> str:
    """Ask."""
    return str(await city)  # type: ignore[misc]


city = City()


async def misused_task() -> str:
    graph = create_voice_graph([main(with_city, tasks=[city]), city], llm=once("with_city"))
    await Conversation(graph).run("go")
    return words_of(lambda: main(City))


def makes(**members: Any) -> Callable[[], Any]:
    return lambda: type("Desk", (Agent,), {"instructions": "x", **members})()


async def takes_a_session(ctx: RunContext[Any], session: AgentSession[Any]) -> str:
    """Take."""
    return "x"


def livekits(name: str) -> Any:
    async def hook(self: Any, *args: Any) -> None: ...

    return makes(**{name: hook})


graph_of = create_voice_graph
COULD_BE: Any = "x"
THEIR_MESSAGES: Any = [llm.ChatMessage(role="user", content=["Hello."])]


class MCPServer:
    """As LiveKit's, which can't be imported where langchain-mcp-adapters can: each needs its own version of `mcp`."""

    __module__ = "livekit.agents.llm.mcp"

    def __init__(self, **given: Any) -> None:
        self.__dict__ |= given


def servers() -> str:
    words = []
    for server in (
        MCPServer(command="python", args=["x"], env={"KEY": "hidden"}),
        MCPServer(url="http://localhost/mcp?key=hidden", headers={"Authorization": "hidden"}),
    ):
        for build in (lambda s=server: main(s), lambda s=server: main(mcp_servers=[s])):
            with pytest.raises(GraphVoiceError) as refused:
                build()
            words.append(str(refused.value).replace(', "headers": {...}', ""))
    assert "hidden" not in str(words)
    return str(words).replace("\\'", "'")


REFUSED: dict[str, Callable[[], Any]] = {
    "LiveKit's `MCPServerStdio`, `MCPServerHTTP`, `MCPToolset` in `tools=[...]` or `mcp_servers=[...]` of a graph's "
    "agent": lambda: servers(),
    "LiveKit's `Toolset` in `tools=[...]`": lambda: main(llm.Toolset(id="desk", tools=[])),
    "LiveKit's `@function_tool` in `tools=[...]` or as a method": lambda: (main(theirs), Waiter()),
    "the same with `raw_schema`": lambda: main(raw),
    "LiveKit's `RunContext` as an annotation": lambda: main(takes_theirs),
    "the same without the declaration": lambda: told(returning(lambda: OTHER), name="transfer"),
    "a tool that returns a LiveKit agent": lambda: told(returning(Human), name="transfer"),
    "a tool that awaits, or returns, LiveKit's `AgentTask`": lambda: asked_in_tools(),
    "an `on_enter` that awaits one": lambda: asked_in_on_enter(),
    "an `AgentTask` in `tools=[...]`, `tasks=[...]`, `needs={...}`": lambda: built_with(Ask, Ask.__new__(Ask)),
    "`async def on_enter(self)`": lambda: hook("on_enter")(),
    "`async def on_exit(self)`": lambda: hook("on_exit")(),
    "LiveKit's arguments of an agent: `Agent(..., tts=...)`, `stt=`, `turn_detection=`, `tts = ...` in its class": (
        lambda: words_of(
            lambda: main(tts=COULD_BE),
            lambda: main(stt=COULD_BE),
            lambda: main(turn_detection=COULD_BE),
            lambda: City(tts=COULD_BE),
            makes(tts="cartesia/sonic-3"),
        )
    ),
    '`Voice("cartesia/sonic-3")`': lambda: words_of(lambda: Voice(COULD_BE)),
    "LiveKit's messages in `messages=[...]` of `Conversation`, `GraphAgent`": lambda: words_of(
        lambda: Conversation(graph_of([main()]), messages=THEIR_MESSAGES),
        lambda: GraphAgent(graph_of([main()]), messages=THEIR_MESSAGES),
    ),
    "`chat_ctx=`, `id=`": lambda: words_of(lambda: main(chat_ctx=COULD_BE), lambda: main(id=COULD_BE)),
    "the same at `create_voice_graph(...)`, `GraphAgent(...)`, and `llm=`, `tools=` there": lambda: words_of(
        lambda: graph_of([OTHER], tts=COULD_BE),
        lambda: GraphAgent(graph_of([OTHER]), llm=COULD_BE),
        lambda: GraphAgent(graph_of([OTHER]), tools=COULD_BE),
        lambda: GraphAgent(graph_of([OTHER]), tts=COULD_BE),
    ),
    "`@function_tool(raw_schema=...)`, `flags=`": lambda: words_of(
        lambda: function_tool(raw_schema=SCHEMA),  # type: ignore[call-overload]
        lambda: function_tool(flags=llm.ToolFlag.IGNORE_ON_ENTER),  # type: ignore[call-overload]
    ),
    "a parameter that a model can't fill in (`session: AgentSession`)": lambda: words_of(
        lambda: main(takes_a_session),
        lambda: main(function_tool(takes_a_session)),
        lambda: graph_of([OTHER], tools=[takes_a_session]),
        lambda: main(langchain_tool(takes_a_session)),
    ),
    "LiveKit's hooks in an agent's class (`tts_node`, `on_user_turn_completed`, ...)": lambda: words_of(
        *map(livekits, ["tts_node", "stt_node", "transcription_node", "on_user_turn_completed"])
    ),
    "`llm_node`": lambda: livekits("llm_node")(),
    "`self.session`, `self.update_instructions(...)`, `self.chat_ctx` in a tool": lambda: failed(
        lambda self: self.session,  # type: ignore[attr-defined]
        lambda self: self.update_instructions("x"),  # type: ignore[attr-defined]
        lambda self: self.chat_ctx,  # type: ignore[attr-defined]
    ),
    "a task's class for the task, or `await` of a task": lambda: misused_task(),
    "a transfer tool, and one of yours with the same name": lambda: main(transfer_to_billing, handoffs=["billing"]),
    "`history=history.full`": lambda: Handoff("b", history=history.full),  # type: ignore[arg-type]
    "the same of an agent that is not active yet": lambda: with_session(
        lambda session, ga: ga.agent("other").update_chat_ctx(llm.ChatContext.empty())
    ),
    "`agent.update_instructions(...)`": lambda: with_session(
        lambda session, ga: session.current_agent.update_instructions("New.")
    ),
    "`agent.update_options(llm=...)`": lambda: with_session(
        lambda session, ga: session.current_agent.update_options(llm="openai/gpt-4.1")
    ),
    "`AgentSession(tools=[...])` with a graph's tool": lambda: start(ours),
    "the session's tools, for a graph of its own as the only agent": lambda: start(
        theirs, graph=GraphAgent(create_agent(ScriptedModel([]), tools=[], name="desk"), speak=["model"])
    ),
    "a provider's tool of LiveKit's": lambda: start(llm.ProviderTool(id="web_search")),
    "`ctx.host.update(...)` in a graph's tool": lambda: told(using(lambda ctx: ctx.host.update("x")), name="search"),
    "`ctx.session` in a graph's tool": lambda: told(using(lambda ctx: ctx.session), name="search"),  # type: ignore[attr-defined]
    "`ctx.with_filler(...)` in a graph's tool": lambda: told(using(lambda ctx: ctx.with_filler("x")), name="search"),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("row", REFUSED)
async def test_it_is_refused_with_the_words_of_the_page(row: str, caplog: pytest.LogCaptureFixture) -> None:
    words = ""
    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        try:
            made = REFUSED[row]()
            words = str(await made if inspect.isawaitable(made) else made)
        except GraphVoiceError as error:
            words = str(error)
    assert re.match(
        "refuses it: |tells the model: |tells the model that it failed, and the log: |an apology, and in the log: ",
        TOLD[row],
    )
    for code in re.findall(r"`(.+?)`", TOLD[row]):
        assert code.strip(".") in f"{words} {caplog.text}", f"{code} is not in: {words}"


# ---- honored


async def _context() -> None:
    ga, _ = await talk(main(using_bare), once("using_bare"))
    assert ga.conversation.messages[-1].text == "So: RunContext"


@function_tool
async def using_bare(ctx) -> str:  # type: ignore[no-untyped-def]
    """Use."""
    return type(ctx).__name__


async def _errors() -> None:
    def raises(error: Any) -> Any:
        @function_tool
        async def refuse() -> str:
            """Refuse."""
            raise error

        return refuse

    assert await told(raises(lk.ToolError("closed on Mondays")), name="refuse") == "closed on Mondays"
    _, model = await talk(main(raises(lk.StopResponse())), once("refuse"))
    assert len(model.prompts) == 1


async def _agent_returned() -> None:
    for what, answer in ((OTHER, "Transferring to other."), ((OTHER, "words"), "words")):
        agent = main(returning(lambda what=what: what), handoffs=[Handoff("other", tool=False)])
        ga, _ = await talk(agent, ScriptedModel(lambda ms: call("transfer") if ms[-1].text == "go" else "Hello."))
        assert ga.conversation.active_agent == "other"
        assert answer in [m.text for m in ga.conversation.messages]


def _voice() -> None:
    assert main(voice="cartesia/sonic-3").voice == Voice(tts="cartesia/sonic-3")


async def _handoffs() -> None:
    billing = Agent("billing", instructions="x")
    for way in ("billing", billing, Handoff(billing)):  # type: ignore[arg-type]
        assert [tool.name for tool in main(handoffs=[way]).transfers] == ["transfer_to_billing"]
    ga, _ = await talk(main(handoffs=["other"]), {"main": [call("transfer_to_other")], "other": ["Hello."]})
    assert ga.conversation.active_agent == "other"


async def _bare_edge() -> None:
    _, model = await talk(main(handoffs=[Handoff("other", tool=False)]), ["Hello."])
    assert model.prompts[0].tools == ()
    assert main(handoffs=[Handoff("other", tool=False)]).targets == {"other"}


async def _provider_tool() -> None:
    given: list[Any] = []

    class Model(ScriptedModel):
        def bind_tools(self, tools: Any, **options: Any) -> Any:
            given.extend(tools)
            return self

    await talk(main({"type": "web_search"}), Model(["Hello."]))
    assert given == [{"type": "web_search"}]


async def _enum() -> None:
    @function_tool
    async def order(drink: Annotated[str, Field(json_schema_extra={"enum": ["cola"]}, examples=["cola"])]) -> str:
        """Order."""
        return drink

    shown = convert_to_openai_tool(main(order).own_tools[0])["function"]["parameters"]["properties"]["drink"]
    assert (shown["enum"], shown["examples"]) == (["cola"], ["cola"])


async def _session_tools() -> None:
    ga, model = await talk(main(ours), once("theirs"), tools=[theirs])
    assert model.prompts[0].tools == ("ours", "theirs")
    assert ga.conversation.messages[-1].text == "So: nine to five"


async def _update_tools() -> None:
    model = ScriptedModel(lambda ms: "Hello.")
    ga = GraphAgent(create_voice_graph([main(ours)], llm=model))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.current_agent.update_tools([theirs])
        await session.run(user_input="go")
    assert model.prompts[0].tools == ("theirs",)


async def _update_chat_ctx() -> None:
    model = ScriptedModel(lambda ms: "Hello.")
    ga = GraphAgent(create_voice_graph([main()], llm=model))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.run(user_input="one")
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="I am Ann.")
        await session.current_agent.update_chat_ctx(context)
        await session.run(user_input="two")
    assert [m.text for m in model.prompts[-1].messages[1:]] == ["I am Ann.", "two"]
    assert [m.text for m in ga.conversation.messages] == ["one", "Hello.", "two", "Hello."]


async def _dead_model() -> None:
    closed: list[Any] = []
    ga = GraphAgent(create_voice_graph([main()], llm=ScriptedModel([("", fail(ConnectionError("no line")))])))
    async with voice_rig(ga) as rig:
        rig.session.on("close", closed.append)
        for n in range(rig.session.conn_options.max_unrecoverable_errors + 1):
            assert closed == []
            await rig.user_says(f"hello {n}")
            await asyncio.sleep(10)
    assert [event.reason for event in closed] == [CloseReason.ERROR]


async def _away() -> None:
    @function_tool
    async def slow() -> str:
        """Work."""
        await asyncio.sleep(30)
        return "done"

    states: list[str] = []
    model = ScriptedModel([("order", [call("slow"), "Done."]), ("", "Still looking.")])
    async with voice_rig(GraphAgent(create_voice_graph([main(slow)], llm=model)), user_away_timeout=5) as rig:
        rig.session.on("user_state_changed", lambda event: states.append(event.new_state))
        await rig.user_says("my order")
        await asyncio.sleep(3)
        await rig.user_says("hello")
        await asyncio.sleep(20)
        assert "away" not in states


HONORED: dict[str, Callable[[], Any]] = {
    "`ctx` without an annotation": _context,
    "LiveKit's `ToolError`, `StopResponse`": _errors,
    'a tool that returns an agent, or `(agent, "words")`': _agent_returned,
    '`voice="cartesia/sonic-3"`': _voice,
    '`handoffs=["billing"]`, `handoffs=[agent]`, `Handoff(agent)`': _handoffs,
    '`Handoff("billing", tool=False)`': _bare_edge,
    '`{"type": "web_search"}` in `tools=[...]`': _provider_tool,
    '`Annotated[str, Field(json_schema_extra={"enum": [...]})]`': _enum,
    "`AgentSession(tools=[...])`, toolsets, `mcp_servers=`": _session_tools,
    "`agent.update_tools(...)`": _update_tools,
    "`agent.update_chat_ctx(...)`": _update_chat_ctx,
    "`max_unrecoverable_errors`, and what hangs on `close`": _dead_model,
    "`user_away_timeout`": _away,
}


@pytest.mark.parametrize("row", HONORED)
async def test_it_is_honored(row: str) -> None:
    assert TOLD[row].startswith("honors ")
    if inspect.isawaitable(made := HONORED[row]()):
        await made


def test_each_row_has_a_test() -> None:
    assert list(TOLD) == [row for row in TOLD if row in REFUSED or row in HONORED]
    assert set(TOLD) == {*REFUSED, *HONORED}
