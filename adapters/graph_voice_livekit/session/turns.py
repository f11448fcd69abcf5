"""Drivers: each drains one turn of the graph into LiveKit, and tells the turn what LiveKit really did.

Several LiveKit speeches may speak one turn: the reply, the reply after a tool, the first words of the next agent. They
drain it one after the other, so one user turn stays one graph run.
"""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from livekit.agents import AgentSession, RunContext
from livekit.agents.voice import SpeechHandle

from graph_voice import Conversation, Turn, events
from graph_voice.turn.event_stream import TurnListener
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.external import ExternalAgents
from graph_voice_livekit.session.handoff import LiveHandoff, LiveHandoffState
from graph_voice_livekit.session.lines import Lines
from graph_voice_livekit.session.tables import Tables
from graph_voice_livekit.session.tool_call import Batch, LiveToolCall

__all__ = ["Pause", "Switch", "TurnCall", "TurnDriver"]

logger = logging.getLogger("graph_voice.livekit")

HELD_BACK = 0.05
"""Seconds that the end of a message may wait, in the voice's sentence tokenizer, for the next message."""


@dataclass(frozen=True, slots=True)
class Pause(events.Event):
    """A message is over and nothing has followed it yet: the graph is in a slow step."""


@dataclass(frozen=True, slots=True)
class Switch(events.Event):
    """A handoff by an edge: there is no tool whose mirror could return the next agent."""

    handoff: LiveHandoff


class TurnCall(Protocol):
    """What a turn asks of the call that it belongs to."""

    @property
    def session(self) -> AgentSession[Any]:
        """The LiveKit session that speaks the call."""

    @property
    def conversation(self) -> Conversation[Any]:
        """The graph's side of it."""

    @property
    def tables(self) -> Tables: ...

    @property
    def external_agents(self) -> ExternalAgents: ...

    def speak(self, driver: Driver, instructions: str | None = None) -> None:
        """Ask LiveKit for a reply that continues this turn."""

    def complete_handoff(self, handoff: LiveHandoff) -> None:
        """Carry out a handoff that LiveKit has canceled, or was too late for."""

    def forget(self, driver: Driver) -> None:
        """This turn is over."""

    def hang_up(self) -> None:
        """A tool has ended the call (`ctx.end_call`), and what was to be said was said."""


