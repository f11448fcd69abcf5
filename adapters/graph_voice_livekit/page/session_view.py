"""What the page shows of a call that goes on elsewhere, made from what LiveKit tells the call's room."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from livekit.protocol.agent_pb import agent_session as pb

from graph_voice_livekit.page.protocol import ToPage
from graph_voice_livekit.page.told_turn import ToldTurn

__all__ = ["SessionView"]

_LONGEST = 4000
"""Characters of a line, of a tool's arguments, of a result."""
_STATUS = {pb.TC_DONE: "done", pb.TC_ERROR: "error", pb.TC_CANCELLED: "cancelled"}


@dataclass
class _Line:
    """Words of an agent: captions first, then what LiveKit's history has."""

    turn: ToldTurn
    words: dict[str, Any]
    is_known: bool = False
    """Whether the history has them."""


class SessionView:
    """Follows LiveKit's `lk.agent.session` and its captions. Each turn is told whole each time it changes.

    Args:
        send: takes JSON for the page.
    """

    def __init__(self, send: Callable[[ToPage], None]) -> None:
        self._send = send
        self._agent, self._states = "", {"agent": "listening", "user": "listening"}
        self._turn = ToldTurn("livekit", 1)
        self._calls: dict[str, tuple[ToldTurn, dict[str, Any], float | None]] = {}
        """Tool call id -> its turn, what is shown of it, when it began."""
        self._lines: dict[str, _Line] = {}
        """Segment of LiveKit's captions, or the id of an item -> its words."""
        self._has_events = False

    # ---- LiveKit's own topic

    def take(self, event: pb.AgentSessionEvent) -> None:
        """One event of the session. Kinds that the page has no place for are left out."""
        self._has_events = True
        kind = event.WhichOneof("event")
        told: Any = getattr(event, kind) if kind else None
        at = _seconds(event, "created_at") or time.time()
        match kind:
            case "agent_state_changed":
                self.state(agent=pb.AgentState.Name(told.new_state).removeprefix("AS_").lower())
            case "user_state_changed":
                self.state(user=pb.UserState.Name(told.new_state).removeprefix("US_").lower())
            case "user_input_transcribed":
                self._send({"type": "caller", "text": told.transcript[:_LONGEST], "final": told.is_final})
            case "conversation_item_added":
                self._item(told.item)
            case "tool_execution_updated":
                self._running(told, at)
            case "function_tools_executed":
                self._executed(told)
            case "agent_false_interruption":
                goes_on = ": the agent goes on" if told.resumed else ""
                self._send({"type": "notice", "kind": "info", "text": f"It was no interruption{goes_on}."})
            case "error":
                self._send({"type": "notice", "kind": "error", "text": told.message[:_LONGEST]})

    def state(self, **changed: str) -> None:
        """What the agent (`agent=`) or the caller (`user=`) does now."""
        self._states |= changed
        self._send({"type": "state", **self._states})

    def _item(self, item: pb.ChatContext.ChatItem) -> None:
        match item.WhichOneof("item"):
            case "message" if item.message.role == pb.USER:
                self._user(item.message)
            case "message" if item.message.role == pb.ASSISTANT:
                self._assistant(item.message)
            case "agent_handoff":
                self._handoff(item.agent_handoff)
            case "function_call":
                self._called(item.function_call.call_id, item.function_call.name, item.function_call.arguments)
            case "function_call_output":
                output = item.function_call_output
                self._answered(output.call_id, output.output, output.is_error)

    def _user(self, message: pb.ChatMessage) -> None:
        turn = self._begin(_text(message))
        began, stopped = (_seconds(message.metrics, f"{word}_speaking_at") for word in ("started", "stopped"))
        if stopped is not None:
            turn.span("caller", "caller speaks", began or stopped, stopped)
            recognized = stopped + message.metrics.transcription_delay
            turn.span("transcription", "transcription", stopped, recognized)
            turn.span("end_of_turn", "end of turn", recognized, stopped + message.metrics.end_of_turn_delay)
        self._tell(turn)

    def _assistant(self, message: pb.ChatMessage) -> None:
        text = _text(message)
        line = self._captioned(text) or self._line(message.id)
        state = "heard" if not message.interrupted else "cut" if text.strip() else "dropped"
        line.words.update(heard=text, unheard="", state=state)
        line.is_known = True
        began, stopped = (_seconds(message.metrics, f"{word}_speaking_at") for word in ("started", "stopped"))
        if began is not None:
            line.turn.span("voice", "voice: first sound", began - message.metrics.tts_node_ttfb, began)
            line.turn.span("playback", "playback", began, stopped or began)
        self._tell(line.turn)

    def _handoff(self, handoff: pb.AgentHandoff) -> None:
        old, new = handoff.old_agent_id or self._agent, handoff.new_agent_id
        if not self._agent:
            self._name(old)
        self._agent = new
        self._send({"type": "agent", "name": self._agent, "before": old})
        if old and old != self._agent:
            shown = {"old": old, "new": self._agent, "call": None, "task": None, "state": "entered"}
            self._turn.handoffs.append({**shown, "reason": "", "args": ""})
            self._tell(self._turn)

    def _name(self, agent: str) -> None:
        """Who came in the middle of a call learns at the first handoff who was active until then."""
        turns = {id(turn): turn for turn in (self._turn, *(line.turn for line in self._lines.values()))}
        for turn in turns.values():
            nameless = [step for step in turn.steps if not step["agent"]]
            for step in nameless:
                step["agent"] = agent
            if nameless and agent:
                self._tell(turn)

    # ---- tool calls

    def _running(self, update: pb.AgentSessionEvent.ToolExecutionUpdated, at: float) -> None:
        match update.WhichOneof("update"):
            case "started":
                call = update.started.function_call
                self._called(call.call_id, call.name, call.arguments, at)
            case "ended":
                ended = update.ended
                self._ended(ended.call_id, _STATUS.get(ended.status, "done"), ended.message, at)

    def _executed(self, executed: pb.AgentSessionEvent.FunctionToolsExecuted) -> None:
        for call in executed.function_calls:
            self._called(call.call_id, call.name, call.arguments)
        for output in executed.function_call_outputs:
            self._answered(output.call_id, output.output, output.is_error)

    def _called(self, call_id: str, name: str, arguments: str, at: float | None = None) -> None:
        if call_id in self._calls:
            return
        shown: dict[str, Any] = {"id": call_id, "name": name, "args": arguments[:_LONGEST], "status": "running"}
        shown |= {"result": None, "error": False, "seconds": None}
        self._calls[call_id] = self._turn, shown, at
        self._turn.steps.append({"agent": self._agent, "words": [], "calls": [shown]})
        self._tell(self._turn)

    def _ended(self, call_id: str, status: str, message: str, at: float) -> None:
        if call_id not in self._calls:
            return
        turn, shown, began = self._calls[call_id]
        shown.update(status=status, error=status == "error")
        if message and shown["result"] is None:
            shown["result"] = message[:_LONGEST]
        if began is not None and shown["seconds"] is None:
            shown["seconds"] = round(at - began, 3)
            turn.span("tool", str(shown["name"]), began, at)
        self._tell(turn)

    def _answered(self, call_id: str, output: str, is_error: bool) -> None:
        if call_id not in self._calls:
            return
        turn, shown, _ = self._calls[call_id]
        status = shown["status"] if shown["status"] != "running" else "done"
        shown.update(result=output[:_LONGEST], error=is_error, status=status)
        self._tell(turn)

    # ---- captions

    def caption(self, segment: str, text: str, is_over: bool) -> None:
        """What an agent has said of this segment so far. LiveKit sends it as it is heard."""
        line = self._lines.get(segment) or self._line(segment)
        if not line.is_known:
            line.words.update(heard=text[:_LONGEST], state="heard" if is_over else "playing")
            self._tell(line.turn)

    def caller_caption(self, text: str, is_final: bool) -> None:
        """The caller's words, of a session that tells nothing but captions."""
        if self._has_events:
            return
        if is_final:
            self._tell(self._begin(text[:_LONGEST]))
        else:
            self._send({"type": "caller", "text": text[:_LONGEST], "final": False})

    def _captioned(self, text: str) -> _Line | None:
        """The captions of what the history has now: those that are the same words, as far as they have come."""
        letters = _letters(text)
        for line in self._lines.values():
            shown = _letters(line.words["heard"])
            if not line.is_known and shown and (letters.startswith(shown) or shown.startswith(letters)):
                return line
        return None

    # ---- turns

    def _begin(self, user: str) -> ToldTurn:
        is_new = self._turn.user is None and not self._turn.steps and not self._turn.handoffs
        self._turn = ToldTurn("livekit", self._turn.number if is_new else self._turn.number + 1, user)
        return self._turn

    def _line(self, name: str) -> _Line:
        words = {"id": name, "heard": "", "unheard": "", "state": "playing"}
        line = self._lines[name] = _Line(self._turn, words)
        line.turn.steps.append({"agent": self._agent, "words": [words], "calls": []})
        return line

    def _tell(self, turn: ToldTurn) -> None:
        self._send(turn.view())


def _text(message: pb.ChatMessage) -> str:
    return "\n".join(part.text for part in message.content if part.text)[:_LONGEST]


def _letters(text: str) -> str:
    return "".join(text.split())


def _seconds(message: Message, name: str) -> float | None:
    """A moment of the message, in seconds since the epoch; None if it has none."""
    if not message.HasField(name):
        return None
    moment: Any = getattr(message, name)
    return float(moment.seconds) + float(moment.nanos) / 1e9
