"""One call: its live state, and the turns that run on forks of it."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic

from langchain_core.messages import AnyMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.channels.base import BaseChannel
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from typing_extensions import TypeVar

from graph_voice import events, history
from graph_voice.chat_context import carry, resolve, view
from graph_voice.errors import BuildError, TurnError
from graph_voice.fork import ForkSaver, checkpoint_of
from graph_voice.graph import METADATA
from graph_voice.handoff import AgentHandoff, handoff_record
from graph_voice.memory import Group, Write
from graph_voice.runner import run_turn
from graph_voice.state import merge_messages
from graph_voice.turn import Turn

__all__ = ["Conversation"]

U = TypeVar("U", default=Any)


class Conversation(Generic[U]):
    """One call on a voice graph: what was said and done so far, and the turns that are running.

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not, or any compiled graph with a `messages`
            channel (then `speak` names who speaks).
        thread_id: the call's name in LangGraph and LangSmith. Default: a new one.
        userdata: the caller's facts at the beginning. Default: the userdata class without arguments.
        messages: a conversation that went before.
        context: LangGraph's run context, for every turn.
        store: LangGraph's store, for every turn. Default: the compiled graph's.
        config: a LangChain `RunnableConfig` for every turn: callbacks, tags, metadata, `configurable`.
        speak: nodes that speak, besides those that say so by their metadata.

    Raises `BuildError` when the graph has no `messages` channel, or nobody in it speaks.
    """

    def __init__(
        self,
        graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any],
        *,
        thread_id: str | None = None,
        userdata: U | None = None,
        messages: Sequence[Any] | None = None,
        context: Any = None,
        store: BaseStore | None = None,
        config: RunnableConfig | None = None,
        speak: Sequence[str] = (),
    ) -> None:
        self.graph: Pregel[Any, Any, Any, Any] = graph.compile() if isinstance(graph, StateGraph) else graph
        self.thread_id = thread_id or f"call-{uuid.uuid4().hex[:12]}"
        self.context = context
        self.store = store
        self.config: RunnableConfig = config or {}
        self._channels = {k: c for k, c in self.graph.channels.items() if isinstance(c, BaseChannel)}
        if "messages" not in self._channels:
            raise BuildError("This graph has no `messages` channel, so there is nothing to speak from or to.")
        self.roles = Roles(self.graph, speak)
        self._values: dict[str, Any] = {}
        if messages is not None:
            self._values["messages"] = merge_messages([], convert_to_messages(list(messages)))
        if userdata is not None:
            self._values["userdata"] = userdata
        self._turns: list[Turn] = []
        self._asides: list[Group] = []
        self._derived: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_userdata: Callable[[], None] | None = None
        """Called when a node of a committed turn has changed the userdata."""

    # ---- what is remembered

    @property
    def state(self) -> dict[str, Any]:
        """The state as remembered now: what the graph produced, filtered by what was acknowledged."""
        if self._derived is None:
            self._derived = self._derive()
        return self._derived

    @property
    def messages(self) -> list[AnyMessage]:
        """Everything said (as heard) and done. LiveKit's `session.history`."""
        return list(self.state.get("messages") or ())

    @property
    def chat_ctx(self) -> list[AnyMessage]:
        """What the active agent's model is shown of it. LiveKit's `agent.chat_ctx`."""
        return view(self.state)

    @property
    def userdata(self) -> U:
        """The caller's facts. LiveKit's `session.userdata`."""
        found: U = self.state["userdata"]
        return found

    @property
    def active_agent(self) -> str:
        """Who has the floor."""
        return self.state.get("active_agent") or self.roles.start or ""

    @property
    def handoffs(self) -> list[AgentHandoff]:
        """Every handoff that happened."""
        return list(self.state.get("handoffs") or ())

    # ---- turns

    def turn(self, text: str | None = None, *, message_id: str | None = None, instructions: str | None = None) -> Turn:
        """Start a turn. Call it from a running event loop.

        Args:
            text: what the caller said. The turn is speculative until `Turn.commit`. None: the agent speaks
                unasked (LiveKit's `generate_reply`), and the turn counts from the start.
            message_id: the id of the caller's message in `messages`.
            instructions: for the first reply of this turn only; never stored.
        """
        return self._start(Turn(self, text=text, message_id=message_id, instructions=instructions))

    def enter(self) -> Turn:
        """Start a turn in which the active agent takes the floor: its `on_enter`."""
        return self._start(Turn(self, text=None, message_id=None, instructions=None, entering=True))

    def _start(self, turn: Turn) -> Turn:
        self._turns.append(turn)
        if turn.record.user is None:
            turn.commit()
        return turn.start(self._run)

    async def _run(self, turn: Turn) -> None:
        if not self.roles.may_speculate:
            # A node that is not ours may act, and nobody may act for a turn that may not have happened.
            await turn.wait_committed()
        saver = ForkSaver(checkpoint_of(self.state, self._channels))
        replaced: dict[str, Any] = {"checkpointer": saver}
        if self.store is not None:
            replaced["store"] = self.store
        await run_turn(turn, self.graph.copy(update=replaced), self)

    async def run(self, text: str | None = None, *, instructions: str | None = None) -> list[events.Event]:
        """One turn in text: commits it, allows every call, confirms every handoff, hears everything.

        For notebooks, consoles and tests. With no text and no instructions it runs `enter()`.
        """
        turn = self.enter() if text is None and instructions is None else self.turn(text, instructions=instructions)
        turn.commit()
        seen = []
        async for event in turn:
            seen.append(event)
            hear(turn, event)
        turn.close()
        return seen

    # ---- what happens outside a turn

    def add(self, message: Any, at: float | None = None) -> None:
        """Remember what was said outside a turn (LiveKit's `session.say`).

        Args:
            message: a LangChain message, or what `convert_to_messages` takes.
            at: when, in seconds since the epoch. Default: now.
        """
        self._asides.append(Group(time.time() if at is None else at, convert_to_messages([message])))  # type: ignore[arg-type]
        self._changed()

    async def update_agent(self, name: str, history: history.Operation | None = None) -> None:
        """Give the floor to another agent from outside. LiveKit's `session.update_agent`.

        Args:
            name: the agent.
            history: what it is shown. Default: `fresh()`.

        Raises `TurnError` for a name that is no agent of the graph.
        """
        if name not in self.roles.agents:
            raise TurnError(f'update_agent("{name}"): the agents are {", ".join(sorted(self.roles.agents))}.')
        from graph_voice.history import fresh

        state = self.state
        messages = state.get("messages") or []
        ctx = await resolve(state, operation=history or fresh())
        old = self.active_agent
        self._apply(
            {
                "active_agent": name,
                "handoffs": [handoff_record(old, name, None)],
                "chat_ctx": {**(ctx or {}), "entering": True},
                "contexts": {old: carry(view(state), messages)},
            }
        )

    def update_userdata(self, userdata: U) -> None:
        """Replace the userdata from outside (LiveKit's `session.userdata = ...`)."""
        self._apply({"userdata": userdata})

    def _apply(self, values: Mapping[str, Any]) -> None:
        if self._turns:
            # Behind what the live turns have written so far, so that it is the newest.
            self._turns[-1].wrote(Write("", dict(values)))
        else:
            self._write(self._values, values)
        self._changed()

    # ---- deriving

    def _turn_changed(self, turn: Turn, *, userdata: bool = False) -> None:
        self._changed()
        if userdata and turn.committed and self.on_userdata is not None:
            self.on_userdata()
        if turn.settled and turn.trace is not None:
            self._background(turn.trace.finish(turn))
            turn.trace = None
        if turn.discarded and turn in self._turns:
            self._turns.remove(turn)
        if all(t.settled for t in self._turns if t.committed) and any(t.settled for t in self._turns):
            self._settle()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """End the call: close the turns that are live, let their tools finish, and wait for the trace."""
        for turn in list(self._turns):
            turn.close()
            await turn.wait_finished()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _changed(self) -> None:
        self._derived = None

    def _settle(self) -> None:
        """Nothing of these turns can change any more: they become the base that later ones are derived from."""
        done = [t for t in self._turns if t.settled]
        self._values = self._derive()
        self._asides.clear()
        self._turns = [t for t in self._turns if t not in done]

    def _derive(self) -> dict[str, Any]:
        values = dict(self._values)
        committed = [t for t in self._turns if t.committed]
        for turn in committed:
            for update in turn.record.remembered_writes():
                self._write(values, update)
        groups = [g for t in committed for g in t.record.groups()] + self._asides
        messages = values.get("messages") or []
        for group in sorted(groups, key=lambda g: g.at):
            messages = merge_messages(messages, group.messages if group.raw is None else group.raw)
        values["messages"] = messages
        if "userdata" not in values and "userdata" in self._channels:
            channel = self._channels["userdata"].copy()
            if channel.is_available():
                values["userdata"] = self._values["userdata"] = channel.get()
        return values

    def _write(self, values: dict[str, Any], update: Mapping[str, Any]) -> None:
        for name, value in update.items():
            spec = self._channels.get(name)
            if spec is None or name == "messages":
                continue
            channel = spec.from_checkpoint(values[name]) if name in values else spec.copy()
            channel.update([value])
            if channel.is_available():
                values[name] = channel.get()


