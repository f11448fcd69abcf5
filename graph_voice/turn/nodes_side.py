"""The nodes' side of a turn: what a graph run produces, and what it waits for."""

import asyncio
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from graph_voice import events
from graph_voice.messages.pairs import NO_REPLY, without_transfer
from graph_voice.turn.gate import ANSWERED, NOT_STARTED, AnsweredAlready, Gate, Permission
from graph_voice.turn.owner import TurnOwner
from graph_voice.turn.pending import Pending
from graph_voice.turn.record import Decision, Spoken, ToolCallRecord, TurnRecord, Write, switch_key
from graph_voice.turn.timings import Timings

__all__ = ["NO_HANDOFF", "NodesSide", "answer"]

logger = logging.getLogger("graph_voice")

NO_HANDOFF = "not done: the transfer did not take place."


class NodesSide(ABC):
    """What one turn has produced so far. `Turn` is the front end's side."""

    def __init__(self, conversation: TurnOwner[Any], user: HumanMessage | None) -> None:
        self.conversation: TurnOwner[Any] = conversation
        self.record = TurnRecord(user, conversation.next_order())
        self.timings = Timings()
        self.committed = False
        self.discarded = False
        self.interrupted = False
        self.closed = False
        self.finished = False
        """The graph run is over."""
        self.call_ends = False
        """A tool asked to end the call once the current speech is over."""
        self.resumes: Pending | None = None
        """The run, waiting in `interrupt()`, that this turn's words answer."""
        self.pending: Pending | None = None
        """What this turn's run waits for, when it ended in LangGraph's `interrupt()`."""
        self.new_agent: str | None = None
        """The agent to which this turn's run has handed off, confirmed or not."""
        self.on_stop: Callable[[], None] | None = None
        """Called when the run must stop."""
        self.on_hold: Callable[[bool], None] | None = None
        """Called with True when `ctx.disallow_interruptions()` takes effect, and with False when it ends."""
        self.on_wait: Callable[[str], None] | None = None
        """Called with a message id when the run waits until this message is heard (`ctx.say`)."""
        self.on_entered: Callable[[], None] | None = None
        """Called when an agent's `on_enter` method has ended, or does not run."""
        self.on_said: Callable[[str], None] | None = None
        """Called with a message id when this message is complete. The run may go on."""
        self._speaking: str | None = None
        self._events: deque[events.Event] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._gate = Gate()
        self.without_tools: set[str] = set()
        """Agents that may call no more tools in this turn."""
        self._decided = asyncio.Event()
        self._written = asyncio.Event()
        self._heard: dict[str, asyncio.Event] = {}
        self._produced: dict[str, asyncio.Event] = {}
        self._cuttable: list[tuple[asyncio.Task[Any], Callable[[], bool]]] = []
        self._holds = 0
        self._new_result = False
        self._result_at: int | None = None
        """The store position of this turn's results, once they are being written."""

    def emit(self, event: events.Event) -> None:
        if self._ended:
            return
        self._events.append(event)
        if isinstance(event, events.Ended):
            self._ended = True
        self._wake.set()
        self._emitted(event)

    @contextmanager
    def cuttable(self, may_be_cut: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Let `interrupt()` cancel the block at its next await. The block then ends without an exception.

        `may_be_cut` is called at the moment of the interruption.
        """
        task = asyncio.current_task()
        assert task is not None
        entry = (task, may_be_cut)
        self._cuttable.append(entry)
        if self.interrupted and may_be_cut():
            task.cancel()
        try:
            yield
        except asyncio.CancelledError:
            # interrupt() runs while this task is suspended inside the block. So a cancellation that arrives after it
            # comes from interrupt(), unless something else cancelled the task as well.
            if not self.interrupted or self.discarded or task.uncancel() > 0:
                raise
        finally:
            self._cuttable.remove(entry)

    def say_text(self, agent: str, message_id: str, delta: str) -> None:
        found = self.record.spoken(message_id)
        words = found[1] if found is not None else self.record.step(agent, message_id).words
        words.produced += delta
        self.timings.text(agent)
        self._speaking = message_id
        self.emit(events.Text(agent, message_id, delta))

    def said(self) -> None:
        """The current message is complete; what comes next may take a while."""
        message_id, self._speaking = self._speaking, None
        if message_id is not None and self.on_said is not None:
            self.on_said(message_id)

    def message(self, agent: str, message: AIMessage) -> None:
        """A model's message is complete: announce its tool calls."""
        assert message.id is not None
        step = self.record.step(agent, message.id)
        step.message = message
        calls = []
        for call in message.tool_calls:
            assert call["id"] is not None
            step.calls[call["id"]] = ToolCallRecord(call["id"], call["name"])
            calls.append(events.ToolCall(call["id"], call["name"], dict(call["args"])))
        if calls:
            self.emit(events.ToolCalls(agent, message.id, tuple(calls)))
        self.said()
        self._changed()

    async def permission(self, call_id: str) -> Permission:
        """Wait until the front end has decided about this tool call."""
        permission = await self._gate.wait(call_id)
        if permission is ANSWERED:
            raise AnsweredAlready(call_id)
        if (found := self.record.call(call_id)) is not None:
            step, call = found
            if permission is NOT_STARTED:
                call.status = "refused"
            elif permission.run:
                call.status, call.host = "running", permission.host
                step.at = step.at or time.time()
        self._changed()
        return permission

    def result(self, agent: str, message: ToolMessage) -> None:
        """A tool call has its result. One that never started is not remembered, as if it had never been made."""
        if (found := self.record.call(message.tool_call_id)) is not None:
            step, call = found
            if call.status != "refused":
                call.status = "done"
                step.at = step.at or time.time()
            call.result = message
        elif (earlier := self._call(message.tool_call_id)) is not None:
            earlier.status, earlier.result = "done", message
        self._new_result = True
        self.emit(
            events.ToolResult(
                agent,
                message.tool_call_id,
                message.name or "",
                message.text,
                message.status == "error",
                message.additional_kwargs.get(NO_REPLY),
            )
        )
        self._changed()

    def call_ended(self, node: str, userdata: Mapping[str, Any], updates: Sequence[Mapping[str, Any]]) -> None:
        """A tool call of this node has ended, while others of its batch may go on. Record what was changed so far."""
        if (userdata or updates) and self.conversation.is_library(node):
            self.record.draft(node, userdata, updates, self.conversation.next_order())
            self._changed()

    def store_results(self) -> None:
        """Start to store what the tools of a finished step wrote, while the next model call runs."""
        if self._new_result:
            self._new_result = False
            self._result_at = self.conversation.store_now()

    async def results_stored(self) -> None:
        """Wait until this turn's tool results are durable: no reply may report what a crash could lose."""
        self.store_results()
        if self._result_at is not None:
            upto, self._result_at = self._result_at, None
            await self.conversation.stored(upto)

    def is_running(self, call_id: str) -> bool:
        """Whether this tool call was allowed, and has no result yet."""
        call = self._call(call_id)
        return call is not None and call.open

    def remember(self, update: Any) -> None:
        """Remember an update of `messages` that is not speech. The reducer applies it unchanged."""
        self.record.raw(update, time.time())
        self._changed()

    def waits(self, message: ToolMessage) -> None:
        """A running tool call has no final result yet. `message` is its placeholder until then."""
        if (call := self._call(message.tool_call_id)) is not None:
            call.result = message
        self._changed()

    def begin_line(self, agent: str, message_id: str, step_id: str | None) -> None:
        """Begin speech outside a model step: part of the step whose tools say it, or a message of its own."""
        if step_id is not None and (asking := self.record.spoken(step_id)) is not None:
            asking[0].lines.append(Spoken(message_id))
        else:
            self.record.step(agent, message_id)

    def line(self, agent: str, message_id: str, text: str, *, step_id: str | None = None) -> None:
        """Say a fixed line."""
        self.begin_line(agent, message_id, step_id)
        found = self.record.spoken(message_id)
        assert found is not None
        found[1].produced = text
        self.timings.text(agent)
        self.emit(events.Say(agent, message_id, text))
        self._speaking = message_id
        self.said()

    def line_done(self, message_id: str) -> None:
        """A generated line is complete: no more `Text` comes with this id."""
        self._produced.setdefault(message_id, asyncio.Event()).set()

    async def wait_line(self, message_id: str) -> None:
        """Wait until a line that is generated while a tool runs (`ctx.generate_reply`) is complete."""
        done = self._produced.setdefault(message_id, asyncio.Event())
        if not self.finished:
            await done.wait()

    async def wait_heard(self, message_id: str) -> bool:
        """Wait until the front end has played this message, or will not play it. Returns whether it was heard."""
        waiter = self._heard.setdefault(message_id, asyncio.Event())
        if not (self.interrupted or self.closed):
            if self.on_wait is not None:
                self.on_wait(message_id)
            await waiter.wait()
        found = self.record.spoken(message_id)
        return found is not None and bool(found[1].heard)

    @property
    def speaker(self) -> str:
        """The agent that is active in the graph now."""
        return self.new_agent or self.conversation.default_speaker

    @property
    def is_handing_over(self) -> bool:
        """Whether a handoff of this turn has happened but the graph has not written it yet."""
        return self.committed and not self.finished and self.record.is_handing_over

    @property
    def has_spoken(self) -> bool:
        """Whether the caller has heard anything of this turn."""
        return any(words.heard for step in self.record.steps() for words in (step.words, *step.lines))

    @property
    def unreported(self) -> str | None:
        """The id of a produced message for which the front end has not reported what was heard."""
        if not self.committed or self.interrupted or self.closed:
            return None
        spoken = (words for step in self.record.steps() for words in (step.words, *step.lines))
        return next((words.id for words in spoken if words.heard is None and words.produced.strip()), None)

    async def wait_reported(self) -> None:
        """Wait until the front end has reported what was heard of that message, or will not report it."""
        if (message_id := self.unreported) is not None:
            await self._heard.setdefault(message_id, asyncio.Event()).wait()

    def handed_off(
        self,
        call_id: str | None,
        old: str,
        new: str,
        shown: Sequence[AnyMessage] = (),
        on_interruption: events.OnInterruption = "cancel",
    ) -> None:
        key = call_id or switch_key(new, len(self.record.switches_to(new)))
        self.record.handoffs.setdefault(key, None)
        if self.closed and self.record.handoffs[key] is None:
            self._reject(key, NO_HANDOFF)
        self.new_agent = new
        self.timings.handed_off(new)
        self.emit(events.HandedOff(call_id, old, new, tuple(shown), on_interruption))

    def failed(self, agent: str, error: BaseException) -> None:
        logger.error("agent %s failed", agent, exc_info=error)
        self.emit(events.Failed(agent, error))

    def apologize(self, agent: str, error: BaseException) -> AIMessage | None:
        """A model or a node failed, or nothing was said: apologize to the caller, unless they are already speaking."""
        self.failed(agent, error)
        text = self.conversation.apology
        if self.interrupted or not text.strip():
            return None
        message_id = f"apology-{uuid.uuid4().hex[:12]}"
        self.line(agent, message_id, text)
        return AIMessage(text, id=message_id, name=agent)

    def asked(self, agent: str, interrupt_id: str, question: Any, step_id: str | None) -> None:
        """The run ended in LangGraph's `interrupt()`: say its question, like any other speech."""
        event = events.Interrupt(interrupt_id, agent, question, f"ask-{uuid.uuid4().hex[:12]}")
        self.begin_line(agent, event.message_id, step_id)
        found = self.record.spoken(event.message_id)
        assert found is not None
        found[1].produced = event.text
        self.emit(event)

    def entered(self) -> None:
        """An agent's `on_enter` method has ended, or does not run."""
        if self.on_entered is not None:
            self.on_entered()

    def hold(self) -> None:
        """Disallow interruptions until `release`."""
        self._holds += 1
        if self._holds == 1 and self.on_hold is not None:
            self.on_hold(True)

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0 and self.on_hold is not None:
            self.on_hold(False)

    def wrote(self, write: Write) -> None:
        write.order = self.conversation.next_order()
        self.record.write(write)
        self._written.set()
        self._changed(userdata="userdata" in write.values)

    # ---- what the front end has decided

    def _reject(self, key: str, reason: str) -> None:
        self._decide(key, False)
        if (call := self._call(key)) is not None:
            call.result = without_transfer(call.result or answer(call.id, call.name, ""), reason)
            if self.record.call(key) is None:
                self.remember([call.result])  # a tool call of an earlier process or an earlier turn

    async def wait_handed_over(self) -> None:
        """Wait until a confirmed handoff of this turn is written. From then on the new agent is asked."""
        while self.is_handing_over:
            self._written.clear()
            await self._written.wait()

    async def wait_decided(self, key: str) -> bool:
        """Wait until the front end has decided about this handoff or has closed the turn. Returns whether it happened.

        An interruption decides nothing: the active agent may already be changing when it comes.
        """
        while self.record.handoffs.get(key) is None and not self.closed:
            self._decided.clear()
            await self._decided.wait()
        decision = self.record.handoffs.get(key)
        return decision is not None and decision.happened

    async def wait_certain(self) -> bool:
        """Until the front end has decided on each handoff of this turn so far. Returns whether all of them happened.

        For what acts: the words of a model may run ahead of a handoff, an effect may not.
        """
        decided = [await self.wait_decided(key) for key in list(self.record.handoffs)]
        return all(decided)

    def _decide(self, key: str, happened: bool) -> None:
        self.record.handoffs[key] = Decision(happened, self.conversation.next_order())
        self._decided.set()

    def _call(self, call_id: str) -> ToolCallRecord | None:
        if (found := self.record.call(call_id)) is not None:
            return found[1]
        return self.resumes.calls.get(call_id) if self.resumes is not None else None

    @abstractmethod
    def _emitted(self, event: events.Event) -> None:
        """Report this event to whoever watches the call."""

    @abstractmethod
    def _changed(self, *, userdata: bool = False) -> None:
        """Something that is remembered has changed."""


def answer(call_id: str, name: str, text: str, *, is_error: bool = False, artifact: Any = None) -> ToolMessage:
    """The tool message that answers a tool call. Its id comes from the tool call's, so a later answer replaces it."""
    return ToolMessage(
        text,
        name=name,
        tool_call_id=call_id,
        id=f"result-{call_id}",
        status="error" if is_error else "success",
        artifact=artifact,
    )
