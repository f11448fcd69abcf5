"""One call: its live state, and the turns that run on forks of it."""

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
from graph_voice.call.head_start import HeadStart
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
        userdata: the caller's facts at the beginning. Default: the userdata class without arguments.
        messages: a conversation that went before.
        context: LangGraph's run context, for every turn.
        store: LangGraph's store, for every turn. Default: the compiled graph's.
        config: a LangChain `RunnableConfig` for every turn: callbacks, tags, metadata, `configurable`.
        speak: nodes that speak, besides those that say so by their metadata.
        silent: nodes with which a turn may end without a word (`metadata={"silent": True}` says the same). Behind any
            other node, the caller hears the apology when nothing was said.
        apology: said when a model or a node fails, and when nothing was said: a text, or a function of the userdata.
            Default: the graph's own.
        saver: where the call is stored while it goes on: a `LiveSaver`, or any LangGraph checkpointer, which is then
            put behind one. The same `thread_id` goes on from there, in another process too: `await open()` first.

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
        """What a handoff of the active agent may need (`history.summarize`), prepared after each turn."""
        self.compaction = Compaction(self)
        """Keeps the active agent's context short (`Agent(context=...)`), after each turn."""
        self.late = LateResults()
        """Results that came after the caller was answered without them."""
        self._durable = Durable(self, self._live, saver, self._waiting) if saver is not None else None
        if self._durable is not None:
            self._live.on_change = self._durable.changed
        self._running: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self.traces = CallTrace(self, lambda: self.durable_lag)
        self._ahead = HeadStart(self, self._live, lambda: Turn(self), self._run)
        self.on_userdata: Callable[[], None] | None = None
        """Called when a node of a committed turn has changed the userdata."""
        self.on_late_result: Callable[[], None] | None = None
        """Called when there is something that `announce` would speak of."""
        self.on_event: Callable[[Turn, events.Event], None] | None = None
        """Called with each event of each turn when it happens in the graph, before the front end takes it; discarded
        turns have some as well. For logs and tests."""
        self.on_tool: Callable[[ToolRun], None] | None = None
        """Called when the code of a tool begins to run in a turn, and when it has ended. For logs and tests."""

    def __repr__(self) -> str:
        said, taken = len(self.messages), len(self.handoffs)
        return (
            f"<Conversation {self.thread_id!r}: {self.active_agent or 'nobody'} has the floor, "
            f"{said} message{'s' * (said != 1)}, {taken} handoff{'s' * (taken != 1)}>"
        )

    # ---- the durable copy

    async def open(self, *, patience: float | None = None) -> Self:
        """Read what the thread holds already, once, before the first turn. Without a saver there is nothing to do.

        Args:
            patience: seconds after which a store that fails or does not answer is no longer waited for: that is
                logged, and the call goes on as a new one. Default: to wait, and to raise what the saver raises.
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
        """In which state `open()` found a call that another process had left. None: it is new."""
        return self._durable.resumed if self._durable is not None else None

    def resume(self, instructions: str | None = None) -> Turn:
        """Start the turn in which the active agent takes the call up again: `resumed` says where it was.

        Idempotent tools that were running run again first, with the same `tool_call_id`.

        Args:
            instructions: for the words with which it does. Default: to say so, and to go on where the call was.
        """
        turn = Turn(self, instructions=instructions or RESUME)
        if self._durable is not None and (batch := self._durable.take_batch()) is not None:
            turn.resume(batch)
        return self._start(turn)

    def store_now(self) -> int | None:
        """Write what is remembered now, without waiting for more. Returns what `stored` takes to wait for just that."""
        return self._durable.journal.hurry() if self._durable is not None and self._durable.opened else None

    async def stored(self, upto: int | None = None) -> bool:
        """Return when all that is remembered now is durable. False: the store is late, and the call goes on.

        Args:
            upto: what `store_now` has returned: what came later is not waited for.
        """
        return await self._durable.stored(upto) if self._durable is not None else True

    @property
    def durable_lag(self) -> float:
        """Seconds by which the durable copy is behind; 0 when it is not, or there is none."""
        return self._durable.saver.lag.seconds if self._durable is not None else 0.0

    async def flush(self, timeout: float | None = None) -> None:
        """Return when all that is remembered now is durable. Raises `SaverError` when `timeout` seconds are over."""
        if self._durable is not None:
            await self._durable.flush(timeout)

    @property
    def closed(self) -> bool:
        """The call is over, or about to be: `aclose()` has been called."""
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
            text: what the caller said, in words or in LangChain's content blocks (an image that is shown:
                `{"type": "image", "url": ...}`). The turn is speculative until `Turn.commit`. It answers the graph's
                `interrupt()`, when there is one. None: the agent speaks unasked (LiveKit's `generate_reply`), and
                the turn counts from the start.
            message_id: the id of the caller's message in `messages`.
            instructions: for the first reply of this turn only; never stored.
            options: what else is asked of this turn's replies; never stored.

        Raises `ModelError` when an agent of the graph has no model, and `TurnError` when the call is over.
        """
        self._require_open()
        user = self.user_message(text, message_id) if text is not None else None
        too_late = self._durable is not None and self._durable.saver.is_too_late
        early = not too_late and self._handing_over() is None
        if user is not None and early and (turn := self._ahead.take()) is not None:
            turn.begin_with(user, instructions, options)
            return self._start(turn)
        return self._start(Turn(self, user=user, instructions=instructions, options=options))

    def expect_turn(self) -> None:
        """Begin the run of the caller's next turn, as far as it does without their words. Returns at once.

        A front end says so when the caller begins to speak, or when a turn is over: the time from the words to the
        first token is then the prompt's and the model's. It is worth nothing, and does no harm, when something is
        remembered before the turn begins. Graphs with nodes that are not ours, and runs that are traced, begin with
        the caller's words.
        """
        if not self.closed and self._handing_over() is None:
            self._ahead.begin()

    def enter(self) -> Turn:
        """Start a turn in which the active agent takes the floor: its `on_enter`."""
        return self._start(Turn(self, entering=True))

    def announce(self) -> Turn | None:
        """Start a turn in which the active agent speaks by itself of the tool results that have come late.

        A result is late when it comes after a barge-in: the caller was answered while the call was still running.
        All that have come by now are spoken of together. None: there is nothing to say, since no result is late, a
        reply that the caller has heard knew it already, the tool is declared `late="merge"`, or the call is over.

        Call it when `on_late_result` asks for it, as soon as nobody speaks and no reply is being made.
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
        """The turn whose words are on their way to the caller, as far as the front end has said (`Turn.heard`)."""
        return next((turn for turn in self._live.turns if turn.unreported is not None), None)

    def _require_open(self) -> None:
        if self._durable is not None:
            self._durable.require_open()
        # Here, where the program's author sees it: in the run it would be an apology to the caller.
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
        running.set(None)  # of a tool whose code, or LiveKit for it, has begun this turn
        prepared_summaries.set(self.summaries)
        trace = await self.traces.begin(turn)
        if self._durable is not None and (words := self._durable.closing_message()) is not None:
            await turn.end_call(words)
            return
        if not self.roles.may_speculate:
            # A node that is not ours may act, and nobody may act for a turn that may not have happened.
            await turn.wait_committed()
        while (leaving := self._handing_over(turn)) is not None:
            # The front end has the new agent already, and the words are for it: they wait for the old one's `on_exit`.
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
        """A turn in which the active agent has changed, and the graph has not written it yet."""
        return next((t for t in self._live.turns if t is not but and t.is_handing_over), None)

    async def _run_graph(self, turn: Turn, pending: Pending | None, trace: Trace) -> None:
        saver = self._fork(turn, pending)
        replaced: dict[str, Any] = {"checkpointer": saver}
        if self.store is not None:
            replaced["store"] = self.store
        await Runner(turn, self, saver).run(self.graph.copy(update=replaced), self._input(turn), trace.config)

    def _fork(self, turn: Turn, pending: Pending | None) -> RunSaver:
        if pending is None:
            # Its own words come with the input, behind all others: they are what is to be answered.
            user = turn.record.user
            messages = [m for m in self.state["messages"] if user is None or m.id != user.id]
            return RunSaver(self._live.checkpoint_values(messages))
        # The run goes on where it stopped: behind the message whose calls wait for the answer, as it was heard.
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
        if turn.record.user is not None and turn.began_in is None:
            payload["messages"] = [turn.record.user]
        if turn.entering:
            payload["chat_ctx"] = {**(self.state.get("chat_ctx") or {}), "entering": True}
        return payload

    async def run(
        self, text: Content | None = None, *, instructions: str | None = None, turn: Turn | None = None
    ) -> list[events.Event]:
        """One turn in text: commits it, allows every call, confirms every handoff, hears everything.

        For notebooks, consoles and tests. With no arguments it runs `enter()`. When it is cancelled (a time limit),
        that is a barge-in: a tool that runs goes on, and its result comes late.

        Args:
            text: what the caller says.
            instructions: for the first reply of this turn only.
            turn: one that was started already, such as `announce()` gives.
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
        """Give feedback on the call in LangSmith: on its last turn, which stands for all until then. Returns at once.

        Args:
            key: what is judged, such as "resolved".
            score: a number.
            value: what is no number: a category, a text.
            comment: why.

        Returns False when no turn was traced. It never raises: what LangSmith refuses is logged.
        """
        last = next((turn for turn in reversed(self._live.turns) if turn.committed), None)
        return self.traces.score(last, Score(key, score, value, comment))

    def score_turn(self, turn: Turn, score: Score) -> bool:
        """Give feedback on this turn; see `Turn.score`."""
        return self.traces.score(turn, score)

    # ---- a turn says that something about it changed

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
        """Ask the front end to announce what has come late, if something has."""
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

        `on_exit` finds the reason as `ctx.close_reason`. What it would say is not said: nobody is on the line. If it
        raises, that is logged. What it changes in the userdata counts. Afterwards nothing of this call runs, and no
        turn can begin. A second call waits for the first; the first reason counts.

        Args:
            reason: why the call ends. LiveKit's words (its `CloseReason`) are "user_initiated",
                "participant_disconnected", "job_shutdown", "task_completed" and "error"; a front end may have others.
            timeout: seconds that running tools may take, and then `on_exit`. What takes longer is cancelled, and a
                tool's call is answered so that its outcome is unknown. None waits for as long as it takes.
            flush_timeout: seconds that the durable copy may then take to have all of it. None waits as long as it
                takes.

        Raises `SaverError` when it has not.

        Inside of a tool, a hook or a node, which it would wait for, it returns at once: the call ends behind them. To
        end it behind the agent's last words, write `ctx.end_call()`.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(reason, timeout, flush_timeout), name="graph_voice.close")
            self._closing.add_done_callback(_log_late_copy)
        if not _inside_a_turn():
            await asyncio.shield(self._closing)

    async def abandon(self) -> None:
        """Stop everything as if the process had ended here: from now on nothing is done, remembered or stored.

        For tests of what another process makes of it: `graph_voice.testing.Call.crash`.
        """
        self._closing = asyncio.create_task(asyncio.sleep(0), name="graph_voice.close")
        self.on_event = self.on_tool = self.on_userdata = self.on_late_result = None
        self._live.on_change = lambda: None
        if self._durable is not None:
            await self._durable.abandon()
        for turn in self._live.turns:
            turn.cancel()
        await self._ahead.aclose()
        await stop(self._running, 0)
        await self.compaction.aclose()
        await self.summaries.aclose()

    async def _close(self, reason: str, timeout: float | None, flush_timeout: float | None) -> None:
        current_turn.set(None)
        running.set(None)
        await self._ahead.aclose()
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
    """Whether code that a turn waits for is running here, and not something that it has started."""
    ctx = running.get()
    return current_turn.get() is not None or (ctx is not None and not ctx.over)


def _log_late_copy(closing: "asyncio.Task[None]") -> None:
    """Nobody may wait for the end of a call that one of its own tools has closed."""
    if not closing.cancelled() and (error := closing.exception()) is not None:
        logger.error("the end of the call: %s", error)


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
