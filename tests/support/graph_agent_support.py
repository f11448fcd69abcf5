"""What the tests of `GraphAgent` share: calls, and the check that graph and LiveKit tell the same story."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from livekit.agents import AgentSession
from livekit.agents.voice.events import CloseEvent

from graph_voice import Task, Voice
from graph_voice.graph.build import definition_of
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import ScriptedModel, check_prompt
from graph_voice.turn.run import NO_HANDOFF
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS, VoiceRig, voice_rig


def voice(name: str) -> Voice:
    """A voice of its own, for an agent."""
    return Voice(tts=lambda: FakeTTS(name))


def words(text: str) -> str:
    return " ".join(text.split())


def told_by_graph(ga: GraphAgent) -> list[tuple[str, str]]:
    """Who said what, one entry per change of speaker."""
    said = [
        ("user" if isinstance(m, HumanMessage) else "assistant", words(m.text))
        for m in ga.conversation.messages
        if isinstance(m, HumanMessage | AIMessage) and m.text.strip()
    ]
    return _joined(said)


def told_by_livekit(session: AgentSession[Any]) -> list[tuple[str, str]]:
    said = [
        (item.role, words(item.text_content or ""))
        for item in session.history.items
        if item.type == "message" and item.role in ("user", "assistant") and (item.text_content or "").strip()
    ]
    return _joined(said)


def _joined(said: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (role, " ".join(text for _, text in group)) for role, group in itertools.groupby(said, lambda entry: entry[0])
    ]


def calls_in_graph(ga: GraphAgent) -> list[str]:
    return [str(c["id"]) for m in ga.conversation.messages if isinstance(m, AIMessage) for c in m.tool_calls]


def outputs_in_graph(ga: GraphAgent) -> dict[str, str]:
    return {m.tool_call_id: m.text for m in ga.conversation.messages if isinstance(m, ToolMessage)}


def outputs_in_livekit(session: AgentSession[Any]) -> dict[str, str]:
    return {i.call_id: i.output for i in session.history.items if i.type == "function_call_output"}


def handoffs_in_livekit(session: AgentSession[Any]) -> list[str]:
    """The agents that took the floor from another one."""
    return [new for _, new in _floor_changes_in_livekit(session)]


def _floor_changes_in_livekit(session: AgentSession[Any]) -> list[tuple[str, str]]:
    """Those of this process."""
    taken = [i for i in session.history.items if i.type == "agent_handoff" and i.old_agent_id is not None]
    return _changes([(str(i.old_agent_id), i.new_agent_id) for i in taken if not i.id.startswith("handoff-")])


def earlier_handoffs_in_livekit(session: AgentSession[Any]) -> list[tuple[str | None, str]]:
    """Those that a resumed call began with."""
    found = [i for i in session.history.items if i.type == "agent_handoff" and i.id.startswith("handoff-")]
    return [(i.old_agent_id, i.new_agent_id) for i in found]  # type: ignore[union-attr]


def _changes(handoffs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without those in which an agent takes the floor from itself: the program and a tool gave it the floor, and the
    second is an event for LiveKit and none for the graph, or the other way round."""
    return [(old, new) for old, new in handoffs if old != new]


def _floor(session: AgentSession[Any]) -> str | None:
    """Who has the floor; None when the session is closed."""
    try:
        return session.current_agent.id
    except RuntimeError:
        return None


