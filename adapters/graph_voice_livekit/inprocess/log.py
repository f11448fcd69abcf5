"""Writes down what happens in a call, from the public events of LiveKit's session and audio output."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from livekit.agents import AgentSession
from livekit.agents.llm import AgentHandoff, ChatMessage
from livekit.agents.voice import (
    AgentFalseInterruptionEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    SpeechCreatedEvent,
    SpeechHandle,
    ToolCallEnded,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.voice.io import (
    AudioOutput,
    PlaybackFinishedEvent,
    PlaybackProgressedEvent,
    PlaybackStartedEvent,
)

from graph_voice_livekit.inprocess.audio_in import CallerUtterance
from graph_voice_livekit.inprocess.captions import Captions
from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.entries import CALLER, CallLog, Handoff, Latency, LogEntry, Note, ToolCall, Utterance

__all__ = ["CallLogger"]

_SAME_INSTANT = 0.05

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Span:
    """A stretch of agents' speech as it was played."""

    agent: str
    started: float
    ended: float
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class _Heard:
    """Words that were recognized and are not part of a turn yet."""

    text: str
    at: float
    line: CallerUtterance | None
    began: float | None
    ended: float | None


@dataclass(slots=True)
class _Asked:
    """A turn of the caller that nobody has answered yet."""

    end_of_speech: float
    noticed: float
    recognized: float
    decided: float


