"""One call: its live state, and the turns that run on forks of that state."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore

from graph_voice import events
from graph_voice.agents.run_context import running
from graph_voice.call.compaction import Compaction
from graph_voice.call.durable import RESUME, Durable, Resumed
from graph_voice.call.ending import CLOSE_TIMEOUT, leave_call, stop
from graph_voice.call.prefetched_summaries import PrefetchedSummaries
from graph_voice.call.runner import Runner
from graph_voice.call.state import CallState, U, pending_after
from graph_voice.call.trace import CallTrace, Trace
from graph_voice.errors import TurnError
from graph_voice.graph.agent_runtime import Apology
from graph_voice.graph.build import require_models
from graph_voice.history.summaries import prepared_summaries
from graph_voice.messages.content import Content
from graph_voice.secrets.spoken import words_of
from graph_voice.storage.run_saver import RunSaver
from graph_voice.tracing.feedback import Score
from graph_voice.turn.gate import AnsweredAlready
from graph_voice.turn.late_results import LateResults, announcement
from graph_voice.turn.pending import Pending
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.turn.tool_run import ToolRun
from graph_voice.turn.turn import Turn, current_turn

__all__ = ["Conversation"]

logger = logging.getLogger("graph_voice")


class Conversation(CallState[U]):
    """One call on a voice graph: what was said and done so far, and the turns that are running.

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not, or any compiled graph with a `messages`
            channel (then `speak` names who speaks).
        thread_id: the call's name in LangGraph and LangSmith. Default: a new one.
        userdata: the initial userdata. Default: the userdata class without arguments.
        messages: an earlier conversation to continue.
        context: LangGraph's run context, for every turn.
        store: LangGraph's store, for every turn. Default: the compiled graph's.
        config: a LangChain `RunnableConfig` for every turn: callbacks, tags, metadata, `configurable`.
        speak: nodes that speak, besides those whose metadata says so.
        silent: nodes with which a turn may end without speech, as with `metadata={"silent": True}`. When a turn ends
            with another node and nothing was said, the caller hears the apology.
        apology: said when a model or a node fails, and when nothing was said: a text, or a function of the userdata.
            Default: the graph's own.
        saver: where the call is stored while it goes on: a `LiveSaver`, or any LangGraph checkpointer, which is then
            wrapped in one. The same `thread_id` continues from there, even in another process: `await open()` first.

    Raises `BuildError` when the graph has no `messages` channel, or no node in it speaks.
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
        silent: Sequence[str] = (),
        apology: Apology | None = None,
        saver: BaseCheckpointSaver[Any] | None = None,
    ) -> None:
        super().__init__(
            graph,
            thread_id=thread_id,
            userdata=userdata,
            messages=messages,
            context=context,
            store=store,
            config=config,
            speak=speak,
            silent=silent,
            apology=apology,
        )
        self.summaries = PrefetchedSummaries(self)
        """Summaries that a handoff of the active agent may need (`history.summarize`), prepared after each turn."""
        self.compaction = Compaction(self)
        """Keeps the active agent's context short (`Agent(context=...)`), after each turn."""
        self.late = LateResults()
        """Tool results that came after the caller was answered without them."""
        self._durable = Durable(self, self._live, saver, self._waiting) if saver is not None else None
        if self._durable is not None:
            self._live.on_change = self._durable.changed
        self._running: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self.traces = CallTrace(self, lambda: self.durable_lag)
        self.on_userdata: Callable[[], None] | None = None
        """Called when a node of a committed turn has changed the userdata."""
        self.on_late_result: Callable[[], None] | None = None
        """Called when there are late results for `announce` to report."""
        self.on_event: Callable[[Turn, events.Event], None] | None = None
        """Called with each event of each turn, even a discarded one, when it happens in the graph and before the
        front end takes it. For logs and tests."""
        self.on_tool: Callable[[ToolRun], None] | None = None
        """Called when a tool's code starts in a turn, and when it ends. For logs and tests."""

    def __repr__(self) -> str:
        said, taken = len(self.messages), len(self.handoffs)
        return (
            f"<Conversation {self.thread_id!r}: {self.active_agent or 'nobody'} is active, "
            f"{said} message{'s' * (said != 1)}, {taken} handoff{'s' * (taken != 1)}>"
        )

    # ---- the durable copy

    async def open(self, *, patience: float | None = None) -> Self:
        """Read what the thread already holds, once, before the first turn. Without a saver this does nothing.

        Args:
            patience: seconds to wait for a store that fails or does not answer. Then the failure is logged, and the
                call goes on as a new one. Default: wait without a limit, and raise what the saver raises.
        """
        if self._durable is not None and not self._durable.opened:
            self._pending = await self._durable.open(patience)
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def resumed(self) -> Resumed | None:
        """The state in which `open()` found a call that another process had left. None: the call is new."""
        return self._durable.resumed if self._durable is not None else None

    def resume(self, instructions: str | None = None) -> Turn:
        """Start the turn in which the active agent resumes the call. `resumed` says in which state the call was.

        Idempotent tools that were running run again first, with the same `tool_call_id`.

        Args:
            instructions: for this reply. Default: say that the call is connected again, and go on where it was.
        """
        turn = Turn(self, instructions=instructions or RESUME)
        if self._durable is not None and (batch := self._durable.take_batch()) is not None:
            turn.resume(batch)
        return self._start(turn)

    def store_now(self) -> int | None:
        """Write what is remembered now, without waiting for more. Returns the position for `stored(upto)`."""
        return self._durable.journal.hurry() if self._durable is not None and self._durable.opened else None

    async def stored(self, upto: int | None = None) -> bool:
        """Wait until all that is remembered now is durable. Returns False when the store is late: the call goes on.

        Args:
            upto: what `store_now` returned. What came later is not waited for.
        """
        return await self._durable.stored(upto) if self._durable is not None else True

    @property
    def durable_lag(self) -> float:
        """How many seconds the durable copy is behind; 0 when it is up to date, or there is none."""
        return self._durable.saver.lag.seconds if self._durable is not None else 0.0

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all that is remembered now is durable. Raises `SaverError` after `timeout` seconds."""
        if self._durable is not None:
            await self._durable.flush(timeout)

    @property
    def closed(self) -> bool:
        """Whether the call is over or ending: `aclose()` has been called."""
        return self._closing is not None

    # ---- turns

    def turn(
        self,
        text: Content | None = None,
        *,
        message_id: str | None = None,
        instructions: str | None = None,
        options: ReplyOptions | None = None,
    ) -> Turn:
        """Start a turn. Call it from a running event loop.

        Args:
            text: what the caller said, as a string or as LangChain's content blocks (an image is
                `{"type": "image", "url": ...}`). The turn is speculative until `Turn.commit`. If the graph waits in
                `interrupt()`, this is the answer. None: the agent speaks unasked (LiveKit's `generate_reply`), and
                the turn is committed from the start.
            message_id: the id of the caller's message in `messages`.
            instructions: for the first reply of this turn only; never stored.
            options: further options for this turn's replies; never stored.

        Raises `ModelError` when an agent of the graph has no model, and `TurnError` when the call is over.
        """
        self._require_open()
        user = self.user_message(text, message_id) if text is not None else None
        return self._start(Turn(self, user=user, instructions=instructions, options=options))

    def enter(self) -> Turn:
        """Start the turn with which the active agent enters the call: its `on_enter`."""
        return self._start(Turn(self, entering=True))

    def announce(self) -> Turn | None:
        """Start a turn in which the active agent reports, unasked, the tool results that came late.

        A result is late when it comes after an interruption: the caller was answered while the tool was still running.
        All late results so far are reported together. Returns None when there is nothing to report: no result is late,
        the caller has heard a reply that knew it, the tool is declared `late="merge"`, or the call is over.

        Call it when `on_late_result` asks for it, as soon as nobody speaks and no reply is being generated.
        """
        due = self.late.due()
        if not due or self.closed or self.active_agent not in self.roles.agents:
            return None
        turn = self.turn(instructions=announcement(due, self.chat_ctx))
        for late in due:
            late.announcements.append(turn)
        return turn

    @property
    def speaker(self) -> Turn | None:
        """The turn whose speech the front end has not reported yet (`Turn.heard`)."""
        return next((turn for turn in self._live.turns if turn.unreported is not None), None)

    def _require_open(self) -> None:
        if self._durable is not None:
            self._durable.require_open()
        # Raise here, where the program's author sees it. During the run it would become an apology to the caller.
        require_models(self.graph, self.config)
        if self.closed:
            raise TurnError("This call is over (aclose()), so no turn can begin. Make another Conversation.")

    def _start(self, turn: Turn) -> Turn:
        self._require_open()
        self._live.turns.append(turn)
        if turn.record.user is None:
            turn.commit()
        self._running.add(task := turn.start(self._run))
        task.add_done_callback(self._running.discard)
        return turn

    async def _run(self, turn: Turn) -> None:
        current_turn.set(turn)
        running.set(None)  # set when the code of a tool, or LiveKit for it, started this turn
        prepared_summaries.set(self.summaries)
        trace = await self.traces.begin(turn)
        if self._durable is not None and (words := self._durable.closing_message()) is not None:
            await turn.end_call(words)
            return
        if not self.roles.may_speculate:
            # A custom node may act, and nothing may act for a turn that may not have happened.
            await turn.wait_committed()
        while (leaving := self._handing_over(turn)) is not None:
            # The front end has changed agents already, so the words are for the new one. Wait for the old `on_exit`.
            await leaving.wait_handed_over()
        pending = self._waiting() if turn.record.user is not None else turn.resumes
        if pending is not None and turn.resumes is None:
            turn.resume(pending.again())
        try:
            await self._run_graph(turn, pending, trace)
        except AnsweredAlready:
            turn.answers_nothing()
            await self._run_graph(turn, None, trace)

    def _handing_over(self, but: Turn | None = None) -> Turn | None:
        """A turn whose handoff has happened but is not written by the graph yet."""
        return next((t for t in self._live.turns if t is not but and t.is_handing_over), None)

    async def _run_graph(self, turn: Turn, pending: Pending | None, trace: Trace) -> None:
        saver = self._fork(turn, pending)
        replaced: dict[str, Any] = {"checkpointer": saver}
        if self.store is not None:
            replaced["store"] = self.store
        await Runner(turn, self, saver).run(self.graph.copy(update=replaced), self._input(turn), trace.config)

    def _fork(self, turn: Turn, pending: Pending | None) -> RunSaver:
        if pending is None:
            # The caller's words come last, with the input: they are what the agent must answer.
            user = turn.record.user
            messages = [m for m in self.state["messages"] if user is None or m.id != user.id]
            return RunSaver(self._live.checkpoint_values(messages))
        # The run resumes after the message whose tool calls wait for the answer, with its text as it was heard.
        heard = {m.id: m for m in self.state["messages"] if m.id == pending.asking}
        own = pending.own(pending.saver.channel_value(self._messages_channel) or [])
        tail = [heard.get(m.id, m) for m in own]
        gone = {m.id for m in tail} | {f"result-{call_id}" for call_id in pending.calls}
        before = [m for m in self.state["messages"] if m.id not in gone]
        return RunSaver(self._live.checkpoint_values([*before, *tail]), pending.saver)

    def _input(self, turn: Turn) -> Any:
        if turn.resumes is not None and turn.record.user is not None:
            return turn.resumes.resume(words_of(turn.record.user))
        payload: dict[str, Any] = {}
        if turn.record.user is not None:
            payload["messages"] = [turn.record.user]
        if turn.entering:
            payload["chat_ctx"] = {**(self.state.get("chat_ctx") or {}), "entering": True}
        return payload

    async def run(
        self, text: Content | None = None, *, instructions: str | None = None, turn: Turn | None = None
    ) -> list[events.Event]:
        """Run one turn in text: commit it, allow every tool call, confirm every handoff, hear everything.

        For notebooks, consoles and tests. Without arguments it runs `enter()`. A cancellation (a time limit) is an
        interruption: a running tool goes on, and its result comes late.

        Args:
            text: what the caller says.
            instructions: for the first reply of this turn only.
            turn: a turn that was already started, such as one from `announce()`.
        """
        if turn is None:
            turn = self.enter() if text is None and instructions is None else self.turn(text, instructions=instructions)
        turn.commit()
        seen = []
        try:
            async for event in turn:
                seen.append(event)
                hear(turn, event)
        finally:
            turn.close()
        return seen

    def score(
        self,
        key: str,
        score: float | bool | None = None,
        *,
        value: str | dict[str, Any] | None = None,
        comment: str | None = None,
    ) -> bool:
        """Give feedback on the call in LangSmith, on its last turn, which stands for the whole call. Returns at once.

        Args:
            key: what is judged, such as "resolved".
            score: a number.
            value: a value that is not a number: a category, a text.
            comment: why.

        Returns False when no turn was traced. Never raises: what LangSmith refuses is logged.
        """
        last = next((turn for turn in reversed(self._live.turns) if turn.committed), None)
        return self.traces.score(last, Score(key, score, value, comment))

    def score_turn(self, turn: Turn, score: Score) -> bool:
        """Give feedback on this turn; see `Turn.score`."""
        return self.traces.score(turn, score)

    # ---- a turn reports a change

    def turn_changed(self, turn: Turn, *, userdata: bool = False) -> None:
        self._live.changed()
        if userdata and turn.committed and self.on_userdata is not None:
            self.on_userdata()
        if turn.discarded and turn in self._live.turns:
            self._live.turns.remove(turn)
        if turn.settled and turn.task_done and (trace := self.traces.take_open(turn)) is not None:
            self._running.add(task := asyncio.create_task(trace.finish(turn)))
            task.add_done_callback(self._running.discard)
        if turn.settled:
            self.tell_late()
            self.compaction.begin()
            self.summaries.prepare()
            for past in self._live.fold():
                self._pending = pending_after(self._pending, past)

    def tell_late(self) -> None:
        """Ask the front end to announce the late results, if there are any."""
        if self.late.due() and self.on_late_result is not None and not self.closed:
            self.on_late_result()

    async def aclose(
        self,
        reason: str = "user_initiated",
        *,
        timeout: float | None = CLOSE_TIMEOUT,
        flush_timeout: float | None = CLOSE_TIMEOUT,
    ) -> None:
        """End the call. Running tools finish and are remembered, then the active agent's `on_exit` runs, once.

        `on_exit` gets the reason as `ctx.close_reason`. Nothing it says is spoken, since nobody is on the line. If it
        raises, the error is logged. Its changes to the userdata count. Afterwards nothing of this call runs, and no
        turn can begin. If `aclose` is called twice, the second one waits for the first, whose reason counts.

        Args:
            reason: why the call ends. LiveKit's words (its `CloseReason`) are "user_initiated",
                "participant_disconnected", "job_shutdown", "task_completed" and "error"; a front end may have others.
            timeout: seconds that running tools may take, and then `on_exit`. What takes longer is cancelled; a
                cancelled tool call's outcome is reported as unknown. None: no limit.
            flush_timeout: seconds until the durable copy must be complete. None: no limit.

        Raises `SaverError` when the durable copy is not complete by then.

        Inside a tool, a hook or a node, `aclose` returns at once, since it would wait for them; the call ends after
        them. To end the call after the agent's closing message, use `ctx.end_call()`.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(reason, timeout, flush_timeout), name="graph_voice.close")
            self._closing.add_done_callback(_log_late_copy)
        if not _inside_a_turn():
            await asyncio.shield(self._closing)

    async def abandon(self) -> None:
        """Stop everything as if the process had ended here. From now on nothing is done, remembered or stored.

        For tests of how another process resumes the call: `graph_voice.testing.Call.crash`.
        """
        self._closing = asyncio.create_task(asyncio.sleep(0), name="graph_voice.close")
        self.on_event = self.on_tool = self.on_userdata = self.on_late_result = None
        self._live.on_change = lambda: None
        if self._durable is not None:
            await self._durable.abandon()
        for turn in self._live.turns:
            turn.cancel()
        await stop(self._running, 0)
        await self.compaction.aclose()
        await self.summaries.aclose()

    async def _close(self, reason: str, timeout: float | None, flush_timeout: float | None) -> None:
        current_turn.set(None)
        running.set(None)
        for turn in list(self._live.turns):
            turn.close()
        await stop(self._running, timeout)
        await self.compaction.aclose()
        await self.summaries.aclose()
        if update := await leave_call(self, self.traces, reason, timeout):
            self._apply(update)
            if self.on_userdata is not None:
                self.on_userdata()
        self.traces.close()
        if self._durable is not None:
            await self._durable.aclose(flush_timeout)


def _inside_a_turn() -> bool:
    """Whether this code is part of a turn that waits for it, not something the turn has started."""
    ctx = running.get()
    return current_turn.get() is not None or (ctx is not None and not ctx.over)


def _log_late_copy(closing: "asyncio.Task[None]") -> None:
    """Log a failure, since nobody may be waiting: one of the call's own tools may have closed it."""
    if not closing.cancelled() and (error := closing.exception()) is not None:
        logger.error("the end of the call: %s", error)


def hear(turn: Turn, event: events.Event) -> None:
    """Answer one event like a front end that plays everything and allows everything."""
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