def agrees(ga: GraphAgent, session: AgentSession[Any], *, closed: bool = False, before: int | None = None) -> None:
    """The graph remembers what LiveKit played, heard and did; and every model would take it as a prompt.

    `before`: how many changes of the floor there had been when this process took the call up.
    `closed`: the session has ended. One that ends between a transfer's result and the new agent's start keeps the
    result and names the new agent as its current one, which never had the floor; the graph says that it did not happen.
    """
    messages: list[BaseMessage] = list(ga.conversation.messages)
    assert told_by_graph(ga) == told_by_livekit(session)
    graph_outputs, livekit_outputs = outputs_in_graph(ga), outputs_in_livekit(session)
    undone = [k for k, v in graph_outputs.items() if closed and v == NO_HANDOFF and k in livekit_outputs]
    livekit_outputs |= dict.fromkeys(undone, NO_HANDOFF)
    refused = {k: v for k, v in graph_outputs.items() if k not in livekit_outputs}
    assert {k: v for k, v in graph_outputs.items() if k not in refused} == livekit_outputs
    # What LiveKit drops without an item (calls that it does not allow now), the graph's model is told. Of the tools of
    # a graph that is not ours LiveKit knows nothing.
    # And while LiveKit's own task has the floor, LiveKit has no item of the tool call that waits for it.
    waiting = {frame["call_id"] for frame in ga.conversation.state.get("stack") or []}
    told = [v for k, v in refused.items() if not (k in waiting and v == RUNNING)]
    assert ga.conversation.call.roles.custom_speakers or all(v.startswith("not done: ") for v in told)
    livekit_calls = [i.call_id for i in session.history.items if i.type == "function_call"]
    assert sorted(calls_in_graph(ga)) == sorted([*livekit_calls, *refused])
    happened = _changes([(str(h["old_agent_id"]), h["new_agent_id"]) for h in ga.conversation.handoffs])
    followed = _floor_changes_in_livekit(session)
    earlier = earlier_handoffs_in_livekit(session)
    assert earlier == [(h["old_agent_id"], h["new_agent_id"]) for h in ga.conversation.handoffs[: len(earlier)]]
    assert not earlier or ga.conversation.resumed is not None
    if before is not None:
        # LiveKit knows those of this process, and the session's way from its first agent to the one that had the floor.
        happened = happened[before:]
        came_to = happened[0][0] if happened else ga.conversation.active_agent
        happened = _changes([(str(ga.conversation.call.roles.start), came_to), *happened])
    elif ga.conversation.resumed is not None:
        happened, followed = [("?", new) for _, new in happened], [("?", new) for _, new in followed]
        happened = happened[len(happened) - len(followed) :]
    given_back = followed[len(happened) :] if closed else []
    if given_back:
        # LiveKit's own tasks end with their session, and give the floor back. The graph's are abandoned where they are.
        assert all(isinstance(definition_of(ga.conversation.graph, old), Task) for old, _ in given_back)
        followed = followed[: len(happened)]
    assert happened == followed
    floor = _floor(session)
    last = next((i.new_agent_id for i in reversed(session.history.items) if i.type == "agent_handoff"), floor)
    # A session that closes while the program moves the floor names an agent that never came to it, without an item.
    never_came = closed and last != floor
    never_came = never_came or bool(given_back)
    if floor in ga.conversation.call.roles.agents and not undone and not never_came:
        assert ga.conversation.active_agent == floor
    check_prompt([HumanMessage("(the call begins)", id="opener"), *messages])
    ids = [m.id for m in messages]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    items = [i.id for i in session.history.items]
    assert len(set(items)) == len(items)


class Accidents(logging.Handler):
    """What asyncio and LiveKit log when a task of theirs, or a hook of ours, has failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("asyncio", "livekit", "graph_voice.livekit")):
            self.seen.append(self.format(record))


@contextlib.contextmanager
def no_accidents(expected: str | None = None) -> Iterator[None]:
    """Fail if something was logged as an error; `expected` is part of the messages that may be."""
    accidents = Accidents()
    logging.getLogger().addHandler(accidents)
    livekit, propagates = logging.getLogger("livekit"), logging.getLogger("livekit").propagate
    livekit.propagate = True
    try:
        yield
    finally:
        livekit.propagate = propagates
        logging.getLogger().removeHandler(accidents)
    seen = [text for text in accidents.seen if expected is None or expected not in text]
    assert seen == [], "\n".join(seen)


@contextlib.asynccontextmanager
async def a_call(
    ga: GraphAgent, model: ScriptedModel | None = None, *, accident: str | None = None, **options: Any
) -> AsyncIterator[VoiceRig]:
    """A call by voice. When it rests at the end, graph and LiveKit agree, and no model was given a bad prompt."""
    with no_accidents(accident):
        async with voice_rig(ga, **options) as rig:
            closed: list[CloseEvent] = []
            rig.session.on("close", closed.append)
            yield rig
            if not closed:
                await rig.until_idle()
            agrees(ga, rig.session)
    if model is not None:
        assert not model.errors


@contextlib.asynccontextmanager
async def a_text_call(
    ga: GraphAgent, model: ScriptedModel | None = None, *, accident: str | None = None, **options: Any
) -> AsyncIterator[AgentSession[Any]]:
    """A call in text (`AgentSession.run`), checked in the same way."""
    with no_accidents(accident):
        async with AgentSession[Any](vad=None, **options) as session:
            await session.start(ga)
            yield session
            agrees(ga, session)
    if model is not None:
        assert not model.errors


def spoken(rig: VoiceRig) -> list[tuple[str, str]]:
    """Voice and words, in order; joined where one voice goes on."""
    parts = [(s.voice, words(s.text)) for s in rig.spoken if s.text.strip()]
    return [(name, " ".join(text for _, text in group)) for name, group in itertools.groupby(parts, lambda s: s[0])]


class Roots(AsyncCallbackHandler):
    """The traces of a call: runs without a parent, with their outputs."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.outputs: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        if kwargs.get("parent_run_id") is None:
            self.started.append(str(kwargs["run_id"]))
            self.inputs[str(kwargs["run_id"])] = inputs

    async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        if kwargs.get("parent_run_id") is None:
            self.outputs[str(kwargs["run_id"])] = outputs

    async def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        if kwargs.get("parent_run_id") is None:
            self.started.append("a model without a parent")

    @property
    def ended(self) -> list[Any]:
        return [self.outputs[run] for run in self.started]
