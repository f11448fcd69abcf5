"""The end of a call: what runs finishes, the last agent learns why, and nothing is left behind."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from graph_agent_support import (
    agrees,
    handoffs_in_livekit,
    no_accidents,
    outputs_in_graph,
    told_by_graph,
    told_by_livekit,
    voice,
)
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import AgentSession, JobContext
from livekit.agents.testing import fake_job_context
from livekit.agents.voice.events import CloseEvent, CloseReason

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, hang, say
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig, voice_rig

pytestmark = pytest.mark.virtual_clock

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."


def ours() -> list[str]:
    """Tasks that run code of this library; those of its test kit are the caller's."""
    files = {task.get_name(): getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    places = {name: code.co_filename if code is not None else "" for name, code in files.items()}
    return [
        f"{name} {place}"
        for name, place in places.items()
        if (name.startswith("graph_voice") or "graph_voice/" in place or "graph_voice_livekit/" in place)
        and "/testing/" not in place
    ]


class SlowToLeave(LiveKitAgent):
    """Its floor changes slowly."""

    async def on_exit(self) -> None:
        await asyncio.sleep(1.5)


class Desk:
    """Two agents, tools of all kinds, and what became of them."""

    def __init__(self, script: Any, *, on_exit: Any = None) -> None:
        self.exits: list[tuple[str, str | None]] = []
        self.started: list[str] = []
        self.done: list[str] = []
        self._on_exit = on_exit

        @function_tool
        async def look_up(ctx: RunContext[Any]) -> str:
            """Look up."""
            self.started.append("look_up")
            await asyncio.sleep(3)
            self.done.append("look_up")
            return "found"

        @function_tool
        async def search(ctx: RunContext[Any]) -> str:
            """Search for a long time."""
            self.started.append("search")
            await asyncio.sleep(12)
            self.done.append("search")
            return "found at last"

        self.model = ScriptedModel(script, first_token=0.3)
        graph = create_voice_graph(
            [
                Agent(
                    "desk",
                    instructions="You are the desk.",
                    tools=[look_up, search],
                    handoffs=[Handoff("billing", say="I'm putting you through to billing now.")],
                    voice=voice("desk"),
                    on_exit=self._leave,
                ),
                Agent(
                    "billing",
                    instructions="You are billing.",
                    on_enter="Greet the caller.",
                    voice=voice("billing"),
                    on_exit=self._leave,
                ),
            ],
            llm=self.model,
        )
        self.ga = GraphAgent(graph, bases={"desk": SlowToLeave})

    async def _leave(self, ctx: RunContext[Any]) -> None:
        self.exits.append((ctx.agent, ctx.close_reason))
        if self._on_exit is not None:
            await self._on_exit(ctx)


WAYS = ("transfer_to_billing",)
TRANSFER = {"desk": [call("transfer_to_billing")], "billing": [STORY]}


def floor_changes(desk: Desk, rig: VoiceRig) -> bool:
    return desk.ga.bridge.active_agent == "desk" and any(
        i.type == "function_call_output" for i in rig.session.history.items
    )


def speaks(desk: Desk, rig: VoiceRig) -> bool:
    return rig.loudspeaker.audible and not desk.started


Moment = tuple[Any, float, Callable[[Desk, VoiceRig], bool]]
MOMENTS: dict[str, Moment] = {
    # name: (script, seconds from the end of the caller's words to the close, what is so at that moment)
    "the recogniser is not sure yet": ([STORY], 0.1, lambda d, r: not d.model.prompts),
    "a speculation": ([("", STORY)], 0.35, lambda d, r: bool(d.model.prompts) and not d.ga.conversation.messages),
    "a model that thinks": ([say("Hello.", first_token=5.0)], 2.0, lambda d, r: len(d.ga.conversation.messages) == 1),
    "a model that hangs": ([("", hang())], 2.0, lambda d, r: len(d.ga.conversation.messages) == 1),
    "a reply": ([STORY], 3.0, speaks),
    "words before a tool": ([say(STORY, call("look_up")), "Done."], 1.6, lambda d, r: r.loudspeaker.audible),
    "a tool": ([say("One moment.", call("look_up")), "Done."], 2.5, lambda d, r: d.started == ["look_up"]),
    "a slow tool": ([say("One moment.", call("search")), "Done."], 9.0, lambda d, r: d.started == ["search"]),
    "the words of a handoff": (TRANSFER, 2.0, speaks),
    "the floor changes": (TRANSFER, 2.0, floor_changes),
    "an entry": (TRANSFER, 7.0, lambda d, r: d.ga.conversation.active_agent == "billing"),
    "nothing": (["Hello."], 8.0, lambda d, r: len(d.ga.conversation.messages) == 2),
}
CLOSES: dict[str, Callable[[AgentSession[Any]], Awaitable[None] | None]] = {
    "aclose": lambda session: session.aclose(),
    "shutdown with drain": lambda session: session.shutdown(drain=True),
    "shutdown without drain": lambda session: session.shutdown(drain=False),
}


async def end(rig: VoiceRig, close: Callable[[AgentSession[Any]], Awaitable[None] | None]) -> list[CloseEvent]:
    closed: list[CloseEvent] = []
    rig.session.on("close", closed.append)
    waiting = close(rig.session)
    if waiting is not None:
        await waiting
    for _ in range(300):
        await asyncio.sleep(0.1)
        if closed and not ours():
            break
    return closed


@pytest.mark.parametrize("close", CLOSES.values(), ids=CLOSES)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_call_can_end_at_any_moment(moment: str, close: Any) -> None:
    script, seconds, is_so = MOMENTS[moment]
    desk = Desk(script)
    async with voice_rig(desk.ga) as rig:
        await rig.user_says("hello there", at=0.5)
        await asyncio.sleep(seconds)
        for _ in range(100):
            if is_so(desk, rig):
                break
            await asyncio.sleep(0.05)
        assert is_so(desk, rig)
        before = rig.now
        closed = await end(rig, close)
        assert len(closed) == 1
        assert rig.now - before < 40
        assert ours() == []
        announced = [i for i in rig.session.history.items if i.type == "function_call_output" and i.name in WAYS]
        if announced and not desk.ga.conversation.handoffs:
            # LiveKit starts no agent while it closes, though its history has that the call was handed over.
            assert handoffs_in_livekit(rig.session) == []
            assert all(" not " in outputs_in_graph(desk.ga)[i.call_id] for i in announced)
            assert told_by_graph(desk.ga) == told_by_livekit(rig.session)
        else:
            agrees(desk.ga, rig.session)
    check_invariants(desk.ga.conversation)
    assert desk.done == desk.started
    results = list(outputs_in_graph(desk.ga).values())
    assert all(f"found{' at last' if name == 'search' else ''}" in results for name in desk.done)
    assert [agent for agent, reason in desk.exits if reason is not None] == [desk.ga.conversation.active_agent]
    assert desk.exits[-1][1] == "user_initiated"
    assert not desk.model.errors


async def test_a_drain_lets_the_reply_be_heard_to_its_end() -> None:
    desk = Desk([STORY])
    async with voice_rig(desk.ga) as rig:
        await rig.user_says("tell me a story", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(1)
        await end(rig, CLOSES["shutdown with drain"])
    assert told_by_graph(desk.ga) == [("user", "tell me a story"), ("assistant", STORY)]


async def test_a_tool_that_nobody_waits_for_any_more_is_remembered() -> None:
    """The caller went on talking over it, was answered, and hung up."""
    desk = Desk([("hello", "Yes, I am here."), ("", [say("One moment.", call("search")), "Done."])])
    async with voice_rig(desk.ga) as rig:
        await rig.user_says("please search", at=0.5)
        await asyncio.sleep(3)
        await rig.user_says("hello are you there")
        await asyncio.sleep(3)
        assert desk.done == []
        await end(rig, CLOSES["aclose"])
        assert ours() == []
    assert "found at last" in outputs_in_graph(desk.ga).values()
    assert desk.exits == [("desk", "user_initiated")]


# ---- why


@pytest.mark.parametrize("reason", list(CloseReason))
async def test_the_last_agent_learns_livekits_reason(reason: CloseReason) -> None:
    desk = Desk([STORY])
    async with voice_rig(desk.ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        await end(rig, lambda session: session._aclose_impl(reason=reason))
    assert desk.exits == [("desk", reason.value)]


async def test_closing_the_graph_agent_closes_the_session_and_waits() -> None:
    desk = Desk([say("One moment.", call("look_up")), "Done."])
    async with voice_rig(desk.ga) as rig:
        closed: list[CloseEvent] = []
        rig.session.on("close", closed.append)
        await rig.user_says("hello", at=0.5)
        await asyncio.sleep(2.5)
        await desk.ga.aclose()
        assert len(closed) == 1
        assert (desk.done, desk.exits) == (["look_up"], [("desk", "user_initiated")])
        await desk.ga.aclose()
        assert ours() == []
    assert len(desk.exits) == 1


async def test_an_agent_that_never_was_in_a_call_can_be_closed() -> None:
    desk = Desk(["Hello."])
    await desk.ga.aclose()
    assert ours() == []


@contextlib.contextmanager
def a_job() -> Iterator[JobContext]:
    """A LiveKit job, whose temporary directory is cleaned up here and not in another test."""
    with fake_job_context() as job:
        yield job
    del job
    gc.collect()


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
async def test_a_job_that_shuts_down_waits_for_the_last_tool_and_the_last_agent() -> None:
    async def save(ctx: RunContext[Any]) -> None:
        await asyncio.sleep(1)
        desk.done.append("saved")

    desk = Desk([say("One moment.", call("look_up")), "Done."], on_exit=save)
    async with contextlib.AsyncExitStack() as stack:
        job = stack.enter_context(a_job())
        rig = await stack.enter_async_context(voice_rig(desk.ga))
        await rig.user_says("hello", at=0.5)
        await asyncio.sleep(2.5)
        assert desk.started == ["look_up"]
        # As LiveKit's job process does it: all at once, and then the process ends.
        await asyncio.gather(*(callback("the room is gone") for callback in job._shutdown_callbacks))
        assert desk.done == ["look_up", "saved"]
        assert ours() == []
    assert desk.exits == [("desk", "job_shutdown")]
    assert "found" in outputs_in_graph(desk.ga).values()


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
async def test_a_job_whose_session_does_not_close_ends_all_the_same() -> None:
    desk = Desk(["Hello."])
    async with contextlib.AsyncExitStack() as stack:
        job = stack.enter_context(a_job())
        rig = await stack.enter_async_context(voice_rig(desk.ga))
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        (own,) = [c for c in job._shutdown_callbacks if "graph_voice" in c.__module__]
        before = rig.now
        await own("gone")
        assert rig.now - before < 10
    assert desk.exits == [("desk", "job_shutdown")]


# ---- on_exit


async def test_what_on_exit_would_say_at_the_end_is_not_said() -> None:
    async def goodbye(ctx: RunContext[Any]) -> None:
        await ctx.say("Goodbye.")
        await ctx.generate_reply("Say goodbye.")

    desk = Desk(["Hello."], on_exit=goodbye)
    async with voice_rig(desk.ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        await end(rig, CLOSES["shutdown with drain"])
        agrees(desk.ga, rig.session)
    assert told_by_graph(desk.ga) == [("user", "hello"), ("assistant", "Hello.")]
    assert len(desk.model.prompts) == 1


async def test_an_on_exit_that_fails_does_not_break_the_close() -> None:
    async def fails(ctx: RunContext[Any]) -> None:
        raise RuntimeError("no line")

    desk = Desk(["Hello."], on_exit=fails)
    with no_accidents():
        async with voice_rig(desk.ga) as rig:
            await rig.user_says("hello", at=0.5)
            await rig.until_idle()
            assert len(await end(rig, CLOSES["aclose"])) == 1
            assert ours() == []


async def test_what_on_exit_writes_is_in_the_sessions_userdata() -> None:
    async def note(ctx: RunContext[Any]) -> None:
        ctx.userdata["left"] = ctx.close_reason

    desk = Desk(["Hello."], on_exit=note)
    async with voice_rig(desk.ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        await end(rig, CLOSES["aclose"])
        assert rig.session.userdata == {"left": "user_initiated"}


async def test_a_tool_that_ends_the_call_is_the_last_thing_and_the_agent_leaves() -> None:
    @function_tool
    async def hang_up(ctx: RunContext[Any]) -> str:
        """Hang up."""
        ctx.end_call()
        return "bye"

    exits: list[str | None] = []

    async def leave(ctx: RunContext[Any]) -> None:
        exits.append(ctx.close_reason)

    model = ScriptedModel([call("hang_up"), "Goodbye then."])
    agent = Agent("host", instructions="Host.", tools=[hang_up], voice=voice("host"), on_exit=leave)
    ga = GraphAgent(create_voice_graph([agent], llm=model))
    async with voice_rig(ga) as rig:
        await rig.user_says("goodbye", at=0.5)
        await asyncio.sleep(12)
        assert ours() == []
        assert told_by_graph(ga)[-1] == ("assistant", "Goodbye then.")
    assert exits == ["user_initiated"]


# ---- nothing is held


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
async def test_nothing_of_a_call_is_held_after_it() -> None:
    held: list[weakref.ref[Any]] = []

    async def hold_a_call() -> None:
        desk = Desk(
            {"desk": [say("One moment.", call("look_up")), call("transfer_to_billing")], "billing": [("", STORY)]}
        )
        async with voice_rig(desk.ga) as rig:
            await rig.user_says("hello there", at=0.5, preflight="hello bear")
            await asyncio.sleep(9)
            await rig.user_says("stop please now")
            await rig.until_idle()
            await asyncio.sleep(3)
            assert handoffs_in_livekit(rig.session) == ["billing"]
            bridge = desk.ga.bridge
            held.extend(
                weakref.ref(x)
                for x in (desk.ga, bridge, desk.ga.conversation, *bridge.conversation.call.state.live.turns)
            )
            session = weakref.ref(rig.session)
        await asyncio.sleep(1)
        assert ours() == []
        held.append(session)

    await asyncio.create_task(hold_a_call())  # LiveKit leaves its session in the context of the task that starts it
    await asyncio.sleep(1)
    gc.collect()
    assert len(held) >= 5
    assert [ref() for ref in held] == [None] * len(held)


HANG_UPS: dict[str, Callable[[GraphAgent, Any], Any]] = {
    "session.shutdown": lambda ga, session: session.shutdown(),
    "session.aclose": lambda ga, session: session.aclose(),
    "GraphAgent.aclose": lambda ga, session: ga.aclose(),
    "Conversation.aclose": lambda ga, session: ga.conversation.aclose(),
}


@pytest.mark.parametrize("where", ["the tool", "a task of its own", "a task of its own, two seconds later"])
@pytest.mark.parametrize("how", HANG_UPS)
async def test_a_tool_that_hangs_up_by_livekit_ends_the_call(how: str, where: str) -> None:
    exits: list[tuple[str, str | None]] = []
    started: list[asyncio.Task[None]] = []

    async def end(seconds: float, session: Any) -> None:
        await asyncio.sleep(seconds)
        ended = HANG_UPS[how](agents[0], session)
        if asyncio.iscoroutine(ended):
            await ended

    @function_tool
    async def hang_up(ctx: RunContext[Any]) -> str:
        """End the call."""
        if where == "the tool":
            await end(0, ctx.host.session)
        else:
            started.append(asyncio.create_task(end(2 if "later" in where else 0, ctx.host.session)))
        return "the call ends"

    async def leave(ctx: RunContext[Any]) -> None:
        exits.append((ctx.agent, ctx.close_reason))
        left.set()

    left = asyncio.Event()
    model = ScriptedModel([say("All right.", call("hang_up")), "Good night."])
    agent = Agent("desk", instructions="You are the desk.", tools=[hang_up], on_exit=leave)
    ga = GraphAgent(create_voice_graph([agent], llm=model))
    agents = [ga]
    async with voice_rig(ga) as rig:
        closed = asyncio.Event()
        rig.session.on("close", lambda event: closed.set())
        await rig.user_says("That is all.", at=0.5)
        await asyncio.wait_for(left.wait(), 30)
        if how != "Conversation.aclose":
            await asyncio.wait_for(closed.wait(), 30)
        await asyncio.wait_for(asyncio.gather(ga.conversation.aclose(), *started), 30)
        await ga.aclose()
        assert [name for name, _ in exits] == ["desk"]
        assert ours() == []
    assert "tool: the call ends" in "\n".join(f"{m.type}: {m.text}" for m in ga.conversation.messages)
    check_invariants(ga.conversation)
