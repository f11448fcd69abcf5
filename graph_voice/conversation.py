"""One call: its live state, and the turns that run on forks of it."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic

from langchain_core.messages import AnyMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.channels.base import BaseChannel
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.types import Interrupt
from typing_extensions import TypeVar

from graph_voice import events
from graph_voice import history as _history
from graph_voice.chat_context import carry, resolve, view
from graph_voice.errors import BuildError, TurnError
from graph_voice.fork import ForkSaver
from graph_voice.graph import require_models, runtime_of
from graph_voice.handoff import AgentHandoff, handoff_record
from graph_voice.live_state import LiveState
from graph_voice.memory import Entry, Group
from graph_voice.pending import Pending
from graph_voice.preparer import Preparer
from graph_voice.roles import Roles
from graph_voice.runner import Runner
from graph_voice.state import merge_messages
from graph_voice.trace import Trace
from graph_voice.turn import Turn, current_turn

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
        channels = {k: c for k, c in self.graph.channels.items() if isinstance(c, BaseChannel)}
        if "messages" not in channels:
            raise BuildError("This graph has no `messages` channel, so there is nothing to speak from or to.")
        self.roles = Roles(self.graph, speak)
        self._order = itertools.count(1)
        self._live = LiveState(channels, merge_messages([], convert_to_messages(list(messages or ()))))
        if userdata is not None:
            self.update_userdata(userdata)
        self._pending: Pending | None = None
        self.summaries = Preparer(self)
        """What a handoff of the active agent may need (`history.summarize`), prepared after each turn."""
        self._running: set[asyncio.Task[Any]] = set()
        self.on_userdata: Callable[[], None] | None = None
        """Called when a node of a committed turn has changed the userdata."""

    # ---- what is remembered

    @property
    def state(self) -> dict[str, Any]:
        """The state as remembered now: what the graph produced, filtered by what was acknowledged."""
        return self._live.values

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

    @property
    def interrupts(self) -> tuple[Interrupt, ...]:
        """What the graph waits for (LangGraph's `interrupt()`); the next `turn(text)` answers the first one."""
        pending = self._waiting()
        return pending.interrupts if pending is not None else ()

    def _waiting(self) -> Pending | None:
        found = self._pending
        for turn in self._live.turns:
            found = _after(found, turn)
        return found

    # ---- turns

    def turn(self, text: str | None = None, *, message_id: str | None = None, instructions: str | None = None) -> Turn:
        """Start a turn. Call it from a running event loop.

        Args:
            text: what the caller said. The turn is speculative until `Turn.commit`. It answers the graph's
                `interrupt()`, when there is one. None: the agent speaks unasked (LiveKit's `generate_reply`), and
                the turn counts from the start.
            message_id: the id of the caller's message in `messages`.
            instructions: for the first reply of this turn only; never stored.

        Raises `ModelError` when an agent of the graph has no model.
        """
        return self._start(Turn(self, text=text, message_id=message_id, instructions=instructions))

    def enter(self) -> Turn:
        """Start a turn in which the active agent takes the floor: its `on_enter`."""
        return self._start(Turn(self, text=None, message_id=None, instructions=None, entering=True))

    def _start(self, turn: Turn) -> Turn:
        # Here, where the program's author sees it: in the run it would be an apology to the caller.
        require_models(self.graph, self.config)
        self._live.turns.append(turn)
        if turn.record.user is None:
            turn.commit()
        self._running.add(task := turn.start(self._run))
        task.add_done_callback(self._running.discard)
        return turn

    async def _run(self, turn: Turn) -> None:
        current_turn.set(turn)
        trace = turn.trace = await Trace.begin(turn, self)
        pending = self._waiting() if turn.record.user is not None else None
        if pending is not None:
            turn.resume(pending.again())
        if not self.roles.may_speculate:
            # A node that is not ours may act, and nobody may act for a turn that may not have happened.
            await turn.wait_committed()
        saver = self._fork(turn, pending)
        replaced: dict[str, Any] = {"checkpointer": saver}
        if self.store is not None:
            replaced["store"] = self.store
        await Runner(turn, self, saver).run(self.graph.copy(update=replaced), self._input(turn), trace.config)

    def _fork(self, turn: Turn, pending: Pending | None) -> ForkSaver:
        if pending is None:
            # Its own words come with the input, behind all others: they are what is to be answered.
            user = turn.record.user
            messages = [m for m in self.state["messages"] if user is None or m.id != user.id]
            return ForkSaver(self._live.checkpoint_values(messages))
        # The run goes on where it stopped: behind the message whose calls wait for the answer, as it was heard.
        own = pending.saver.channel_value("messages") or []
        start = next((i for i, m in enumerate(own) if m.id == pending.asking), len(own))
        asking = [m for m in self.state["messages"] if m.id == pending.asking]
        tail = [*asking, *own[start + len(asking) :]]
        gone = {m.id for m in tail} | {f"result-{call_id}" for call_id in pending.calls}
        before = [m for m in self.state["messages"] if m.id not in gone]
        return ForkSaver(self._live.checkpoint_values([*before, *tail]), pending.saver)

    def _input(self, turn: Turn) -> Any:
        if turn.resumes is not None and turn.record.user is not None:
            return turn.resumes.resume(turn.record.user.text)
        payload: dict[str, Any] = {}
        if turn.record.user is not None:
            payload["messages"] = [turn.record.user]
        if turn.entering:
            payload["chat_ctx"] = {**(self.state.get("chat_ctx") or {}), "entering": True}
        return payload

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
        # What is said twice was said twice: an id that follows from the words would make it one message.
        (said,) = convert_to_messages([message])
        if said.id is None:
            said = said.model_copy(update={"id": f"said-{uuid.uuid4()}"})
        self._live.add(Group(time.time() if at is None else at, merge_messages([], [said]), foreign=True))

    async def update_agent(self, name: str, history: _history.Operation | None = None) -> None:
        """Give the floor to another agent from outside. LiveKit's `session.update_agent`.

        Args:
            name: the agent.
            history: what it is shown. Default: `fresh()`.

        Raises `TurnError` for a name that is no agent of the graph.
        """
        if name not in self.roles.agents:
            raise TurnError(f'update_agent("{name}"): the agents are {", ".join(sorted(self.roles.agents))}.')
        state = self.state
        messages = state.get("messages") or []
        old = self.active_agent
        runtime = runtime_of(self.graph, old)
        ctx = await resolve(
            state,
            model=lambda: runtime.model(self.config) if runtime is not None else None,
            operation=history or _history.fresh(),
            agent=name,
        )
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
        # Behind what the live turns have written so far, so that it is the newest.
        self._live.write(Entry(self.next_order(), dict(values)))

    def next_order(self) -> int:
        """The place of what happens now among all that happens in the call."""
        return next(self._order)

    # ---- a turn says that something about it changed

    def turn_changed(self, turn: Turn, *, userdata: bool = False) -> None:
        self._live.changed()
        if userdata and turn.committed and self.on_userdata is not None:
            self.on_userdata()
        if turn.discarded and turn in self._live.turns:
            self._live.turns.remove(turn)
        if turn.settled and turn.task_done and turn.trace is not None:
            trace, turn.trace = turn.trace, None
            self._running.add(task := asyncio.create_task(trace.finish(turn)))
            task.add_done_callback(self._running.discard)
        if turn.settled:
            self.summaries.prepare()
            for past in self._live.fold():
                self._pending = _after(self._pending, past)

    async def aclose(self) -> None:
        """End the call: close the turns that are live, let their tools finish, and wait for the trace."""
        for turn in list(self._live.turns):
            turn.close()
        while self._running:
            await asyncio.wait(self._running)
        await self.summaries.aclose()


def _after(pending: Pending | None, turn: Turn) -> Pending | None:
    """What the graph waits for after this turn, when it waited for `pending` before."""
    if not turn.committed:
        return pending
    if turn.resumes is not None and pending is not None and turn.resumes.saver is pending.saver:
        pending = None
    # What was asked behind a handoff that did not happen was not asked.
    return turn.pending if turn.pending is not None and turn.record.floor_is_certain else pending


def hear(turn: Turn, event: events.Event) -> None:
    """Answer one event as a front end that plays everything and lets everything happen."""
    match event:
        case (
            events.Text(message_id=message_id)
            | events.Say(message_id=message_id)
            | events.Interrupt(message_id=message_id)
        ):
            if (found := turn.record.spoken(message_id)) is not None:
                turn.heard(message_id, found[1].produced)
        case events.ToolCalls(calls=calls):
            for call in calls:
                turn.allow(call.id)
        case events.HandedOff(call_id=call_id):
            turn.confirm_handoff(call_id)
