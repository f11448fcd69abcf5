"""Watches one call and tells its page what happens, whenever that differs from what the page was told last."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from livekit.agents import AgentSession
from livekit.agents.voice.events import (
    AgentFalseInterruptionEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    UserInputTranscribedEvent,
)

from graph_voice import Conversation, Turn, events
from graph_voice.secrets.spoken import redact
from graph_voice.tracing.redaction import Redaction
from graph_voice.turn.tool_run import ToolRun
from graph_voice.userdata.channel import public_fields
from graph_voice_livekit.agent import NodeAgent
from graph_voice_livekit.page.captions import PageCaptions
from graph_voice_livekit.page.protocol import ToPage
from graph_voice_livekit.page.runs import RunWatch
from graph_voice_livekit.page.turn_view import Span, TurnSeen
from graph_voice_livekit.session.reply import EXTRA

__all__ = ["CallWatch"]

_EVERY = 0.25
"""Seconds after which the page is told what no event has told."""
_TOGETHER = 0.03
"""Seconds in which changes are told together."""
_FOLLOWED = 12
"""Turns that may still change. Older ones are over."""
_LONGEST = 2000


class CallWatch:
    """What a page sees of a call.

    Args:
        send: takes JSON for the page.
    """

    def __init__(self, send: Callable[[ToPage], None]) -> None:
        self._send = send
        self._changed = asyncio.Event()
        self.captions = PageCaptions(self._changed.set)
        self.runs = RunWatch(self._changed.set)
        self._turns: dict[str, TurnSeen] = {}
        self._measured: dict[str, list[Span]] = {}
        """The id of a message of the caller -> when it was said, which may be known before its turn does anything."""
        self._lines: dict[float, Mapping[str, Any]] = {}
        """When a line was played that LiveKit does not mark -> its times. Most are lines of a tool or of a handoff."""
        self._count = 0
        self._told: dict[str, str] = {}
        self._conversation: Conversation[Any] | None = None
        self._session: AgentSession[Any] | None = None
        self._agent = ""
        self._known: Redaction | None = None
        """What is secret, while the page is told something."""

    # ---- listening

    def follow(self, conversation: Conversation[Any], session: AgentSession[Any]) -> None:
        """Listen to this call from now on."""
        self._conversation, self._session = conversation, session
        call = conversation.call
        call.on_event, call.on_tool, call.on_line = self._on_event, self._on_tool, self._on_line
        session.on("conversation_item_added", self._on_item)
        session.on("user_input_transcribed", self._on_transcript)
        session.on("agent_false_interruption", self._on_false_interruption)
        session.on("error", self._on_error)
        session.on("close", self._on_close)
        session.on("agent_state_changed", self._on_state)
        session.on("user_state_changed", self._on_state)

    @property
    def conversation(self) -> Conversation[Any]:
        assert self._conversation is not None, "the call has not begun"
        return self._conversation

    def _seen(self, turn: Turn) -> TurnSeen:
        if turn.id not in self._turns:
            self._count += 1
            self._turns[turn.id] = TurnSeen(turn, self._count)
        return self._turns[turn.id]

    def _on_event(self, turn: Turn, event: events.Event) -> None:
        seen = self._seen(turn)
        match event:
            case events.Failed(agent=agent, error=error):
                seen.failed.append(f"{agent}: {type(error).__name__}: {error}"[:_LONGEST])
            case events.Custom():
                seen.wrote(event)
            case events.ToolCalls(custom=True):
                seen.called(event)
            case events.ToolResult(custom=True):
                seen.answered(event)
        self._changed.set()

    def _on_tool(self, run: ToolRun) -> None:
        for seen in self._turns.values():
            if seen.turn.record.call(run.call_id) is None:
                continue
            if run.outcome == "running":
                seen.tools[run.call_id] = Span("tool", run.tool, time.time())
            elif (span := seen.tools.get(run.call_id)) is not None and span.end is None:
                span.end = time.time()
        self._changed.set()

    def _on_line(self, message: AIMessage) -> None:
        self._line(message.name or self._agent, message.text)

    def _line(self, agent: str, text: str) -> None:
        self._send({"type": "line", "agent": agent, "text": self._hide(text)[:_LONGEST]})

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if item.type == "message" and item.role == "assistant":
            mark = item.extra.get(EXTRA)
            if isinstance(mark, dict) and (seen := self._turns.get(str(mark.get("turn")))) is not None:
                _played(seen, item.metrics)
            elif mark is None and self._is_external and item.text_content:
                self._line(self._agent, item.text_content)
            elif mark is None:
                self._lines[item.created_at] = item.metrics
                while len(self._lines) > _FOLLOWED:
                    del self._lines[next(iter(self._lines))]
        elif item.type == "message" and item.role == "user":
            self._measured[item.id] = _spoke(item.metrics)
        self._changed.set()

    def _on_transcript(self, event: UserInputTranscribedEvent) -> None:
        said = self.conversation.call.redact(HumanMessage(event.transcript))
        self._send({"type": "caller", "text": self._hide(said.text)[:_LONGEST], "final": event.is_final})
        self._changed.set()

    def _on_false_interruption(self, event: AgentFalseInterruptionEvent) -> None:
        goes_on = ": the agent goes on" if event.resumed else ""
        self._notice("info", f"It was no interruption{goes_on}.")

    def _on_error(self, event: ErrorEvent) -> None:
        error = getattr(event.error, "error", event.error)
        self._notice("error", f"{type(error).__name__}: {error}")

    def _on_close(self, event: CloseEvent) -> None:
        self._changed.set()

    def _on_state(self, event: Any) -> None:
        self._changed.set()

    def _notice(self, kind: str, text: str) -> None:
        self._send({"type": "notice", "kind": kind, "text": self._hide(text)[:_LONGEST]})

    # ---- telling

    async def run(self) -> None:
        """Tell the page, until canceled."""
        while True:
            self.tell()
            try:
                # Not `wait_for`: Python 3.11's forgets that it was canceled if it was woken at the same time.
                async with asyncio.timeout(_EVERY):
                    await self._changed.wait()
                await asyncio.sleep(_TOGETHER)
            except TimeoutError:
                pass
            self._changed.clear()

    def tell(self) -> None:
        """Tell the page now what it was not told yet."""
        self._known = self.conversation.call.traces.cover()
        try:
            self._tell()
        finally:
            self._known = None

    def _tell(self) -> None:
        session = self._session
        assert session is not None, "the call has not begun"
        before, self._agent = self._agent, self._active
        self._differs("agent", {"name": self._agent, "before": before})
        self._differs("state", {"agent": session.agent_state, "user": session.user_state})
        self._differs("nodes", {"running": self.runs.take_running()})
        self._differs("userdata", {"fields": self._userdata()})
        waiting = [spoken for seen in self._turns.values() for spoken in seen.waiting()]
        places = self.captions.places(waiting)
        for seen in list(self._turns.values()):
            if (user := seen.turn.record.user) is not None and seen.turn.state.happened:
                seen.spans += self._measured.pop(user.id or "", ())
            for began in [spoken.at for spoken in seen.spoken() if spoken.at in self._lines]:
                _played(seen, self._lines.pop(began))
            self._differs("turn", seen.view(self._hide, places, self.runs.asked, self.runs.raised), key=seen.id)
        self._forget()

    def _differs(self, kind: str, content: Mapping[str, Any], key: str = "") -> None:
        compared = {"name": content["name"]} if kind == "agent" else content
        now = json.dumps(compared, default=str, ensure_ascii=False)
        if self._told.get(kind + key) != now:
            self._told[kind + key] = now
            self._send({"type": kind, **content})

    def _forget(self) -> None:
        """Turns that are over and long past do not change any more."""
        old = list(self._turns)[:-_FOLLOWED]
        for name in old:
            if self._turns[name].turn.state.is_over and self._turns[name].turn.finished:
                del self._turns[name]
                del self._told["turn" + name]

    @property
    def _is_external(self) -> bool:
        """Whether one of LiveKit's own agents is active."""
        try:
            return self._session is not None and not isinstance(self._session.current_agent, NodeAgent)
        except RuntimeError:  # the session has not begun, or is over
            return False

    @property
    def _active(self) -> str:
        if self._is_external and self._session is not None:
            return self._session.current_agent.id
        return self.conversation.active_agent or ""

    def _userdata(self) -> dict[str, str]:
        fields = public_fields(self.conversation.state.get("userdata"))
        return {
            name: self._hide(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))[
                :_LONGEST
            ]
            for name, value in fields.items()
        }

    def _hide(self, text: str) -> str:
        if not text:
            return text
        known = self._known or self.conversation.call.traces.cover()
        return known.text(text)

    # ---- prompts

    def prompt(self, name: str) -> dict[str, Any] | None:
        """What a model was asked, without secrets; None if it is not known any more."""
        asked = self.runs.asked.get(name)
        if asked is None:
            return None
        takers = self.conversation.call.roles.takers
        shown = [redact(m, takers) if isinstance(m, HumanMessage) else m for m in asked.messages]
        messages = [{"role": _role(m), "text": self._hide(_content(m))[:20_000]} for m in shown]
        return {
            "type": "prompt",
            "id": asked.id,
            "agent": asked.agent,
            "messages": messages,
            "tools": list(asked.tools),
        }


