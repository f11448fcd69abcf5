"""Drivers: each drains one turn of the graph into LiveKit, and tells the turn what LiveKit really did.

Several LiveKit speeches may speak one turn: the reply, the reply after a tool, the first words of the next agent. They
drain it one after the other, so one user turn stays one graph run.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from livekit.agents import NOT_GIVEN, AgentSession, RunContext, llm
from livekit.agents.voice import SpeechHandle

from graph_voice import Turn, events
from graph_voice_livekit.session.external import ExternalAgents
from graph_voice_livekit.session.tools import GrowingLine, MirroredBatch

__all__ = ["NO_HANDOFF", "Pause", "Tables", "TurnCall", "TurnDriver"]

logger = logging.getLogger("graph_voice.livekit")
NO_HANDOFF = "the agent handoff was interrupted and did not happen"
"""LiveKit's words for the same case."""


HELD_BACK = 0.05
"""Seconds that the end of a message may wait, in the voice's sentence tokenizer, for the next message."""


@dataclass(frozen=True, slots=True)
class Pause(events.Event):
    """A message is over and nothing has followed it yet: the graph is in a slow step."""


@dataclass
class Tables:
    """What the turns of one call share: whose is the id, or the speech, that LiveKit reports."""

    tool_calls: dict[str, "TurnDriver"] = field(default_factory=dict)
    """Tool call id -> the turn that made the tool call."""
    replies: dict[str, tuple["TurnDriver", list[tuple[str, str]]]] = field(default_factory=dict)
    """Reply id -> its turn, and (message id, text) of what it has spoken."""
    asking: dict[str, llm.FunctionCallOutput] = field(default_factory=dict)
    """Tool call id -> LiveKit's item of a tool call that waits for the caller's answer (LangGraph's `interrupt()`)."""
    growing_lines: dict[str, GrowingLine] = field(default_factory=dict)
    """Message id -> a line that a tool still generates."""
    own_lines: set[SpeechHandle] = field(default_factory=set)
    """LiveKit's speeches that say a line of the graph. Any other that no turn drains is the program's own."""


class TurnCall(Protocol):
    """What a turn asks of the call that it belongs to."""

    @property
    def session(self) -> AgentSession[Any]:
        """The LiveKit session that speaks the call."""

    @property
    def tables(self) -> Tables: ...

    @property
    def external_agents(self) -> ExternalAgents: ...

    def speak(self, driver: "TurnDriver", instructions: str | None = None) -> None:
        """Ask LiveKit for a reply that continues this turn."""

    def complete_handoff(self, driver: "TurnDriver", event: events.HandedOff) -> None:
        """Carry out a handoff that LiveKit has canceled, or was too late for."""

    def forget(self, driver: "TurnDriver") -> None:
        """This turn is over."""


