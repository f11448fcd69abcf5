"""The six invariants hold whatever models, tools, callers and front ends do."""

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, ToolMessage

from graph_voice import Agent, Conversation, Handoff, RunContext, ToolError, create_voice_graph, events, function_tool
from graph_voice.errors import TurnError
from graph_voice.testing import ScriptedModel, call, fail, run, say
from graph_voice.testing.invariants import check_invariants

MOMENT = st.sampled_from([0.0, 0.05, 0.25, 0.6, 1.1, 2.3, 4.0])
"""Seconds: before, in and behind each part of a reply, on the virtual clock."""


@dataclass(frozen=True)
class Move:
    """What a model does in one step."""

    words: int
    tools: tuple[str, ...]
    fails: bool = False


@dataclass(frozen=True)
class Plan:
    """What the caller and the front end do with one turn."""

    pause: float
    """Seconds between this turn's start and the next one's: small ones overlap."""
    commit: float | None
    """Seconds until the turn is certain; None: it is discarded after `cut` seconds."""
    cut: float | None
    """Seconds until the caller barges in."""
    close: float | None
    """Seconds until the front end gives up; None: when the turn has ended."""
    share: float
    """How much of each message the caller hears."""
    ack: float
    """Seconds between a message and the report of what was heard of it."""
    calls: tuple[str, ...]
    handoffs: tuple[str, ...]
    """Whether the next turn's run begins before its words, in the middle of the pause."""


moves = st.builds(
    Move,
    words=st.integers(0, 4),
    tools=st.lists(st.sampled_from(["plain", "slow", "broken", "talk", "go0", "go1", "go2", "go3"]), max_size=3).map(
        tuple
    ),
    fails=st.sampled_from([False] * 9 + [True]),
)
plans = st.builds(
    Plan,
    pause=MOMENT,
    commit=st.none() | MOMENT,
    cut=st.none() | MOMENT,
    close=st.none() | MOMENT,
    share=st.sampled_from([0.0, 0.5, 1.0, 1.0]),
    ack=st.sampled_from([0.0, 0.0, 0.3, 3.0]),
    calls=st.lists(st.sampled_from(["allow"] * 5 + ["deny", "resolve", "ignore"]), min_size=1, max_size=4).map(tuple),
    handoffs=st.lists(st.sampled_from(["confirm", "confirm", "late", "reject", "late reject"]), min_size=1).map(tuple),
)


@dataclass
class World:
    """A graph, its models' moves, and a front end that knows what it did."""

    agents: int
    moves: list[Move]
    heard: dict[str, str] = field(default_factory=dict)
    said: list[tuple[float, str]] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    spoken: int = 0
    current_agent: str = "a0"
    model: ScriptedModel | None = None

    def next_reply(self, me: int, messages: list[BaseMessage]) -> Any:
        move = self.moves.pop(0) if self.moves else Move(2, ())
        words = " ".join(f"w{self.spoken}-{n}" for n in range(move.words))
        self.spoken += 1
        if move.fails:
            return fail(RuntimeError("the provider is down"), after_tokens=move.words, text=words or None)
        names = [f"transfer_to_a{n}" if n != me else "plain" for n in map(_target, move.tools) if n is not None]
        names = [name for name in names if name == "plain" or int(name[-1]) < self.agents]
        names += [name for name in move.tools if _target(name) is None]
        calls = [call(name, unknown=True) for name in names]
        return say(*([words] if words else []), *calls) if words or calls else say("hm")

    def conversation(self) -> Conversation[Any]:
        scripts = {f"a{n}": functools.partial(self.next_reply, n) for n in range(self.agents)}
        self.model = ScriptedModel(scripts, first_token=0.2, per_token=0.1)
        return Conversation(graph_of(self.agents), context=self, config={"configurable": {"llm": self.model}})

    def note(self, ctx: RunContext[Any]) -> str:
        ctx.userdata[str(ctx.tool_call_id)] = True
        self.finished.add(str(ctx.tool_call_id))
        return f"result of {ctx.tool_call_id}"


@function_tool
async def plain(ctx: RunContext[Any]) -> str:
    """Act."""
    ctx.context.effects.append(str(ctx.tool_call_id))
    return str(ctx.context.note(ctx))


@function_tool
async def slow(ctx: RunContext[Any]) -> str:
    """Act, and take a while."""
    ctx.context.effects.append(str(ctx.tool_call_id))
    await asyncio.sleep(1.5)
    return str(ctx.context.note(ctx))


@function_tool
async def broken(ctx: RunContext[Any]) -> str:
    """Fail."""
    ctx.context.effects.append(str(ctx.tool_call_id))
    raise ToolError("no luck")


@function_tool
async def talk(ctx: RunContext[Any]) -> str:
    """Speak, then act."""
    world = ctx.context
    world.effects.append(str(ctx.tool_call_id))
    world.spoken += 1
    await ctx.say(f"s{world.spoken}-0 s{world.spoken}-1")
    return str(world.note(ctx))


@functools.cache
def graph_of(agents: int) -> Any:
    """Agents that may all hand off to each other; made once, since they hold nothing of a call."""
    members = []
    for me in range(agents):
        ways = [Handoff(f"a{n}") for n in range(agents) if n != me]
        members.append(Agent(f"a{me}", instructions="Help.", tools=[plain, slow, broken, talk], handoffs=ways))
    return create_voice_graph(members, apology="pardon").compile()