def _role(message: BaseMessage) -> str:
    return {"human": "caller", "ai": message.name or "agent", "tool": f"result of {message.name or 'a tool'}"}.get(
        message.type, message.type
    )


def _content(message: BaseMessage) -> str:
    text = str(message.text)
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = "\n".join(f"{c['name']}({json.dumps(c['args'], default=str)})" for c in message.tool_calls)
        text = f"{text}\n{calls}".strip()
    return text


def _spoke(metrics: Mapping[str, Any]) -> list[Span]:
    """The caller's part of a turn, as LiveKit measured it."""
    stopped, began = metrics.get("stopped_speaking_at"), metrics.get("started_speaking_at")
    if stopped is None:
        return []
    spans = [Span("caller", "caller speaks", began, stopped)] if began is not None else []
    recognized = stopped + (metrics.get("transcription_delay") or 0.0)
    decided = stopped + (metrics.get("end_of_turn_delay") or 0.0)
    spans.append(Span("transcription", "transcription", stopped, recognized))
    if decided > recognized:
        spans.append(Span("end_of_turn", "end of turn", recognized, decided))
    return spans


def _played(seen: TurnSeen, metrics: Mapping[str, Any]) -> None:
    began, stopped = metrics.get("started_speaking_at"), metrics.get("stopped_speaking_at")
    if began is None or "tts_node_ttfb" not in metrics:
        return
    seen.spans.append(Span("voice", "voice: first sound", began - metrics["tts_node_ttfb"], began))
    if stopped is not None and stopped > began:
        seen.spans.append(Span("playback", "playback", began, stopped))