def hear(turn: Turn, event: events.Event) -> None:
    """Answer one event as a front end that plays everything and lets everything happen."""
    match event:
        case events.Text(message_id=message_id) | events.Say(message_id=message_id):
            if (found := turn.record.spoken(message_id)) is not None:
                turn.heard(message_id, found[1].produced)
        case events.ToolCalls(calls=calls):
            for call in calls:
                turn.allow(call.id)
        case events.HandedOff(call_id=call_id):
            turn.confirm_handoff(call_id)


@dataclasses.dataclass(frozen=True)
class _Node:
    agent: bool
    start: bool
    ours: bool
    speaks: bool
    speculative: bool


class Roles:
    """Which nodes of a graph are ours, which speak, and whether a run may start before the turn is certain."""

    def __init__(self, graph: Pregel[Any, Any, Any, Any], speak: Sequence[str]) -> None:
        self.nodes: dict[str, _Node] = {}
        for name, node in graph.nodes.items():
            if name.startswith("__"):
                continue
            metadata = node.metadata or {}
            about = metadata.get(METADATA) or {}
            self.nodes[name] = _Node(
                agent="agent" in about,
                ours=("agent" in about and not about.get("subgraph")) or "tools_of" in about,
                start=bool(about.get("start")),
                speaks=bool(metadata.get("speak")) or name in speak,
                speculative=bool(metadata.get("speculative")),
            )
        unknown = set(speak) - set(self.nodes)
        if unknown:
            raise BuildError(f"speak={sorted(unknown)}: the graph's nodes are {', '.join(self.nodes)}.")
        if not any(node.speaks for node in self.nodes.values()):
            raise BuildError(
                'Nobody speaks in this graph: name the nodes, speak=["agent"]. Nodes: ' + ", ".join(self.nodes)
            )
        self.agents = frozenset(name for name, node in self.nodes.items() if node.agent)
        self.foreign_speakers = frozenset(n for n, node in self.nodes.items() if node.speaks and not node.ours)
        self.may_speculate = all(node.ours or node.speculative for node in self.nodes.values())
        self.start = next((name for name, node in self.nodes.items() if node.start), None)

    def is_ours(self, name: str) -> bool:
        return (node := self.nodes.get(name)) is not None and node.ours