class CallLogger:
    """Listens to a session and its audio output until `finish`.

    Args:
        output: the one at the end of the chain: it must report what it has played (`playback_progressed`).
        captions: the text on its way to the caller; tells what an interrupted agent would have said.
        on_entry: gets each entry once it is complete.
    """

    def __init__(
        self,
        session: AgentSession[Any],
        output: AudioOutput,
        clock: CallClock,
        *,
        captions: Captions | None = None,
        on_entry: Callable[[LogEntry], None] | None = None,
    ) -> None:
        self._clock = clock
        self._captions = captions
        self._on_entry = on_entry
        self._entries: list[LogEntry] = []
        self._first_agent: str | None = None
        self._agent = ""
        self._playing: _Span | None = None
        self._spans: list[_Span] = []
        self._played: list[_Span] = []
        self._lines: list[CallerUtterance] = []
        self._heard: list[_Heard] = []
        self._speech_began: float | None = None
        self._speech_ended: float | None = None
        self._silence_noticed = 0.0
        self._tools: dict[str, ToolCall] = {}
        self._asked: _Asked | None = None
        self._over = self._finished = False

        session.on("speech_created", self._on_speech)
        session.on("conversation_item_added", self._on_item)
        session.on("user_input_transcribed", self._on_transcript)
        session.on("user_state_changed", self._on_user_state)
        session.on("tool_execution_updated", self._on_tool)
        session.on("function_tools_executed", self._on_tools_executed)
        session.on("agent_false_interruption", self._on_false_interruption)
        session.on("error", self._on_error)
        session.on("close", self._on_close)
        output.on("playback_started", self._on_playback_started)
        output.on("playback_progressed", self._on_playback_progressed)
        output.on("playback_finished", self._on_playback_finished)

    def line(self, line: CallerUtterance) -> None:
        """The simulated caller has begun a line. An audio file has none: its words are not known."""
        if line.text is not None:
            self._lines.append(line)

    def note(self, note: Note) -> None:
        """Write something down."""
        self._add(note)

    def over(self) -> None:
        """The call is over, and its session is about to be closed: nobody drops a reply that still comes."""
        self._over = True

    @property
    def last_error(self) -> str | None:
        """The last error that LiveKit reported."""
        errors = [entry.text for entry in self._entries if isinstance(entry, Note) and entry.kind == "error"]
        return errors[-1] if errors else None

    def finish(self, duration: float, *, extra: Mapping[str, Any] | None = None, graph: Sequence[str] = ()) -> CallLog:
        """Stop listening; returns the log of a call of `duration` seconds."""
        if self._playing is not None:
            self._spans.append(self._playing)
        self._orphans(before=None)
        for heard in self._heard:
            said, started, ended = self._caller_times([heard], heard.at, heard.began, heard.ended)
            self._add(Utterance(CALLER, heard.text, started, ended, said=said, lost=True))
        for line in self._lines:
            ended = min(line.ended, duration)
            self._add(Utterance(CALLER, "", line.started, ended, said=line.text, lost=True))
        for call in self._tools.values():
            self._add(call)
        self._finished = True
        entries = sorted(self._entries, key=lambda entry: min(entry.at, duration))
        return CallLog(tuple(entries), duration, self._first_agent, dict(extra or {}), tuple(graph))

    def _add(self, entry: LogEntry) -> None:
        if self._finished:
            return
        self._entries.append(entry)
        if self._on_entry is None:
            return
        try:
            self._on_entry(entry)
        except Exception:  # a terminal that is gone, say: the log goes on, and the recording is written
            self._on_entry = None
            _logger.exception("on_entry raised, and gets no more entries of this call")

    # -- what the agents say

    def _on_speech(self, event: SpeechCreatedEvent) -> None:
        agent, created = self._agent, self._clock.now()

        def done(speech: SpeechHandle) -> None:
            # A speech that was only prepared, in case that the caller has finished, was never scheduled.
            if self._over or not (speech.interrupted and speech.scheduled):
                return
            said = any(isinstance(item, ChatMessage) and item.role == "assistant" for item in speech.chat_items)
            sounded = [*self._spans, *([self._playing] if self._playing is not None else ())]
            if not said and not any(span.started >= created for span in sounded):
                words = self._captions.dropped() if self._captions is not None else None
                self._add(Utterance(agent, "", created, created, interrupted=True, generated=words, dropped=True))

        event.speech_handle.add_done_callback(done)

    def _on_playback_started(self, event: PlaybackStartedEvent) -> None:
        at = self._clock.at(event.created_at)
        self._playing = _Span(self._agent, at, at)

    def _on_playback_progressed(self, event: PlaybackProgressedEvent) -> None:
        if self._playing is not None:
            self._playing.ended = self._clock.at(event.started_at + event.duration)

    def _on_playback_finished(self, event: PlaybackFinishedEvent) -> None:
        if self._playing is None:
            return
        span, self._playing = self._playing, None
        span.interrupted = event.interrupted
        if span.ended <= span.started:  # an output that reports no progress
            span.ended = span.started + event.playback_position
        self._spans.append(span)
        self._played.append(span)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if isinstance(item, AgentHandoff):
            if item.old_agent_id is None:
                self._first_agent = item.new_agent_id
            else:
                self._add(Handoff(item.old_agent_id, item.new_agent_id, self._clock.at(event.created_at)))
            self._agent = item.new_agent_id
        elif isinstance(item, ChatMessage) and item.role == "assistant":
            self._agent_said(item, event.created_at)
        elif isinstance(item, ChatMessage) and item.role == "user":
            self._caller_said(item, event.created_at)

    def _agent_said(self, message: ChatMessage, created_at: float) -> None:
        text = (message.text_content or "").strip()
        generated = self._captions.take(text) if self._captions is not None else None
        began = message.metrics.get("started_speaking_at")
        if began is None:  # never spoken: text mode, or added by hand
            return
        self._orphans(before=self._clock.at(began) - _SAME_INSTANT)
        spans, self._spans = self._spans, []
        if not spans:
            at = self._clock.at(began)
            ended = message.metrics.get("stopped_speaking_at", created_at)
            spans = [_Span(self._agent, at, self._clock.at(ended), message.interrupted)]
        first = spans[0]
        self._answered(message, first)
        self._add(
            Utterance(
                first.agent,
                text,
                first.started,
                spans[-1].ended,
                interrupted=message.interrupted,
                generated=generated if message.interrupted else None,
            )
        )

    def _orphans(self, before: float | None) -> None:
        """Add what was played but left no message: it was cut off before LiveKit counted a word as heard."""
        kept: list[_Span] = []
        for span in self._spans:
            if before is not None and span.started >= before:
                kept.append(span)
            elif span.ended > span.started:
                self._add(Utterance(span.agent, "", span.started, span.ended, interrupted=span.interrupted))
        self._spans = kept

    def _answered(self, message: ChatMessage, span: _Span) -> None:
        asked = self._asked
        if asked is None or span.started <= asked.end_of_speech:
            return
        self._asked = None
        end, first = asked.end_of_speech, span.started
        recognized = min(max(asked.recognized, end), first)
        # a recognizer that streams has the words before the silence is long enough
        noticed = max(asked.noticed, end) if asked.noticed < recognized else end
        decided = min(max(asked.decided, recognized), first)
        synthesis = min(message.metrics.get("tts_node_ttfb", 0.0), first - decided)
        ready = first - synthesis
        earlier = [(each.started, each.ended) for each in self._played if each is not span]
        calls = [(one.started, one.ended or ready) for one in self._tool_calls()]
        waiting = _covered(earlier, decided, ready)
        tools = _covered(earlier + calls, decided, ready) - waiting
        self._add(
            Latency(
                speaker=span.agent,
                end_of_speech=end,
                first_audio=first,
                silence=noticed - end,
                recognition=recognized - noticed,
                end_of_turn=decided - recognized,
                model=ready - decided - waiting - tools,
                synthesis=synthesis,
                waiting=waiting,
                tools=tools,
                llm_ttft=message.metrics.get("llm_node_ttft"),
            )
        )

    def _tool_calls(self) -> list[ToolCall]:
        return [*self._tools.values(), *(entry for entry in self._entries if isinstance(entry, ToolCall))]

    # -- what the caller says

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        at = self._clock.at(event.created_at)
        if event.new_state == "speaking":
            if self._speech_began is None:
                self._speech_began = at
        else:
            self._speech_ended = at
            self._silence_noticed = self._clock.now()  # the event itself is backdated

    def _on_transcript(self, event: UserInputTranscribedEvent) -> None:
        text = event.transcript.strip()
        if event.is_final and text:
            at = self._clock.at(event.created_at)
            line = next((line for line in reversed(self._lines) if line.started <= at), None)
            self._heard.append(_Heard(text, at, line, self._speech_began, self._speech_ended))
            self._speech_began = None

    def _caller_said(self, message: ChatMessage, created_at: float) -> None:
        text = (message.text_content or "").strip()
        if not text:
            return  # LiveKit adds an empty turn when it closes in manual mode
        metrics = message.metrics
        heard = self._take_heard(text)
        vad_began = heard[0].began if heard else None
        vad_ended = heard[-1].ended if heard else None
        if "started_speaking_at" in metrics:
            vad_began = self._clock.at(metrics["started_speaking_at"])
        if "stopped_speaking_at" in metrics:
            vad_ended = self._clock.at(metrics["stopped_speaking_at"])
        said, started, ended = self._caller_times(heard, self._clock.at(created_at), vad_began, vad_ended)
        stopped = vad_ended if vad_ended is not None else ended
        # LiveKit measures no delays of a turn that was made of words that it had kept: then its events tell.
        words_came = heard[-1].at if heard else stopped
        recognized = stopped + metrics["transcription_delay"] if "transcription_delay" in metrics else words_came
        decided = (
            stopped + metrics["end_of_turn_delay"] if "end_of_turn_delay" in metrics else self._clock.at(created_at)
        )
        self._asked = _Asked(ended, self._silence_noticed, recognized, decided)
        self._add(Utterance(CALLER, text, started, ended, said=said))

    def _take_heard(self, text: str) -> list[_Heard]:
        """Take the recognized words that a turn is made of. Words before them became no turn yet; they are kept,
        because a front end may still make one of them."""
        heard = self._heard
        for first in range(len(heard)):
            if " ".join(each.text for each in heard[first:]) == text:
                self._heard = heard[:first]
                return heard[first:]
        for index, each in enumerate(heard):
            if each.text == text:
                self._heard = heard[:index] + heard[index + 1 :]
                return [each]
        self._heard = []  # the words were edited on their way into the turn
        return heard

    def _caller_times(
        self, heard: list[_Heard], at: float, began: float | None, ended: float | None
    ) -> tuple[str | None, float, float]:
        """The words of the script, and when they began and ended: exactly for a line of a script, otherwise as the
        voice activity detection has it."""
        stop = at if ended is None else ended
        start = stop if began is None else began
        lines = [line for line in dict.fromkeys(each.line for each in heard) if line in self._lines]
        said = None
        if lines:
            self._lines = [line for line in self._lines if line not in lines]
            said = " ".join(line.text or "" for line in lines if line is not None)
            start = min(line.started for line in lines if line is not None)
            last = max(line.ended for line in lines if line is not None)
            stop = last if last <= at else stop  # a line with a pause in it may make two turns
        return said, min(start, stop), stop

    # -- tools and the rest

    def _on_tool(self, event: ToolExecutionUpdatedEvent) -> None:
        update, at = event.update, self._clock.at(event.created_at)
        if isinstance(update, ToolCallStarted):
            call = update.function_call
            self._tools[call.call_id] = ToolCall(
                self._agent, call.name, _arguments(call.arguments), started=at, call_id=call.call_id
            )
        elif isinstance(update, ToolCallEnded) and update.call_id in self._tools:
            self._tools[update.call_id] = replace(
                self._tools[update.call_id],
                ended=at,
                output=update.message,
                is_error=update.status != "done",
            )

    def _on_tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        at = self._clock.at(event.created_at)
        for call, output in event.zipped():
            known = self._tools.pop(call.call_id, None)
            if known is None:  # never dispatched: an unknown tool, or arguments that are not JSON
                started = self._clock.at(call.created_at)
                known = ToolCall(self._agent, call.name, _arguments(call.arguments), started, call_id=call.call_id)
            self._add(
                replace(
                    known,
                    ended=known.ended if known.ended is not None else at,
                    output=output.output or known.output,
                    is_error=output.is_error,
                )
            )

    def _on_false_interruption(self, event: AgentFalseInterruptionEvent) -> None:
        text = "the agent went on" if event.resumed else "the agent did not go on"
        self._add(Note("false interruption", text, self._clock.at(event.created_at)))

    def _on_error(self, event: ErrorEvent) -> None:
        error = getattr(event.error, "error", event.error)
        source = getattr(event.source, "label", type(event.source).__name__)
        text = f"{source}: {type(error).__name__}: {error}"
        self._add(Note("error", text, self._clock.at(event.created_at)))

    def _on_close(self, event: CloseEvent) -> None:
        if event.error is not None:
            self._add(Note("error", f"LiveKit closed the session: {event.error}", self._clock.at(event.created_at)))


def _covered(intervals: Iterable[tuple[float, float]], start: float, end: float) -> float:
    """How much of the time from `start` to `end` the intervals cover together."""
    covered, reached = 0.0, start
    for begin, stop in sorted(intervals):
        begin, stop = max(begin, reached), min(stop, end)
        if stop > begin:
            covered, reached = covered + stop - begin, stop
    return covered


def _arguments(raw: str) -> dict[str, Any]:
    try:
        value = json.loads(raw or "{}")
    except ValueError:
        return {"": raw}
    return value if isinstance(value, dict) else {"": value}
