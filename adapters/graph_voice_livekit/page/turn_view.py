"""One turn as the page shows it: derived from the turn's record each time, never patched."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graph_voice import Turn, events
from graph_voice.turn.record import ModelStep, Spoken, ToolCallRecord
from graph_voice.turn.state import TurnState
from graph_voice_livekit.page.runs import Asked

__all__ = ["Span", "TurnSeen"]

_LONGEST = 4000
"""Characters of a tool's arguments, of a result, of a line."""
Hide = Callable[[str], str]


@dataclass(eq=False)
class Span:
    """A stretch of time in a turn; in seconds since the epoch."""

    kind: str
    label: str
    start: float
    end: float | None = None

    def shown(self) -> dict[str, Any]:
        return {"kind": self.kind, "label": self.label, "start": self.start, "end": self.end}


@dataclass(eq=False)
class TurnSeen:
    """A turn, and what only events have told about it."""

    turn: Turn
    number: int
    began: float = field(default_factory=time.time)
    spans: list[Span] = field(default_factory=list)
    tools: dict[str, Span] = field(default_factory=dict)
    """Tool call id -> when its code ran."""
    custom: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Message id -> the tool calls of custom nodes, which the turn's record does not hold."""
    written: dict[str, events.Custom] = field(default_factory=dict)
    """What tools and nodes have written for a page; of several with the same key, the last."""
    failed: list[str] = field(default_factory=list)
    """What went wrong, in words."""

    @property
    def id(self) -> str:
        return self.turn.id

    def wrote(self, event: events.Custom) -> None:
        """A tool or a node has written something for a page."""
        self.written[f"key {event.key}" if event.key is not None else str(len(self.written))] = event

    def called(self, event: events.ToolCalls) -> None:
        """A custom node has made tool calls."""
        made = [
            {"id": c.id, "name": c.name, "args": c.args, "status": "running", "result": None, "error": False}
            for c in event.calls
        ]
        self.custom[event.message_id] = [{"agent": event.agent, **call} for call in made]

    def answered(self, event: events.ToolResult) -> None:
        """A tool call of a custom node has its result."""
        for call in (call for calls in self.custom.values() for call in calls):
            if call["id"] == event.call_id:
                call.update(status="done", result=event.output, error=event.is_error)

    def spoken(self) -> Iterator[Spoken]:
        """All words of the turn, in the order in which they were produced."""
        for step in self.turn.record.steps():
            yield from (step.words, *step.lines)

    def waiting(self) -> Iterator[Spoken]:
        """The words that nothing was reported of yet."""
        if self.turn.state is TurnState.COMMITTED:
            yield from (spoken for spoken in self.spoken() if spoken.heard is None)

    def view(
        self, hide: Hide, places: Mapping[str, int], asked: Mapping[str, Asked], raised: Mapping[str, str]
    ) -> dict[str, Any]:
        """What the page shows.

        Args:
            hide: returns a text without secrets.
            places: message id -> how many characters were heard so far.
            asked: the requests to models, by their ids.
            raised: tool call id -> what the tool's code has raised.
        """
        turn, record = self.turn, self.turn.record
        own = [request for request in asked.values() if request.turn == turn.id]
        return {
            "id": turn.id,
            "number": self.number,
            "state": turn.state.value,
            "began": self.began,
            "user": hide(record.user.text) if record.user is not None else None,
            "interrupted": turn.interrupted,
            "failed": [hide(text) for text in self.failed],
            "steps": [*(self._step(step, hide, places, raised) for step in record.steps()), *self._alone(hide)],
            "handoffs": [
                {
                    "old": handoff.event.old_agent,
                    "new": handoff.event.new_agent,
                    "call": handoff.event.call_id,
                    "task": handoff.event.task,
                    "state": handoff.state.value,
                    "reason": hide(handoff.reason),
                    "args": hide(_json(dict(arguments))) if (arguments := handoff.event.arguments) else "",
                }
                for handoff in record.handoffs
            ],
            "written": [
                {
                    "agent": event.agent,
                    "by": event.tool or event.node,
                    "key": hide(event.key or ""),
                    "data": hide(_json(event.data))[:_LONGEST],
                }
                for event in self.written.values()
            ],
            "prompts": [{"id": request.id, "agent": request.agent} for request in own],
            "spans": [span.shown() for span in sorted(self._spans(own), key=lambda span: span.start)],
        }

    def _step(
        self, step: ModelStep, hide: Hide, places: Mapping[str, int], raised: Mapping[str, str]
    ) -> dict[str, Any]:
        args = {call["id"]: call["args"] for call in (step.message.tool_calls if step.message is not None else ())}
        said = (step.words, *step.lines)
        return {
            "agent": step.agent,
            "words": [self._words(spoken, hide, places) for spoken in said if spoken.produced],
            "calls": [
                *(self._call(call, args.get(call.id), raised.get(call.id, ""), hide) for call in step.calls.values()),
                *self._unrecorded(step.words.id, hide),
            ],
        }

    def _unrecorded(self, message_id: str, hide: Hide) -> list[dict[str, Any]]:
        calls = self.custom.get(message_id, ())
        return [_custom(call, hide) for call in calls if self.turn.record.call(call["id"]) is None]

    def _alone(self, hide: Hide) -> Iterator[dict[str, Any]]:
        """The tool calls of custom nodes beside which nothing was said."""
        said = {step.words.id for step in self.turn.record.steps()}
        for message_id, calls in self.custom.items():
            if message_id not in said and (shown := self._unrecorded(message_id, hide)):
                yield {"agent": calls[0]["agent"], "words": [], "calls": shown}

    def _words(self, spoken: Spoken, hide: Hide, places: Mapping[str, int]) -> dict[str, Any]:
        whole = hide(spoken.produced)[:_LONGEST]
        if spoken.heard is not None:
            heard = hide(spoken.heard)[:_LONGEST]
            missing = whole[len(heard) :] if whole.startswith(heard) else ""
            if not spoken.cut:
                missing = ""
            state = "heard" if not spoken.cut else "cut" if heard.strip() else "dropped"
            return {"id": spoken.id, "heard": heard, "unheard": missing, "state": state}
        place = min(places.get(spoken.id, 0), len(whole))
        state = "playing" if place else "waiting"
        if self.turn.state is TurnState.DISCARDED:
            state = "guess"
        elif self.turn.state is TurnState.CLOSED and not place:
            state = "dropped"  # it was generated, and cut off before its first sound
        return {"id": spoken.id, "heard": whole[:place], "unheard": whole[place:], "state": state}

    def _call(self, call: ToolCallRecord, args: Any, raised: str, hide: Hide) -> dict[str, Any]:
        ran = self.tools.get(call.id)
        end = ran.end if ran is not None else None
        failed = call.result is not None and call.result.status == "error"
        return {
            "id": call.id,
            "name": call.name,
            "args": hide(_json(args))[:_LONGEST] if args else "",
            "status": call.status,
            "result": hide(call.result.text)[:_LONGEST] if call.result is not None else None,
            "error": failed,
            "raised": hide(raised)[:_LONGEST] if failed else "",
            "update": hide(call.progress)[:_LONGEST] if call.result is None else "",
            "seconds": round(end - ran.start, 3) if ran is not None and end is not None else None,
        }

    def _spans(self, asked: list[Asked]) -> Iterator[Span]:
        yield from self.spans
        yield from self.tools.values()
        for request in asked:
            first = request.first_token or request.ended
            yield Span("model", f"{request.agent}: first token", request.began, first)
            if request.first_token is not None:
                yield Span("generate", f"{request.agent}: the rest", request.first_token, request.ended)


def _custom(call: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
    return {
        "id": call["id"],
        "name": call["name"],
        "args": hide(_json(call["args"]))[:_LONGEST] if call["args"] else "",
        "status": call["status"],
        "result": hide(call["result"])[:_LONGEST] if call["result"] is not None else None,
        "update": "",
        "error": call["error"],
        "seconds": None,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, indent=None)
