"""One call as it runs: its turns on forks of what is remembered, its durable copy, its traces, its end."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver

from graph_voice import events
from graph_voice.agents.idle import Idle
from graph_voice.agents.run_context import running
from graph_voice.agents.toolsets_in_use import Lease
from graph_voice.call.compaction import Compaction
from graph_voice.call.custom_delivery import CustomDelivery, OnCustom
from graph_voice.call.durable import Durable
from graph_voice.call.ending import leave_call, stop
from graph_voice.call.prefetched_summaries import PrefetchedSummaries
from graph_voice.call.remote import RemoteRun, RemoteThread
from graph_voice.call.runner import Runner
from graph_voice.call.silence import Silence
from graph_voice.call.state import CallState
from graph_voice.call.trace import CallTrace, Trace
from graph_voice.errors import TurnError
from graph_voice.graph.build import require_models, runtime_of, toolsets_of
from graph_voice.graph.frames import stack_of
from graph_voice.history.summaries import prepared_summaries
from graph_voice.secrets.spoken import words_of
from graph_voice.storage.run_saver import RunSaver
from graph_voice.tracing.feedback import Score
from graph_voice.turn.gate import AnsweredAlready
from graph_voice.turn.late_results import LateResults
from graph_voice.turn.nodes_side import NodesSide, current_turn
from graph_voice.turn.pending import Pending
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.turn.run import TurnRun
from graph_voice.turn.running_tools import RunningTools
from graph_voice.turn.tool_run import ToolRun
from graph_voice.turn.turn import Turn

__all__ = ["Call"]

logger = logging.getLogger("graph_voice")
M = TypeVar("M", bound=BaseMessage)


class Call:
    """The inside of one call. `Conversation` is what a user sees of it.

    Args:
        state: what is remembered.
        saver: where the call is stored while it goes on.
        on_custom: called with custom data.
    """

    def __init__(
        self, state: CallState[Any], saver: BaseCheckpointSaver[Any] | None, on_custom: OnCustom | None = None
    ) -> None:
        self.state = state
        self.roles = state.roles
        self.graph = state.graph
        self.summaries = PrefetchedSummaries(state)
        """Summaries that a handoff of the active agent may need (`history.summarize`), prepared after each turn."""
        self.compaction = Compaction(state)
        """Keeps the active agent's context short (`Agent(context=...)`), after each turn."""
        self.custom = CustomDelivery(on_custom)
        """Brings what tools and nodes write with `get_stream_writer()` to the program."""
        self.silence = Silence(state.live, self._idle)
        """Counts the caller's silence for a front end that nudges: `Idle`, `Conversation.nudge`."""
        self.late = LateResults()
        """Tool results that came after the caller was answered without them."""
        self.running_tools = RunningTools()
        """The tool calls that run now, whatever turn they are of."""
        self.durable = Durable(state, state.live, saver, state.waiting) if saver is not None else None
        if self.durable is not None:
            state.live.on_change = self.durable.changed
        self.traces = CallTrace(state, lambda: self.durable_lag)
        self.modality: events.Modality = "text"
        """How the caller's words of the last turn came. A front end sets how those of the first will come."""
        self.on_userdata: Callable[[], None] | None = None
        """Called when a node of a committed turn has changed the userdata."""
        self.on_late_result: Callable[[], None] | None = None
        """Called when there are late results for `Conversation.announce` to report."""
        self.on_event: Callable[[Turn, events.Event], None] | None = None
        """Called with each event of each turn, even a discarded one, when it happens in the graph and before the
        front end takes it. For logs and tests."""
        self.on_line: Callable[[AIMessage], None] | None = None
        """Called when an agent has spoken outside a turn (LiveKit's `session.say`). For logs and tests."""
        self.on_tool: Callable[[ToolRun], None] | None = None
        """Called when a tool's code starts in a turn, and when it ends. For logs and tests."""
        self.offers: Callable[[str, Sequence[BaseTool]], Sequence[BaseTool]] | None = None
        """For a front end that has tools of its own: what an agent's model may call, if the agent declares these.

        It runs the tool calls of its tools itself: `Turn.begin`, `Turn.resolve`."""
        self.front_end_tasks: frozenset[str] = frozenset()
        """The external tasks that the front end runs."""
        self._running: set[asyncio.Task[Any]] = set()
        self._going_on: set[tuple[str, str | None, int]] = set()
        """The tool calls that have gone on after their tasks had ended: frame, tool call, results."""
        self._closing: asyncio.Task[None] | None = None
        self.toolsets = Lease(toolsets_of(state.graph))
        """The toolsets of the agents, which are in use from the call's begin to its end."""

    # ---- what a turn asks (`TurnOwner`)

    def offered(self, agent: str, own: Sequence[BaseTool]) -> Sequence[BaseTool]:
        return own if self.offers is None else self.offers(agent, own)

    def acts_behind(self, node: str) -> bool:
        return self.roles.acts_behind(node)

    def runs_task(self, task: str) -> bool:
        return task in self.front_end_tasks

    @property
    def messages(self) -> Sequence[AnyMessage]:
        return self.state.messages

    @property
    def apology(self) -> str:
        return self.state.apology

    def words_of_question(self, question: Any) -> str:
        return self.state.words_of_question(question)

    @property
    def active_agent(self) -> str | None:
        return self.state.live.others.get("active_agent")

    @property
    def default_speaker(self) -> str:
        return self.state.default_speaker

    @property
    def speaker(self) -> TurnRun | None:
        return next((turn for turn in self.state.live.turns if turn.unreported is not None), None)

    def is_library(self, node: str) -> bool:
        return self.roles.is_library(node)

    def asks(self, pending: Pending) -> bool:
        return self.state.asks(pending)

    def next_order(self) -> int:
        return self.state.next_order()

    def goes_on(self, frame: str, call_id: str | None, results: int) -> bool:
        key = (frame, call_id, results)
        there = any(found["id"] == frame for found in stack_of(self.state.live.others))
        if key in self._going_on or not there:
            return False
        self._going_on.add(key)
        return True

    def redact(self, message: M) -> M:
        return self.state.redact(message)

    def without_secrets(self, text: str) -> str:
        return self.state.without_secrets(text)

    def add(self, message: Any, at: float | None = None) -> None:
        self.state.add(message, at)

    def said_outside_a_turn(self, said: BaseMessage) -> None:
        """The front end has reported this, which no turn has produced."""
        if self.on_line is not None and isinstance(said, AIMessage):
            self.on_line(said)

    def store_now(self) -> int | None:
        return self.durable.journal.hurry() if self.durable is not None and self.durable.opened else None

    async def stored(self, upto: int | None = None) -> bool:
        return await self.durable.stored(upto) if self.durable is not None else True

    @property
    def durable_lag(self) -> float:
        """How many seconds the durable copy is behind; 0 when it is up to date, or there is none."""
        return self.durable.seconds_behind if self.durable is not None else 0.0

    def score_turn(self, turn: TurnRun | None, score: Score) -> bool:
        return self.traces.score(turn, score)

    def turn_event(self, turn: TurnRun, event: events.Event) -> None:
        if self.on_event is not None:
            self.on_event(turn.face, event)
        if isinstance(event, events.Custom):
            self.custom.deliver(event)

    def turn_changed(self, turn: TurnRun, *, userdata: bool = False) -> None:
        live = self.state.live
        live.changed()
        if userdata and turn.state.happened and self.on_userdata is not None:
            self.on_userdata()
        if not turn.state.happened and turn.state.is_over and turn in live.turns:
            live.turns.remove(turn)
        if turn.settled and turn.task_done and (trace := self.traces.take_open(turn)) is not None:
            self._running.add(task := asyncio.create_task(trace.finish(turn)))
            task.add_done_callback(self._running.discard)
        if turn.settled:
            self.tell_late()
            self.compaction.begin()
            self.summaries.prepare()
            self.state.freeze()
            if self.state.remote is not None and turn.state.happened and not self.closed:
                self.state.remote.reconcile(lambda: self.state.messages)
        self.silence.changed()

    def _idle(self) -> Idle | None:
        """When the active agent nudges a silent caller, and with what; None: never."""
        if self.closed or (runtime := runtime_of(self.graph, self.state.active_agent)) is None:
            return None
        return runtime.agent.idle or runtime.settings.idle

    def tell_late(self) -> None:
        if self.late.due() and self.on_late_result is not None and not self.closed:
            self.on_late_result()

    # ---- turns

    def require_open(self) -> None:
        """Raise where the program's author sees it: during the run it would become an apology to the caller."""
        if self.closed:
            raise TurnError("This call is over (aclose()), so no turn can begin. Make another Conversation.")
        if self.durable is not None:
            self.durable.require_open()
        self.require_models()

    def require_models(self) -> None:
        """Raise `ModelError` or `MissingDependencyError` if an agent has no model, or one that can't be asked."""
        require_models(self.graph, self.state.config)
        self.toolsets.require()

    def start(self, run: TurnRun) -> Turn:
        """Start this turn."""
        self.require_open()
        self.toolsets.begin()
        turn = Turn(run)
        self.state.live.turns.append(run)
        if run.record.user is None:
            turn.commit()
        self._running.add(task := run.start(self._run))
        task.add_done_callback(self._running.discard)
        return turn

    def nudge(self) -> Turn | None:
        """See `Conversation.nudge`."""
        idle = self.silence.take_due()
        if idle is None or self.closed:
            return None
        run = self._nudge(idle)
        if run is None:
            self.silence.changed()  # the silence goes on
            return None
        return self.start(run)

    def _nudge(self, idle: Idle) -> TurnRun | None:
        try:
            words = idle.words(self.state.value("userdata")).strip()
        except Exception:
            logger.exception("agent %s: what it says in the caller's silence failed", self.state.active_agent)
            return None
        if not words:
            return None
        if idle.generate is None:
            return TurnRun(self, line=words)
        if self.state.interrupts:  # the caller owes an answer, and a model can't be asked before it has come
            return TurnRun(self, line=self.words_of_question(self.state.interrupts[0].value))
        return TurnRun(self, instructions=words, options=ReplyOptions(tool_choice="none"))

    async def _run(self, turn: TurnRun) -> None:
        nodes = NodesSide(turn)
        current_turn.set(nodes)
        running.set(None)  # set when the code of a tool, or LiveKit for it, started this turn
        prepared_summaries.set(self.summaries)
        trace = await self.traces.begin(turn)
        if self.durable is not None and (words := self.durable.closing_message()) is not None:
            await nodes.end_call(words)
            return
        if turn.line is not None:
            nodes.say_only(turn.line)
            return
        if not self.roles.may_speculate:
            # A custom node may act, and nothing may act for a turn that may not have happened.
            await turn.wait_committed()
        others = (other for other in self.state.live.turns if other is not turn)
        while (leaving := next((t.leaving for t in others if t.leaving is not None), None)) is not None:
            # The front end has changed agents already, so the words are for the new one. Wait for the old `on_exit`.
            await leaving.entered()
            others = (other for other in self.state.live.turns if other is not turn)
        pending = self.state.waiting() if turn.record.user is not None else turn.resumes
        if pending is not None and turn.resumes is None:
            turn.resume(pending.again())
        try:
            await self._run_graph(nodes, pending, trace)
        except AnsweredAlready:
            turn.answers_nothing()
            await self._run_graph(nodes, None, trace)

    async def _run_graph(self, nodes: NodesSide, pending: Pending | None, trace: Trace) -> None:
        turn = nodes.run
        saver = self._fork(turn, pending)
        if self.state.remote is not None:
            await self._run_remotely(self.state.remote, nodes, saver, trace)
            return
        replaced: dict[str, Any] = {"checkpointer": saver}
        if self.state.store is not None:
            replaced["store"] = self.state.store
        graph = self.graph.copy(update=replaced)
        await Runner(nodes, self.state, saver).run(graph, await self._input(turn), trace.config)

    async def _run_remotely(self, thread: RemoteThread, nodes: NodesSide, saver: RunSaver, trace: Trace) -> None:
        turn = nodes.run
        user = turn.record.user
        run = RemoteRun(thread, lambda: [m for m in self.state.messages if user is None or m.id != user.id])
        try:
            await Runner(nodes, self.state, saver).run(run, await self._input(turn), trace.config)
        finally:
            run.over()

    def _fork(self, turn: TurnRun, pending: Pending | None) -> RunSaver:
        user = turn.record.user
        remembered = [m for m in self.state.messages if user is None or m.id != user.id]
        if pending is None:
            # The caller's words come last, with the input: they are what the agent must answer.
            return RunSaver(self.state.live.checkpoint_values(remembered))
        # The run resumes after the message whose tool calls wait for the answer, with its text as it was heard.
        heard = {m.id: m for m in remembered if m.id == pending.asking}
        channel = self.state.messages_channel
        own = pending.own(pending.saver.channel_value(channel) or [])
        tail = [heard.get(m.id, m) for m in own]
        # What other tasks of the waiting step have written comes when the run goes on, and the results of the batch
        # stand behind the message that asked for them.
        gone = {m.id for m in tail} | ({*pending.saver.waiting_ids(channel)} if tail else set())
        before = [m for m in remembered if m.id not in gone and not _answers(m, pending)]
        if user is not None:
            before.append(user)  # the answer, whether the turn is certain yet or not
        return RunSaver(self.state.live.checkpoint_values([*before, *tail]), pending.saver)

    async def _input(self, turn: TurnRun) -> Any:
        if turn.resumes is not None and turn.record.user is not None:
            asked = turn.resumes.interrupts[0]
            return turn.resumes.resume(await self.state.answer_to(asked, words_of(turn.record.user)))
        payload: dict[str, Any] = {}
        if turn.record.user is not None:
            payload["messages"] = [turn.record.user]
        if turn.entering:
            payload["chat_ctx"] = {**(self.state.state.get("chat_ctx") or {}), "entering": True}
        return payload

    # ---- the end

    @property
    def closed(self) -> bool:
        """Whether the call is over or ending."""
        return self._closing is not None

    async def aclose(self, reason: str, timeout: float | None, flush_timeout: float | None) -> None:
        """End the call. Code of the call itself begins the end and goes on; anyone else waits for it."""
        self.silence.end()
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(reason, timeout, flush_timeout), name="graph_voice.close")
            self._closing.add_done_callback(_log_late_copy)
        if not _inside_a_turn():
            await asyncio.shield(self._closing)

    async def abandon(self) -> None:
        """Stop everything as if the process had ended here. From now on nothing is done, remembered or stored.

        For tests of how another process resumes the call: `graph_voice.testing.Call.crash`.
        """
        self.silence.end()
        self._closing = asyncio.create_task(asyncio.sleep(0), name="graph_voice.close")
        self.on_event = self.on_line = self.on_tool = self.on_userdata = self.on_late_result = None
        self.state.live.on_change = lambda: None
        if self.durable is not None:
            await self.durable.abandon()
        for turn in self.state.live.turns:
            turn.cancel()
        await stop(self._running, 0)
        await stop(self.custom.running, 0)
        await self.compaction.aclose()
        await self.summaries.aclose()
        await self.toolsets.end()

    async def _close(self, reason: str, timeout: float | None, flush_timeout: float | None) -> None:
        current_turn.set(None)
        running.set(None)
        for turn in list(self.state.live.turns):
            turn.face.close()
        await stop(self._running, timeout)
        self.state.abandon_tasks()
        await self.compaction.aclose()
        await self.summaries.aclose()
        if update := await leave_call(self.state, self.traces, reason, timeout):
            self.state.apply(update)
            if self.on_userdata is not None:
                self.on_userdata()
        self.traces.close()
        await stop(self.custom.running, timeout)
        if self.state.remote is not None:
            await self.state.remote.aclose(self.state.messages, flush_timeout)
        try:
            if self.durable is not None:
                await self.durable.aclose(flush_timeout)
        finally:
            await self.toolsets.end()


def _answers(message: BaseMessage, pending: Pending) -> bool:
    """Whether this is the result of a tool call of the batch that waits."""
    return isinstance(message, ToolMessage) and message.tool_call_id in pending.calls


def _inside_a_turn() -> bool:
    """Whether this code is part of a turn that waits for it, not something the turn has started."""
    ctx = running.get()
    return current_turn.get() is not None or (ctx is not None and not ctx.over)


def _log_late_copy(closing: "asyncio.Task[None]") -> None:
    """Log a failure, since nobody may be waiting: one of the call's own tools may have closed it."""
    if not closing.cancelled() and (error := closing.exception()) is not None:
        logger.error("the end of the call: %s", error)
