"""One user turn: one graph run, which the front end steps along.

The graph runs in the background and produces events. The front end drains them and says what really happened. Nothing
that the caller did not cause is executed; nothing that the caller did not hear is remembered.
"""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from graph_voice import events
from graph_voice.errors import TurnError
from graph_voice.memory import Call, Spoken, TurnRecord, Write, switch_key

if TYPE_CHECKING:
    from graph_voice.conversation import Conversation
    from graph_voice.trace import Trace

__all__ = ["Permission", "Turn", "answer", "current_turn"]

logger = logging.getLogger("graph_voice")

current_turn: ContextVar["Turn | None"] = ContextVar("graph_voice_turn", default=None)
"""The turn whose graph run this is. None in LangGraph Studio, `ainvoke` and notebooks: then nothing is gated."""


@dataclass(frozen=True)
class Permission:
    """What the front end said of one call."""

    run: bool
    host: Any = None
    output: str = ""
    is_error: bool = False


class Turn:
    """One turn of a conversation. Made by `Conversation.turn`; iterate it for its events.

    Iteration can be left and taken up again, by one consumer at a time. All other methods are synchronous, may be
    called at any moment from the event loop's thread, and return at once.
    """

    def __init__(
        self,
        conversation: "Conversation[Any]",
        *,
        text: str | None,
        message_id: str | None,
        instructions: str | None,
        entering: bool = False,
    ) -> None:
        self.id = f"turn-{uuid.uuid4().hex[:12]}"
        self.conversation = conversation
        self.instructions = instructions
        """Instructions for the first reply of this turn only; never stored."""
        self.entering = entering
        user = None if text is None else HumanMessage(text, id=message_id or f"user-{uuid.uuid4().hex[:12]}")
        self.record = TurnRecord(user)
        self.created_at = time.time()
        self.committed = False
        self.discarded = False
        self.interrupted = False
        self.closed = False
        self.finished = False
        """The graph run is over."""
        self.call_ends = False
        """A tool asked to end the call after what is being said."""
        self._events: deque[events.Event] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._permissions: dict[str, asyncio.Future[Permission]] = {}
        self._commit = asyncio.Event()
        self._decided = asyncio.Event()
        self._heard: dict[str, asyncio.Event] = {}
        self._produced: dict[str, asyncio.Event] = {}
        self._cuttable: asyncio.Task[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._holds = 0
        self.trace: Trace | None = None
        self.on_hold: Callable[[bool], None] | None = None
        """Called when `ctx.disallow_interruptions()` begins to hold (True) or ends (False)."""

    # ---- the front end drains

    def __aiter__(self) -> AsyncIterator[events.Event]:
        return self

    async def __anext__(self) -> events.Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()

    def peek(self) -> events.Event | None:
        """The next event if it is there already, without taking it."""
        return self._events[0] if self._events else None

    def emit(self, event: events.Event) -> None:
        if self._ended:
            return
        self._events.append(event)
        if isinstance(event, events.Ended):
            self._ended = True
        self._wake.set()

    # ---- the front end says what happened

    def commit(self, text: str | None = None, at: float | None = None) -> None:
        """The user turn really happened.

        Args:
            text: the final transcript, when it differs from what the turn was started with.
            at: when the caller said it, in seconds since the epoch. Default: now.

        Raises `TurnError` after `discard`.
        """
        if self.discarded:
            raise TurnError("This turn was discarded; a discarded turn can't be committed. Start another.")
        if self.committed:
            return
        self.committed = True
        if self.record.user is not None:
            if text is not None and text != self.record.user.text:
                self.record.user = self.record.user.model_copy(update={"content": text})
            self.record.user_at = time.time() if at is None else at
        self._commit.set()
        self._changed()

    def discard(self) -> None:
        """It did not happen: the run is cancelled, and leaves nothing behind. Raises `TurnError` after `commit`."""
        if self.committed:
            raise TurnError("This turn was committed; interrupt() it instead of discarding it.")
        if self.discarded:
            return
        self.discarded = self.closed = True
        if self._task is not None:
            self._task.cancel()
        # A task cancelled before its first step runs no `finally`: the end is said here.
        self._end()

    def allow(self, call_id: str, host: Any = None) -> None:
        """This call may run now. `host` reaches the tool as `ctx.host`.

        A call that is answered already, or whose turn was interrupted, stays as it is. Raises `TurnError` before
        `commit`.
        """
        if not self.committed:
            raise TurnError(f"allow({call_id!r}) before commit(): no tool runs for a turn that may not have happened.")
        self._permit(call_id, Permission(run=True, host=host))

    def resolve(self, call_id: str, output: str, is_error: bool = False) -> None:
        """The front end has the result itself (a mock): the tool does not run."""
        self._permit(call_id, Permission(run=False, output=output, is_error=is_error))

    def deny(self, call_id: str, reason: str) -> None:
        """The call must not run; the model is told why."""
        self._permit(call_id, Permission(run=False, output=f"not done: {reason}", is_error=True))

    def _permit(self, call_id: str, permission: Permission) -> None:
        future = self._permission(call_id)
        if not future.done():
            future.set_result(permission)

    def _permission(self, call_id: str) -> asyncio.Future[Permission]:
        if call_id not in self._permissions:
            future = asyncio.get_running_loop().create_future()
            self._permissions[call_id] = future
            if self.interrupted or self.closed:
                future.set_result(_NOT_STARTED)
        return self._permissions[call_id]

    def heard(self, message_id: str, text: str, at: float | None = None) -> None:
        """What was played of this message, all told. What nobody acknowledged is not remembered.

        Args:
            message_id: of a `Text` or a `Say`.
            text: the words that reached the caller, from the message's beginning.
            at: when they began, in seconds since the epoch. Default: now.

        Raises `TurnError` for an id that this turn never produced.
        """
        found = self.record.spoken(message_id)
        if found is None:
            raise TurnError(f"heard({message_id!r}): this turn produced no such message.")
        step, words = found
        words.heard = text
        if not step.at:
            step.at = time.time() if at is None else at
        self._heard.setdefault(message_id, asyncio.Event()).set()
        self._changed()

    def confirm_handoff(self, call_id: str | None) -> None:
        """The floor really changed. `call_id` is the event's; None for a switch by an edge."""
        self._decide(call_id, True)

    def reject_handoff(self, call_id: str | None, reason: str) -> None:
        """The floor did not change: the old agent keeps it, and the call is answered with `reason`.

        What the new agent produced meanwhile is not remembered, and the run goes no further.
        """
        self._decide(call_id, False)
        if call_id is not None and (found := self.record.call(call_id)) is not None:
            _, call = found
            call.result = answer(call_id, call.name, reason, is_error=True)
        self._stop()
        self._changed()

    async def wait_decided(self, key: str) -> bool:
        """Until the front end has said whether this handoff happened. Returns whether it did."""
        while self.record.handoffs.get(key) is None and not (self.interrupted or self.closed):
            self._decided.clear()
            await self._decided.wait()
        return bool(self.record.handoffs.get(key))

    def _decide(self, call_id: str | None, happened: bool) -> None:
        undecided = [k for k, v in self.record.handoffs.items() if v is None]
        keys = [call_id] if call_id is not None else [k for k in undecided if k.startswith(switch_key(""))][:1]
        for key in keys:
            if key is not None:
                self.record.handoffs[key] = happened
        self._decided.set()
        self._changed()

    def interrupt(self) -> None:
        """Barge-in: the model stops, running tools finish and are remembered, calls not started don't start."""
        if not self.interrupted:
            self._stop()
            for waiter in self._heard.values():
                waiter.set()

    def _stop(self) -> None:
        self.interrupted = True
        self._decided.set()
        for future in self._permissions.values():
            if not future.done():
                future.set_result(_NOT_STARTED)
        if self._cuttable is not None:
            self._cuttable.cancel()

    def close(self) -> None:
        """The front end is done with this turn. What it did not acknowledge by now, it never will."""
        if self.closed:
            return
        self.closed = True
        if not self.committed:
            self.discard_if_possible()
        for future in self._permissions.values():
            if not future.done():
                future.set_result(_NOT_STARTED)
        for waiter in self._heard.values():
            waiter.set()
        self._decided.set()
        if self._cuttable is not None:
            self.interrupted = True
            self._cuttable.cancel()
        self._changed()

    def discard_if_possible(self) -> None:
        """Discard the turn unless it was committed. LiveKit drops a speculation without saying so."""
        if not self.committed:
            self.closed = False
            self.discard()

    @property
    def settled(self) -> bool:
        """Nothing about this turn can change any more."""
        return self.closed and self.finished

    async def wait_finished(self) -> None:
        """Until the graph run is over (a tool may outlive the front end's interest in the turn)."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # ---- the nodes produce

    @contextmanager
    def cuttable(self) -> Iterator[None]:
        """Inside, `interrupt()` cancels this task at its next await; the block then ends without an exception."""
        task = asyncio.current_task()
        assert task is not None
        self._cuttable = task
        try:
            yield
        except asyncio.CancelledError:
            # interrupt() runs while this task is suspended inside the block, so a cancellation that arrives here
            # after it is the one it asked for, unless somebody else cancelled the task as well.
            if not self.interrupted or self.discarded or task.uncancel() > 0:
                raise
        finally:
            self._cuttable = None

    def say_text(self, agent: str, message_id: str, delta: str) -> None:
        found = self.record.spoken(message_id)
        words = found[1] if found is not None else self.record.step(agent, message_id).words
        words.produced += delta
        self.emit(events.Text(agent, message_id, delta))

    def message(self, agent: str, message: AIMessage) -> None:
        """A model's message is complete: its calls are asked for now."""
        assert message.id is not None
        step = self.record.step(agent, message.id)
        step.message = message
        calls = []
        for call in message.tool_calls:
            assert call["id"] is not None
            step.calls[call["id"]] = Call(call["id"], call["name"])
            calls.append(events.ToolCall(call["id"], call["name"], dict(call["args"])))
        if calls:
            self.emit(events.ToolCalls(agent, message.id, tuple(calls)))
        self._changed()

    async def permission(self, call_id: str) -> Permission:
        """Wait for what the front end says of this call."""
        permission = await asyncio.shield(self._permission(call_id))
        if (found := self.record.call(call_id)) is not None:
            step, call = found
            if permission is _NOT_STARTED:
                call.status = "refused"
            elif permission.run:
                call.status = "running"
                step.at = step.at or time.time()
        self._changed()
        return permission

    def result(self, agent: str, message: ToolMessage) -> None:
        """A call is answered. A call that never started stays unanswered in memory: it is as if it had not been."""
        if (found := self.record.call(message.tool_call_id)) is not None:
            step, call = found
            if call.status != "refused":
                call.status = "done"
                step.at = step.at or time.time()
            call.result = message
        self.emit(
            events.ToolResult(agent, message.tool_call_id, message.name or "", message.text, message.status == "error")
        )
        self._changed()

    def begin_line(self, agent: str, message_id: str, step_id: str | None) -> None:
        """Words outside a model step: part of the step whose tools say them, or a message of their own."""
        if step_id is not None:
            self.record.step(agent, step_id).lines.append(Spoken(message_id))
        else:
            self.record.step(agent, message_id)

    def line(self, agent: str, message_id: str, text: str, *, step_id: str | None = None) -> None:
        """A fixed line."""
        self.begin_line(agent, message_id, step_id)
        found = self.record.spoken(message_id)
        assert found is not None
        found[1].produced = text
        self.emit(events.Say(agent, message_id, text))

    def line_done(self, message_id: str) -> None:
        """A generated line is complete: no more `Text` comes with this id."""
        self._produced.setdefault(message_id, asyncio.Event()).set()

    async def wait_line(self, message_id: str) -> None:
        """Until a line that is generated while a tool runs (`ctx.generate_reply`) is complete."""
        done = self._produced.setdefault(message_id, asyncio.Event())
        if not self.finished:
            await done.wait()

    async def wait_heard(self, message_id: str) -> bool:
        """Until the front end has played this message, or will not. Returns whether it was heard."""
        waiter = self._heard.setdefault(message_id, asyncio.Event())
        if not (self.interrupted or self.closed):
            await waiter.wait()
        found = self.record.spoken(message_id)
        return found is not None and bool(found[1].heard)

    def handed_off(self, call_id: str | None, old: str, new: str) -> None:
        self.record.handoffs.setdefault(call_id or switch_key(new), None)
        self.emit(events.HandedOff(call_id, old, new))

    def failed(self, agent: str, error: BaseException) -> None:
        logger.error("agent %s failed", agent, exc_info=error)
        self.emit(events.Failed(agent, error))

    def hold(self) -> None:
        """The caller can't interrupt from here until `release`."""
        self._holds += 1
        if self._holds == 1 and self.on_hold is not None:
            self.on_hold(True)

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0 and self.on_hold is not None:
            self.on_hold(False)

    def wrote(self, write: Write) -> None:
        self.record.writes.append(write)
        self.conversation._turn_changed(self, userdata="userdata" in write.values)

    # ---- the conversation runs it

    def start(self, run: Any) -> Self:
        self._task = asyncio.create_task(run(self), name=f"graph_voice.{self.id}")
        self._task.add_done_callback(self._done)
        return self

    async def wait_committed(self) -> None:
        await self._commit.wait()

    def _done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a turn ended with an error", exc_info=error)
        self._end()

    def _end(self) -> None:
        if not self.finished:
            self.finished = True
            for done in self._produced.values():
                done.set()
            self.emit(events.Ended())
            self._changed()

    def _changed(self) -> None:
        self.conversation._turn_changed(self)

    def __repr__(self) -> str:
        flags = ("committed", "discarded", "interrupted", "closed", "finished")
        return f"<Turn {self.id} {' '.join(f for f in flags if getattr(self, f))}>"


_NOT_STARTED = Permission(run=False, output="not done: the call was not executed.", is_error=True)


def answer(call_id: str, name: str, text: str, *, is_error: bool = False, artifact: Any = None) -> ToolMessage:
    """The tool message that answers a call; its id is derived from the call's, so that a later one replaces it."""
    return ToolMessage(
        text,
        name=name,
        tool_call_id=call_id,
        id=f"result-{call_id}",
        status="error" if is_error else "success",
        artifact=artifact,
    )
