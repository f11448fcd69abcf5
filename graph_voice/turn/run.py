"""One turn as its call sees it: how far it is, what it has produced so far, and the task that runs its graph."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage

from graph_voice import events
from graph_voice.errors import TurnError
from graph_voice.messages.pairs import without_transfer
from graph_voice.turn.answer import answer
from graph_voice.turn.custom_data import HeldData
from graph_voice.turn.event_stream import EventStream
from graph_voice.turn.gate import ANSWERED, NOT_STARTED, Gate, Permission
from graph_voice.turn.handoff import HandoffInProgress
from graph_voice.turn.interruption import Interruption
from graph_voice.turn.owner import TurnOwner
from graph_voice.turn.pending import Pending
from graph_voice.turn.record import Spoken, ToolCallRecord, TurnRecord
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.turn.reports import Reports
from graph_voice.turn.state import TurnState
from graph_voice.turn.timings import Timings

__all__ = ["NO_HANDOFF", "TaskResult", "TurnRun"]

logger = logging.getLogger("graph_voice")

NO_HANDOFF = "not done: the transfer did not take place."


@dataclass(frozen=True)
class TaskResult:
    """How a task of the front end's has ended."""

    result: Any = None
    error: str | None = None
    """Why it has none; None if it has one."""


class TurnRun:
    """One turn. `Turn` is what the front end sees of it, `NodesSide` what the nodes of the graph see.

    Args:
        call: what the turn belongs to.
        user: what the caller said; None when the agent speaks unasked.
        instructions: for the first reply of this turn only.
        entering: whether the active agent enters the call with it.
        options: what the front end asks of its replies.
        line: said by the active agent instead of a graph run; None: the graph runs.
    """

    def __init__(
        self,
        call: TurnOwner["TurnRun"],
        *,
        user: HumanMessage | None = None,
        instructions: str | None = None,
        entering: bool = False,
        options: ReplyOptions | None = None,
        line: str | None = None,
    ) -> None:
        self.id = f"turn-{uuid.uuid4().hex[:12]}"
        self.call = call
        self.record = TurnRecord(user, call.next_order())
        self.instructions = instructions
        """Instructions for the first reply of this turn only; never stored."""
        self.options = options or ReplyOptions()
        self.line = line
        self.before: frozenset[str | None] = frozenset()
        """Ids of the messages before this turn, when its model is shown others instead."""
        if self.options.messages is not None:
            self.before = frozenset(m.id for m in call.messages if user is None or m.id != user.id)
        self.entering = entering
        self.given: TaskResult | None = None
        """How an external task has ended, if this turn goes on behind it."""
        self.modality = call.modality
        """How the caller's words came. A turn that the agent begins has that of the turn before."""
        self.created_at = time.time()
        self.timings = Timings()
        self.face: Any = None
        """The `Turn` that the front end has; None for a turn that it never saw."""

        self.state = TurnState.SPECULATIVE
        self.finished = False
        """The graph run is over."""
        self.is_past = False
        """Whether it is long over: what is remembered of it no longer changes."""
        self.call_ends = False
        """A tool asked to end the call once the current speech is over."""
        self.resumes: Pending | None = None
        """The run, waiting in `interrupt()`, that this turn's words answer."""
        self.pending: Pending | None = None
        """What this turn's run waits for, when it ended in LangGraph's `interrupt()`."""
        self.asks_for: Pending | None = None
        """The earlier run whose question this turn has asked, since another one was open when it came."""
        self.without_tools: set[str] = set()
        """Agents that may call no more tools in this turn."""

        self.stream = EventStream(lambda event: call.turn_event(self, event))
        self.custom = HeldData(lambda: self.state.happened, self.record.handoffs, self.stream.put)
        self.gate = Gate()
        self.interruption = Interruption()
        self.heard = Reports()
        self.produced = Reports()
        self._commit = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ---- what the front end has decided

    def commit(self, at: float | None = None) -> None:
        """The user turn really happened; `at`: when the caller said it, in seconds since the epoch."""
        late = self.resumes is not None and self.record.user is not None and not self.call.asks(self.resumes)
        self.state = TurnState.COMMITTED
        if self.record.user is not None:
            self.record.user_at = time.time() if at is None else at
        self._commit.set()
        self.custom.release()
        if self.resumes is not None:
            self._answer_earlier(self.resumes, late=late)
        self.changed()

    def discard(self) -> None:
        """It did not happen: cancel the run."""
        self.state = TurnState.DISCARDED
        self.custom.drop()
        if self._task is not None:
            self._task.cancel()
        # A task cancelled before its first step runs no `finally`, so the end is reported here. A run that is over
        # has reported it already, but the turn changes in any case.
        self.end()
        self.changed()

    def close(self) -> None:
        """The front end is done with it: what it has not decided did not happen."""
        self.state = TurnState.CLOSED
        for handoff in self.record.handoffs.undecided:
            self.reject(handoff, NO_HANDOFF)
        if self.finished:
            self._release()
        else:
            self.interrupt()
        self.changed()

    def interrupt(self) -> None:
        """The model stops, running tools finish, other tool calls don't start."""
        if not self.interrupted:
            self._release()
            self.interruption.happens()

    def confirm(self, handoff: HandoffInProgress) -> None:
        """The active agent has really changed."""
        if handoff.happened is None:
            handoff.decide(self.call.next_order(), happened=True)
            self.custom.release()

    def reject(self, handoff: HandoffInProgress, reason: str) -> None:
        """The active agent has not changed: answer the tool call that asked for it."""
        handoff.decide(self.call.next_order(), happened=False, reason=reason)
        self.custom.release()
        call_id = handoff.event.call_id
        if call_id is not None and (call := self.tool_call(call_id)) is not None:
            call.result = without_transfer(call.result or answer(call.id, call.name, ""), reason)
            if self.record.call(call_id) is None:
                self.remember([call.result])  # a tool call of an earlier process or an earlier turn
        if handoff.event.task == "begin":
            self._end_waiting(handoff, reason)
        if self.interruption.on_rejected is not None:
            self.interruption.on_rejected()

    def _end_waiting(self, handoff: HandoffInProgress, reason: str) -> None:
        """Answer the tool calls that wait behind the task that has not begun."""
        found = self.record.call(handoff.event.call_id or "")
        for call in found[0].calls.values() if found is not None else ():
            if call.result is not None and call.result.additional_kwargs.get("placeholder"):
                call.result = without_transfer(call.result, reason)

    def _release(self) -> None:
        """Stop everything that waits for the front end."""
        self.gate.shut()
        self.heard.release()

    @property
    def interrupted(self) -> bool:
        return self.interruption.happened

    # ---- an earlier run that waits for this turn's words

    def resume(self, pending: Pending) -> None:
        """Let this turn's words answer the earlier run that waits for them."""
        self.resumes = pending
        if self.state.happened:
            self._answer_earlier(pending)

    def answers_nothing(self) -> None:
        """Another turn has answered the question: make this an ordinary turn."""
        self.resumes = None

    def _answer_earlier(self, pending: Pending, *, late: bool = False) -> None:
        """Give the resumed batch the permissions that it already has, now that the answer is certain.

        `late`: another turn has answered meanwhile, and a tool call acts only once.
        """
        for call in pending.calls.values():
            if late:
                self.gate.permit(call.id, ANSWERED)
            elif call.open:
                self.gate.permit(call.id, Permission(run=True, host=call.host))
            else:
                self.gate.permit(call.id, NOT_STARTED)

    # ---- the task

    def start(self, run: "Callable[[TurnRun], Coroutine[Any, Any, None]]") -> "asyncio.Task[None]":
        """Run the graph."""
        self._task = asyncio.create_task(run(self), name=f"graph_voice.{self.id}")
        self._task.add_done_callback(self._done)
        return self._task

    def cancel(self) -> None:
        """Cancel the run at once, running tools included; for a process that ends."""
        self.interruption.happened = True
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a turn ended with an error", exc_info=error)
        self.end()
        self.changed()  # a discarded turn has ended before its task

    def end(self) -> None:
        """The graph run is over."""
        if self.finished:
            return
        self.finished = True
        for handoff in self.record.handoffs:
            handoff.end()
        self.produced.release()
        self.stream.put(events.Ended(self.call_ends))
        self.changed()

    async def wait_finished(self) -> None:
        """Wait until the graph run is over: a tool may still run after `close`."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def task_done(self) -> bool:
        """Whether no code of this turn runs any more. A discarded turn may be finished before that."""
        return self._task is None or self._task.done()

    async def wait_committed(self) -> None:
        await self._commit.wait()

    # ---- what is known of it

    @property
    def runs_tools(self) -> bool:
        """Whether a tool of this turn's run works now. One that waits for the caller's answer does not."""
        own = (call for step in self.record.steps() for call in step.calls.values())
        earlier = self.resumes.calls.values() if self.resumes is not None else ()
        return not self.finished and any(call.open for call in (*own, *earlier))

    @property
    def settled(self) -> bool:
        """Whether the turn is closed and its run is over. Only a late report of what was heard can still change it."""
        return self.state.is_over and self.finished

    @property
    def leaving(self) -> HandoffInProgress | None:
        """A handoff that has happened but is not written by the graph yet."""
        return self.record.handoffs.leaving if self.state.happened else None

    @property
    def speaker(self) -> str:
        """The agent that is active in the graph now."""
        return self.record.handoffs.new_agent or self.call.default_speaker

    @property
    def has_spoken(self) -> bool:
        """Whether the caller has heard anything of this turn."""
        return any(words.heard for words in self._spoken())

    @property
    def unreported(self) -> str | None:
        """The id of a produced message for which the front end has not reported what was heard."""
        if self.state is not TurnState.COMMITTED or self.interrupted:
            return None
        return next((words.id for words in self._spoken() if words.heard is None and words.produced.strip()), None)

    async def wait_reported(self) -> None:
        """Wait until the front end has reported what was heard of that message, or will not report it."""
        if (message_id := self.unreported) is not None:
            await self.heard.wait(message_id)

    def _spoken(self) -> list[Spoken]:
        return [words for step in self.record.steps() for words in (step.words, *step.lines)]

    def tool_call(self, call_id: str) -> ToolCallRecord | None:
        """A tool call of this turn, or of the earlier run that this turn's words answer."""
        if (found := self.record.call(call_id)) is not None:
            return found[1]
        return self.resumes.calls.get(call_id) if self.resumes is not None else None

    def require_tool_call(self, method: str, call_id: str) -> None:
        """Raise `TurnError` for a tool call that this turn never made."""
        if self.tool_call(call_id) is None:
            made = ", ".join(call for step in self.record.steps() for call in step.calls) or "none"
            raise TurnError(f"{method}({call_id!r}): this turn made no such tool call; those that it made: {made}.")

    def remember(self, update: Any) -> None:
        """Remember an update of `messages` that is not speech. The reducer applies it unchanged."""
        self.record.raw(update, time.time())
        self.changed()

    def changed(self, *, userdata: bool = False) -> None:
        """Something that is remembered has changed."""
        self.call.turn_changed(self, userdata=userdata)

    def __repr__(self) -> str:
        more = [word for word, holds in (("interrupted", self.interrupted), ("finished", self.finished)) if holds]
        return f"<Turn {self.id} {' '.join([self.state.value, *more])}>"