class TurnDriver:
    """Drains one turn. Owned by its call."""

    def __init__(self, call: TurnCall, turn: Turn) -> None:
        self._call = call
        self.turn = turn
        self.entry: str | None = None
        """The next agent, whose first words will continue this turn; None if the turn hands off to nobody."""
        self.entry_is_certain = False
        """Whether LiveKit carries out this handoff even if it is interrupted now."""
        self.arrived = asyncio.Event()
        """Set when the graph has reached LiveKit's active agent: it has produced something for it, or is over."""
        self.entered = asyncio.Event()
        """Set when an agent's `on_enter` method has ended, has handed off, or was interrupted, and when LiveKit leaves
        the agent, which waits for it."""
        self.entered.set()
        self.over = asyncio.Event()
        """Set when no speech of LiveKit's will drain this turn any more."""
        self.batches: list[MirroredBatch] = []
        self.switch: events.HandedOff | None = None
        """A handoff that no mirror carries out: by an edge of the graph, or by a tool call of an earlier process."""
        self.earlier: dict[str, llm.FunctionCallOutput] = {}
        """Tool call id -> LiveKit's item, for tool calls of earlier turns that were answered in this one."""
        self._waiting: list[Callable[[], None]] = []
        self._open: MirroredBatch | None = None
        self._handles: set[SpeechHandle] = set()
        self._contexts: list[RunContext[Any]] = []
        self._items: deque[events.Event] = deque()
        self._arrived = asyncio.Event()
        self._watchers: set[asyncio.Task[None]] = set()
        self._awaited: str | None = None
        """A message that must be played before the graph goes on, and is no tool's (`ctx.say` in `on_enter`)."""
        self._paused: str | None = None
        """A message for which the reply was ended, so that it is played. What follows it needs a reply of its own."""
        self._said: str | None = None
        """The last message that is complete."""
        self._held = False
        turn.on_hold = self._hold
        turn.on_wait = self._wait_for
        turn.on_said = self._message_over
        turn.on_entered = self.entered.set
        self._pump_task = asyncio.create_task(self._pump(), name=f"graph_voice.drain.{turn.id}")

    # ---- from the graph

    async def _pump(self) -> None:
        """Sort the turn's events: words go to LiveKit's current reply, results to the mirrors."""
        async for event in self.turn:
            match event:
                case events.ToolCalls(agent=agent, calls=calls):
                    self._open = MirroredBatch(agent, {c.id: c for c in calls})
                    self.batches.append(self._open)
                    for call in calls:
                        self._call.tables.tool_calls[call.id] = self
                    self._put(event)
                case events.ToolResult(call_id=call_id) if self._open is not None and call_id in self._open.tool_calls:
                    self._result(self._open, event)
                case events.ToolResult(call_id=call_id) if call_id in self._call.tables.asking:
                    self.when_certain(functools.partial(self._earlier_result, event))
                case events.Interrupt():
                    # The batch goes on when the caller has answered; its mirrors need not wait for that.
                    if self._open is not None:
                        self._open.asks = True
                        self._close_batch(self._open)
                    self._put(event)
                case events.HandedOff():
                    self._handed_off(event)
                case events.Say() if self._open is not None and not self._open.done.is_set():
                    self._speak_aside(self._open, event.message_id, event.text)
                case events.Text() if self._open is not None and not self._open.done.is_set():
                    self._stream_line(self._open, event)
                case _:
                    self._put(event)
        if self._open is not None:  # the run ended in the middle of a batch
            self._close_batch(self._open)
        self._paused = None
        self.arrived.set()
        self.entered.set()
        self.maybe_close()

    def speak_when_there_are_words(self) -> None:
        """The agent enters by a method, which may say nothing: LiveKit is asked for a reply when there is one."""
        if self._pump_task.done() or self.turn.interrupted:
            self._call.speak(self)
            return
        self.entered.clear()
        if any(not isinstance(event, events.Ended) for event in self._items):
            self._call.speak(self)
        else:
            self._paused = ""

    def _put(self, event: events.Event) -> None:
        self._items.append(event)
        self._arrived.set()
        if self._paused is not None and not isinstance(event, events.Ended):
            self._paused = None
            self._call.speak(self)

    def _wait_for(self, message_id: str) -> None:
        if self.entry is not None and self.entry in self._call.external_agents:
            logger.warning("agent %s is leaving; nobody can say its closing message any more", self.turn.new_agent)
            self.turn.heard(message_id, "")
            return
        if self._open is None:
            self._awaited = message_id
            self._arrived.set()

    def _message_over(self, message_id: str) -> None:
        self._said = message_id
        self._arrived.set()

    def _result(self, batch: MirroredBatch, event: events.ToolResult) -> None:
        batch.results[event.call_id] = event
        batch.late_result(event.call_id)
        if len(batch.results) == len(batch.tool_calls) and not isinstance(self.turn.peek(), events.HandedOff):
            # A handoff follows the result that carries it at once, so it would be there already.
            self._close_batch(batch)

    def _earlier_result(self, event: events.ToolResult) -> None:
        """A tool call of an earlier turn that asked the caller (LangGraph's `interrupt()`) has its result now."""
        if (asked := self._call.tables.asking.pop(event.call_id, None)) is not None:
            asked.output, asked.is_error = event.output, event.is_error
            self.earlier[event.call_id] = asked

    def _handed_off(self, event: events.HandedOff) -> None:
        if self._open is not None and event.call_id in self._open.unanswered:
            self._handed_off_late(self._open, event)
            return
        self.entry = event.new_agent
        self.entered.set()
        if self._open is not None and event.call_id in self._open.tool_calls:
            self._open.handoff = event
            if len(self._open.results) == len(self._open.tool_calls):
                self._close_batch(self._open)
        else:
            # A switch by an edge: there is no tool whose mirror could return the next agent.
            self._put(event)

    def _handed_off_late(self, batch: MirroredBatch, event: events.HandedOff) -> None:
        """A barge-in released the mirror before the handoff came, so LiveKit can no longer carry it out."""
        self._close_batch(batch)
        if event.on_interruption == "complete" and not self.turn.closed:
            batch.handoff = event
            self._call.complete_handoff(self, event)
            return
        assert event.call_id is not None
        self.turn.reject_handoff(event.call_id, NO_HANDOFF)
        if (found := self.turn.record.call(event.call_id)) is not None and (told := found[1].result) is not None:
            batch.results[event.call_id] = replace(
                batch.results[event.call_id], output=told.text, is_error=told.status == "error"
            )
            batch.late_result(event.call_id)

    def _close_batch(self, batch: MirroredBatch) -> None:
        batch.done.set()
        self._open = None

    def _stream_line(self, batch: MirroredBatch, event: events.Text) -> None:
        """Speak words that a running tool generates (`ctx.generate_reply`)."""
        stream = self._call.tables.growing_lines.get(event.message_id)
        if stream is None:
            stream = self._call.tables.growing_lines[event.message_id] = GrowingLine()
            self._speak_aside(batch, event.message_id, stream)
            self._watch(asyncio.create_task(self._end_stream(event.message_id, stream)))
        stream.push(event.text)

    async def _end_stream(self, message_id: str, stream: GrowingLine) -> None:
        await self.turn.wait_line(message_id)
        stream.end()
        self._call.tables.growing_lines.pop(message_id, None)

    def _speak_aside(self, batch: MirroredBatch, message_id: str, text: str | GrowingLine) -> None:
        try:
            # A tool that disallows interruptions does so for its own words as well.
            handle = self._call.session.say(text, allow_interruptions=False if self._held else NOT_GIVEN)
        except RuntimeError as error:
            logger.warning("a line of the graph could not be spoken: %s", error)
            self.turn.heard(message_id, "")
            return
        self._call.tables.own_lines.add(handle)
        batch.lines.append(handle)

        def played(done: SpeechHandle) -> None:
            done.remove_done_callback(played)  # LiveKit keeps each handle for as long as the session lives
            self._call.tables.own_lines.discard(done)
            words = [i for i in done.chat_items if i.type == "message" and i.role == "assistant"]
            text = " ".join(t for i in words if (t := i.text_content))
            self.turn.heard(message_id, text, at=words[0].created_at if words else None)
            if done.interrupted:
                self._barge_in()

        handle.add_done_callback(played)

    # ---- what waits until the turn is certain

    def when_certain(self, act: Callable[[], None]) -> None:
        """Do it as soon as the user turn has really happened: now, later, or never if the turn was a wrong guess."""
        if self.turn.committed:
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
            if self._pump_task.done():
                return None
            if self._awaited is not None and self.turn.peek() is None:
                self._paused, self._awaited = self._awaited, None
                return None
            self._arrived.clear()
            try:
                async with asyncio.timeout(None if self._said is None else HELD_BACK):
                    await self._arrived.wait()
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

    def said(self, batch: MirroredBatch) -> bool:
        """Whether the model said something beside the tool calls of this batch."""
        found = self.turn.record.call(next(iter(batch.tool_calls)))
        return found is not None and bool(found[0].words.produced.strip())

    def batch_of(self, call_id: str) -> MirroredBatch | None:
        return next((b for b in self.batches if call_id in b.tool_calls), None)

    # ---- from LiveKit

    def attach(self, handle: SpeechHandle) -> None:
        """A LiveKit speech drains this turn from now on."""
        if handle in self._handles:
            return
        self._handles.add(handle)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(_: SpeechHandle) -> None:
            if not over.done():
                over.set_result(None)

        handle.add_done_callback(ended)
        self._watch(asyncio.create_task(self._follow(handle, over)))

    def _barge_in(self) -> None:
        """Interrupt the turn because the caller interrupted a line of it, which is a speech of its own for LiveKit."""
        self.turn.interrupt()
        for handle in self._handles:
            if handle.allow_interruptions:
                handle.interrupt()

    def _watch(self, task: "asyncio.Task[None]") -> None:
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _follow(self, handle: SpeechHandle, over: "asyncio.Future[None]") -> None:
        await handle.wait_if_not_interrupted([over])
        if handle.interrupted:
            self.turn.interrupt()
            self.entered.set()
        await over
        self.arrived.set()
        self._handles.discard(handle)
        if handle.interrupted and not self.entry_is_certain:
            self.cancel_entry()
        if self._paused and not self._reported(self._paused):
            self.turn.heard(self._paused, "")  # its voice failed: the graph need not wait for it
        self.maybe_close()

    def _reported(self, message_id: str) -> bool:
        found = self.turn.record.spoken(message_id)
        return found is not None and found[1].heard is not None

    @property
    def completes(self) -> bool:
        """Whether the turn hands off to the next agent although the caller has interrupted."""
        batch = next((b for b in reversed(self.batches) if b.handoff is not None), None)
        if self.entry is None or batch is None or batch.handoff is None or batch.handoff.on_interruption == "cancel":
            return False
        return self.turn.interrupted or any(handle.interrupted for handle in self._handles)

    @property
    def speeches(self) -> list[SpeechHandle]:
        """LiveKit's speeches that drain this turn now."""
        return list(self._handles)

    def cancel_entry(self) -> None:
        """The handoff of this turn did not happen."""
        self.entry, self.entry_is_certain = None, False

    def maybe_close(self) -> None:
        """Close the turn if no speech of LiveKit's can drain it any more."""
        if self._handles or self.entry is not None or (self._paused is not None and not self.turn.interrupted):
            return
        if not self.turn.committed:
            self.turn.discard_if_possible()
        self.turn.close()
        self.over.set()
        self._call.forget(self)

    def mirror_started(self, context: RunContext[Any]) -> None:
        self._contexts.append(context)

    def mirror_ended(self, context: RunContext[Any]) -> None:
        self._contexts.remove(context)

    def _hold(self, held: bool) -> None:
        """Pass a graph tool's `ctx.disallow_interruptions()` on to the speech that made the tool call."""
        self._held = held
        for context in self._contexts:
            try:
                if held:
                    context.disallow_interruptions()
            except RuntimeError:
                logger.warning("%s can't disallow interruptions: it is interrupted", context.function_call.name)

    async def aclose(self) -> None:
        """The session is over: nothing more is heard. Running tools end by themselves."""
        for task in list(self._watchers):
            task.cancel()
        self.arrived.set()
        self.entered.set()
        self.entry = None
        self._handles.clear()
        self.maybe_close()