class TurnDriver(TurnListener):
    """Drains one turn. Owned by its call."""

    def __init__(self, call: TurnCall, turn: Turn) -> None:
        self._call = call
        self.turn = turn
        self.arrived = asyncio.Event()
        self.entered_by_method = asyncio.Event()
        self.entered_by_method.set()
        self.over = asyncio.Event()
        self._handoffs: list[LiveHandoff] = []
        self._waiting: list[Callable[[], None]] = []
        self._open: Batch | None = None
        """The batch of tool calls that LiveKit executes now."""
        self._handles: dict[SpeechHandle, asyncio.Future[None]] = {}
        """LiveKit's speeches that drain the turn, each with what is set when it does so no more."""
        self._protected: list[SpeechHandle] = []
        """Speeches that can't be interrupted while a tool goes on behind a task."""
        self._items: deque[events.Event] = deque()
        self._came = asyncio.Event()
        self._ended: events.Ended | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self._awaited: str | None = None
        """A message that must be played before the graph goes on, and is no tool's (`ctx.say` in `on_enter`)."""
        self._paused: str | None = None
        """A message for which the reply was ended, so that it is played. What follows it needs a reply of its own."""
        self._said: str | None = None
        """The last message that is complete."""
        self._lines = Lines(turn, lambda: call.session, call.tables, self._watch, self._barge_in)
        self._context = contextvars.copy_context()
        turn.listen(self)

    # ---- from the graph (`TurnListener`)

    def happens(self, event: events.Event) -> None:
        # Not in the context of the graph's node: what LiveKit starts now is no part of the graph run.
        try:
            self._context.copy().run(self._take, event)
        except Exception:
            logger.exception("%r could not be passed on to LiveKit", event)

    def _take(self, event: events.Event) -> None:
        """Sort the turn's events: words go to LiveKit's current reply, results to the mirrors."""
        batch = self._open
        match event:
            case events.ToolCalls(custom=True) | events.ToolResult(custom=True):
                pass  # the graph runs them by itself, and LiveKit knows none of these tools
            case events.Custom() | events.ToolUpdate():
                pass  # the call delivers it to the program, and the model's words about it come by themselves
            case events.ToolCalls():
                self._open = Batch.of(event, self)
                self._call.tables.tool_calls.update(self._open.calls)
                self._put(event)
            case events.ToolResult(call_id=call_id) if batch is not None and call_id in batch.calls:
                batch.calls[call_id].answer(event)
                if batch.is_answered:
                    self._close_batch(batch)
            case events.ToolResult(call_id=call_id) if (asked := self._asking(call_id)) is not None:
                self.when_certain(lambda: asked.answer(event))
            case events.Interrupt():
                # The batch goes on when the caller has answered; its mirrors need not wait for that.
                if batch is not None:
                    batch.asks = True
                    self._close_batch(batch)
                self._put(event)
            case events.HandedOff():
                self._handed_off(event)
            case events.Say() | events.Text() if batch is not None and not batch.done.is_set():
                self._lines.say(batch, event)
            case events.Ended():
                self._end(event)
            case _:
                self._put(event)

    def _end(self, event: events.Ended) -> None:
        self._ended = event
        if (batch := self._open) is not None:  # the run ended in the middle of a batch
            waiting = self._call.conversation.call.state.all_waiting()
            batch.asks_later = any(batch.calls.keys() & found.calls.keys() for found in waiting)
            self._close_batch(batch)
        self._paused = None
        self._put(event)
        self.arrived.set()
        self.entered_by_method.set()
        if self.over.is_set() and event.ends_call:
            self._call.hang_up()
        self.maybe_close()

    def _put(self, event: events.Event) -> None:
        self._items.append(event)
        self._came.set()
        if self._paused is not None and not isinstance(event, events.Ended):
            self._paused = None
            self._call.speak(self)

    def waits(self, message_id: str) -> None:
        leaving = self.handoff
        if leaving is not None and leaving.new_agent in self._call.external_agents:
            logger.warning("agent %s is leaving; nobody can say its closing message", leaving.event.old_agent)
            self.turn.heard(message_id, "")
        elif self._open is None:
            self._awaited = message_id
            self._came.set()

    def message_over(self, message_id: str) -> None:
        self._said = message_id
        self._came.set()

    def holds(self, held: bool) -> None:
        self._lines.hold(held)
        if held and not self._lines.has_mirrors:
            # A tool call that goes on behind a task: the speech that made it is over, and these wait for its result.
            self._protected = [handle for handle in self._handles if handle.allow_interruptions]
        for handle in self._protected:
            if not handle.interrupted:
                handle.allow_interruptions = not held
        if not held:
            self._protected = []

    def entered(self) -> None:
        self.entered_by_method.set()

    def speak_when_there_are_words(self) -> None:
        """The agent enters by a method, which may say nothing: LiveKit is asked for a reply when there is one."""
        if self._ended is not None or self.turn.interrupted:
            self._call.speak(self)
            return
        self.entered_by_method.clear()
        if any(not isinstance(event, events.Ended) for event in self._items):
            self._call.speak(self)
        else:
            self._paused = ""

    # ---- tool calls and handoffs

    def _asking(self, call_id: str) -> LiveToolCall | None:
        """A tool call of an earlier turn that has asked the caller."""
        found = self._call.tables.tool_calls.get(call_id)
        return found if found is not None and found.asks else None

    def _handed_off(self, event: events.HandedOff) -> None:
        handoff, batch = LiveHandoff(event, self), self._open
        call = batch.calls.get(event.call_id or "") if batch is not None else None
        if batch is not None and call is not None and call.released:
            # A barge-in released the mirror before the handoff came, so LiveKit can no longer carry it out.
            batch.handoff = handoff
            self._close_batch(batch)
            self._carry_out_late(handoff, call)
            return
        self._handoffs.append(handoff)
        self.entered_by_method.set()
        if batch is not None and call is not None:
            batch.handoff = handoff
            if batch.is_answered:
                self._close_batch(batch)
        else:
            self._put(Switch(handoff))

    def _carry_out_late(self, handoff: LiveHandoff, call: LiveToolCall) -> None:
        if handoff.completes and not self.turn.state.is_over:
            self._handoffs.append(handoff)
            self._call.complete_handoff(handoff)
            return
        call.tell_rejected(handoff.reject())

    @property
    def handoff(self) -> LiveHandoff | None:
        """The handoff in progress, to the agent whose first words will continue this turn; None if there is none."""
        return next((handoff for handoff in self._handoffs if handoff.in_progress), None)

    @property
    def completes(self) -> bool:
        """Whether the turn hands off to the next agent although the caller has interrupted."""
        if self.handoff is None or not self.handoff.completes:
            return False
        return self.turn.interrupted or any(handle.interrupted for handle in self._handles)

    def goes_on(self, call_id: str, agent: str) -> None:
        """A tool call of this agent, which an earlier turn has made, goes on in this one."""
        call = self._call.tables.tool_calls[call_id]
        call.batch = self._open = Batch(agent, self, {call_id: call})
        call.result = None

    def _close_batch(self, batch: Batch) -> None:
        batch.done.set()
        self._open = None

    def mirror_started(self, context: RunContext[Any]) -> None:
        self._lines.mirror_started(context)

    def mirror_ended(self, context: RunContext[Any]) -> None:
        self._lines.mirror_ended(context)

    # ---- what waits until the turn is certain

    def when_certain(self, act: Callable[[], None]) -> None:
        """Do it as soon as the user turn has really happened: now, later, or never if the turn was a wrong guess."""
        if self.turn.state.happened:
            act()
        else:
            self._waiting.append(act)

    def commit(self, said: Any, at: float) -> None:
        """The user turn really happened, with these final words."""
        self.turn.commit(said, at=at)
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            act()

    # ---- to LiveKit

    async def next(self) -> events.Event | None:
        """The next event for LiveKit's current reply; None when the reply is over.

        It is over at the end of the turn, and when the graph waits for a line to be played: LiveKit reports a reply as
        played only after its end.
        """
        while not self._items:
            if self._ended is not None:
                return None
            if self._awaited is not None:
                self._paused, self._awaited = self._awaited, None
                return None
            self._came.clear()
            try:
                async with asyncio.timeout(None if self._said is None else HELD_BACK):
                    await self._came.wait()
            except TimeoutError:
                self._said = None
                return Pause()
        self.arrived.set()
        event = self._items[0]
        if isinstance(event, events.Ended):
            return None
        if isinstance(event, events.Text) and event.message_id != self._said:
            self._said = None
        return self._items.popleft()

    # ---- from LiveKit

    @property
    def speeches(self) -> list[SpeechHandle]:
        """LiveKit's speeches that drain this turn now."""
        return list(self._handles)

    def attach(self, handle: SpeechHandle) -> None:
        """A LiveKit speech drains this turn from now on."""
        if handle in self._handles:
            return
        over = self._handles[handle] = asyncio.get_running_loop().create_future()

        def ended(_: SpeechHandle) -> None:
            if not over.done():
                over.set_result(None)

        handle.add_done_callback(ended)
        self._watch(self._follow(handle, over))

    def detach(self, handle: SpeechHandle) -> None:
        """This speech does not drain it any more: it waits, for a task, beyond the end of the turn."""
        over = self._handles.pop(handle, None)
        if over is not None and not over.done():
            over.set_result(None)

    async def _follow(self, handle: SpeechHandle, over: "asyncio.Future[None]") -> None:
        await handle.wait_if_not_interrupted([over])
        if self._handles.get(handle) is not over:
            self.maybe_close()  # detached
            return
        if handle.interrupted:
            self.turn.interrupt()
            self.entered_by_method.set()
        await over
        self.arrived.set()
        self._handles.pop(handle, None)
        if handle.interrupted:
            self._drop_handoffs()
        if self._paused and not self._reported(self._paused):
            self.turn.heard(self._paused, "")  # its voice failed: the graph need not wait for it
        self.maybe_close()

    def _drop_handoffs(self) -> None:
        """The caller has interrupted a speech of the turn. LiveKit drops what is not certain."""
        for handoff in self._handoffs:
            if handoff.state is not LiveHandoffState.ANNOUNCED:
                continue
            if handoff.completes and any(isinstance(e, Switch) and e.handoff is handoff for e in self._items):
                self._call.complete_handoff(handoff)  # LiveKit has not come to it yet
            else:
                handoff.drop()

    def _reported(self, message_id: str) -> bool:
        found = self.turn.record.spoken(message_id)
        return found is not None and found[1].heard is not None

    def _barge_in(self) -> None:
        """Interrupt the turn because the caller interrupted a line of it, which is a speech of its own for LiveKit."""
        self.turn.interrupt()
        for handle in self._handles:
            if handle.allow_interruptions:
                handle.interrupt()

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        self._watchers.add(task := asyncio.create_task(work))
        task.add_done_callback(self._watchers.discard)

    # ---- the end

    def maybe_close(self) -> None:
        """Close the turn if no speech of LiveKit's can drain it any more."""
        if self.over.is_set() or self._handles or self.handoff is not None:
            return
        if self._paused is not None and not self.turn.interrupted:
            return
        ended = self._ended
        self.over.set()
        self.turn.close()
        self._call.forget(self)
        if ended is not None and ended.ends_call:
            self._call.hang_up()

    async def aclose(self) -> None:
        """The session is over: nothing more is heard. Running tools end by themselves."""
        for task in list(self._watchers):
            task.cancel()
        self.arrived.set()
        self.entered_by_method.set()
        for handoff in self._handoffs:
            handoff.end()
        self._handles.clear()
        self.maybe_close()