def _target(tool: str) -> int | None:
    return int(tool[2:]) if tool.startswith("go") else None


class FrontEnd:
    """One turn, as a front end that is interrupted, mishears, refuses and comes late."""

    def __init__(self, world: World, conversation: Conversation[Any], plan: Plan, text: str) -> None:
        self.world = world
        self.conversation = conversation
        self.plan = plan
        self.text = text
        self.turn = conversation.turn(text)
        self.produced: dict[str, str] = {}
        self.undecided = 0
        self.refused = False
        self.calls = 0
        self.over = False

    async def drive(self) -> None:
        plan, turn = self.plan, self.turn
        others = [asyncio.create_task(self.decide())]
        if plan.cut is not None and plan.commit is not None:
            others.append(asyncio.create_task(self.later(plan.cut, turn.interrupt)))
        if plan.close is not None:
            others.append(asyncio.create_task(self.later(plan.close, self.close)))
        async for event in turn:
            self.take(event, others)
            check_invariants(self.conversation)
        await asyncio.sleep(plan.ack + 0.1)
        await asyncio.gather(*others)
        self.close()

    async def later(self, seconds: float, what: Any) -> None:
        await asyncio.sleep(seconds)
        what()
        check_invariants(self.conversation)

    def close(self) -> None:
        self.over = True
        self.turn.close()

    async def decide(self) -> None:
        await asyncio.sleep(self.plan.cut or 0.0 if self.plan.commit is None else self.plan.commit)
        if self.turn.state.is_over:
            return
        if self.plan.commit is None:
            self.turn.discard()
            return
        now = asyncio.get_running_loop().time()
        self.turn.commit(at=now)
        self.world.said.append((now, self.text))
        for call_id in self.waiting:
            self.permit(call_id)

    @property
    def waiting(self) -> list[str]:
        return [c for step in self.turn.record.steps() for c in step.calls]

    def take(self, event: events.Event, others: list[asyncio.Task[None]]) -> None:
        match event:
            case events.Text(message_id=mid, text=text) | events.Say(message_id=mid, text=text):
                self.produced[mid] = self.produced.get(mid, "") + text
                others.append(asyncio.create_task(self.report(mid)))
            case events.ToolCalls(calls=calls) if self.turn.state.happened:
                for asked in calls:
                    self.permit(asked.id)
            case events.HandedOff(call_id=call_id, new_agent=new):
                how = self.plan.handoffs[self.undecided % len(self.plan.handoffs)]
                self.undecided += 1
                if how == "late" or how == "late reject":
                    others.append(asyncio.create_task(self.later(0.7, lambda: self.change(how, call_id, new))))
                else:
                    self.change(how, call_id, new)

    def change(self, how: str, call_id: str | None, new: str) -> None:
        if self.over:
            return
        self.undecided = 0
        if how.endswith("reject"):
            self.turn.reject_handoff(call_id, "not now")
            self.refused = True
        elif not self.refused:
            self.turn.confirm_handoff(call_id)
            self.world.current_agent = new

    def permit(self, call_id: str) -> None:
        how = self.plan.calls[self.calls % len(self.plan.calls)]
        self.calls += 1
        match how:
            case "allow":
                self.turn.allow(call_id)
            case "deny":
                self.turn.deny(call_id, "not allowed")
            case "resolve":
                self.turn.resolve(call_id, "mocked")

    async def report(self, message_id: str) -> None:
        agent = self.turn.record.spoken(message_id)
        await asyncio.sleep(self.plan.ack)
        if not self.turn.state.happened or self.refused or agent is None or self.undecided:
            return
        words = self.produced[message_id].split(" ")
        text = " ".join(words[: round(len(words) * self.plan.share)])
        try:
            self.turn.heard(message_id, text, at=asyncio.get_running_loop().time())
        except TurnError:
            return  # too late to count
        self.world.heard[message_id] = text


async def play(agents: int, script: list[Move], turns: list[Plan]) -> None:
    world = World(agents, list(script))
    conversation = world.conversation()
    driving = []
    for number, plan in enumerate(turns):
        front = FrontEnd(world, conversation, plan, f"u{number}")
        driving.append(asyncio.create_task(front.drive()))
        await asyncio.sleep(plan.pause + 0.01)
    watchdog = asyncio.get_running_loop().call_later(60, conversation_closes, conversation)
    await asyncio.gather(*driving)
    await conversation.aclose()
    watchdog.cancel()
    check_invariants(
        conversation,
        effects=world.effects,
        heard=world.heard,
        said=[text for _, text in sorted(world.said)],
        current_agent=world.current_agent,
    )
    kept = set(conversation.userdata)
    assert kept == world.finished, f"userdata of {kept}; tools that ended: {world.finished}"
    results = {m.tool_call_id: m for m in conversation.messages if isinstance(m, ToolMessage)}
    for call_id in world.finished:
        assert results[call_id].text == f"result of {call_id}"


def conversation_closes(conversation: Conversation[Any]) -> None:
    """Some plans ignore a call for ever: the call ends at last."""
    asyncio.get_running_loop().create_task(conversation.aclose())


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 4), st.lists(moves, max_size=8), st.lists(plans, min_size=1, max_size=4))
def test_hold_for_any_models_tools_callers_and_front_ends(agents: int, script: list[Move], turns: list[Plan]) -> None:
    run(play(agents, script, turns))
