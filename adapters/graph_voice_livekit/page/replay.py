"""A stored call, as `graph-voice demo` writes it, told to the page again: the same messages, with their times."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.inprocess import CALLER
from graph_voice_livekit.page.protocol import ToPage
from graph_voice_livekit.page.told_turn import ToldTurn

__all__ = ["Replay", "ReplayError"]

_STEP = 0.25
"""Seconds between two looks at a reply that is being spoken."""
_STAGES = {
    "silence": ("end_of_turn", "silence"),
    "recognition": ("transcription", "transcription"),
    "end_of_turn": ("end_of_turn", "end of turn"),
    "waiting": ("playback", "an earlier reply"),
    "tools": ("tool", "tools"),
    "model": ("model", "model"),
    "synthesis": ("voice", "voice: first sound"),
}
"""The parts of a `Latency` in order, as kinds and labels of spans."""


class ReplayError(GraphVoiceError, ValueError):
    """There is no call to play."""


@dataclass(frozen=True)
class Replay:
    """A stored call."""

    name: str
    duration: float
    agents: Sequence[str]
    moments: Sequence[tuple[float, ToPage]]
    """Second of the call, and what the page is told then. In order."""
    svg: str = ""
    sound: Path | None = None

    @classmethod
    def load(cls, folder: Path) -> "Replay":
        """The call in this folder. Raises `ReplayError` when there is none."""
        path = folder / "call.json"
        try:
            call = json.loads(path.read_text(encoding="utf-8"))
            moments = sorted(_moments(call, _state(folder)), key=lambda moment: moment[0])
            duration = float(call["duration"])
        except OSError as error:
            raise ReplayError(
                f"--replay: there is no {path}. Name a folder that `graph-voice demo` has written."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReplayError(f"--replay: {path} is no call that `graph-voice demo` has written: {error!r}.") from error
        svg, sound = folder / "graph.svg", folder / "call.wav"
        return cls(
            folder.resolve().name,
            duration,
            _agents(call),
            moments,
            svg.read_text(encoding="utf-8") if svg.is_file() else "",
            sound if sound.is_file() else None,
        )

    def shown(self, svg: str, agents: Sequence[str]) -> dict[str, Any]:
        """What the page gets.

        Args:
            svg: the drawing of the graph that the command line names. It is used if that is the graph of the call.
            agents: its agents.
        """
        same = set(self.agents) <= set(agents)
        return {
            "name": self.name,
            "duration": self.duration,
            "sound": self.sound is not None,
            "svg": svg if same else self.svg,
            "agents": list(agents if same else self.agents),
            "moments": self.moments,
        }


def _state(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _agents(call: Mapping[str, Any]) -> list[str]:
    names = [call.get("first_agent"), *call.get("agents", ())]
    for entry in call["entries"]:
        names += [entry.get("speaker"), entry.get("new_agent"), entry.get("agent")]
    return list(dict.fromkeys(name for name in names if name and name != CALLER))


def _moments(call: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[tuple[float, ToPage]]:
    """The call, entry by entry. Each turn is told whole each time, as in a live call."""
    turn = ToldTurn("replay", 1, None, 0.0)
    if call.get("first_agent"):
        yield 0.0, {"type": "agent", "name": call["first_agent"], "before": ""}
    for entry in call["entries"]:
        kind = entry["type"]
        if kind == "utterance" and entry["speaker"] == CALLER:
            if turn.user is not None or turn.steps:
                turn = ToldTurn("replay", turn.number + 1, None, entry["ended"])
            yield from _caller(entry, turn)
        elif kind == "utterance":
            yield from _agent(entry, turn)
        elif kind == "toolcall":
            yield from _tool(entry, turn)
        elif kind == "handoff":
            old, new, at = entry["old_agent"], entry["new_agent"], entry["at"]
            turn.handoffs.append(
                {"old": old, "new": new, "call": None, "task": None, "state": "entered", "reason": "", "args": ""}
            )
            yield at, {"type": "agent", "name": new, "before": old}
            yield at, turn.view()
        elif kind == "latency":
            _latency(entry, turn)
            yield entry["first_audio"], turn.view()
        elif kind == "note":
            level = "error" if entry["kind"] == "error" else "info"
            yield entry["at"], {"type": "notice", "kind": level, "text": str(entry["text"])}
    duration = float(call["duration"])
    if known := state.get("userdata"):
        fields = {name: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for name, v in known.items()}
        yield duration, {"type": "userdata", "fields": fields}
    yield duration, {"type": "ended", "reason": "end of the recording"}


def _caller(entry: Mapping[str, Any], turn: ToldTurn) -> Iterator[tuple[float, ToPage]]:
    yield entry["started"], {"type": "state", "agent": "listening", "user": "speaking"}
    turn.user = entry["text"] or entry.get("said") or ""
    turn.spans.append({"kind": "caller", "label": "caller speaks", "start": entry["started"], "end": entry["ended"]})
    yield entry["ended"], {"type": "state", "agent": "thinking", "user": "listening"}
    yield entry["ended"], turn.view()


def _agent(entry: Mapping[str, Any], turn: ToldTurn) -> Iterator[tuple[float, ToPage]]:
    text, started, ended = entry["text"], entry["started"], entry["ended"]
    generated = entry.get("generated") or text
    words: dict[str, Any] = {"id": f"{turn.number}-{started}", "heard": "", "unheard": generated, "state": "waiting"}
    turn.steps.append({"agent": entry["speaker"], "words": [words], "calls": []})
    yield started, {"type": "state", "agent": "speaking", "user": "listening"}
    pieces, at = text.split(" "), started
    while at < ended:
        count = round(len(pieces) * (at - started) / max(ended - started, 1e-6))
        heard = " ".join(pieces[:count])
        words.update(heard=heard, unheard=generated[len(heard) :], state="playing")
        yield at, turn.view()
        at += _STEP
    cut = bool(entry["interrupted"] or entry.get("dropped"))
    missing = generated[len(text) :] if cut and generated.startswith(text) else ""
    words.update(heard=text, unheard=missing, state="heard" if not cut else "cut" if text else "dropped")
    if text:
        turn.spans.append({"kind": "playback", "label": "playback", "start": started, "end": ended})
    yield ended, turn.view()
    yield ended, {"type": "state", "agent": "listening", "user": "listening"}


def _tool(entry: Mapping[str, Any], turn: ToldTurn) -> Iterator[tuple[float, ToPage]]:
    started, ended = entry["started"], entry["ended"]
    arguments = json.dumps(entry["arguments"], ensure_ascii=False) if entry["arguments"] else ""
    call: dict[str, Any] = {
        "id": entry["call_id"] or f"{turn.number}-{entry['name']}-{started}",
        "name": entry["name"],
        "args": arguments,
        "status": "running",
        "result": None,
        "error": False,
        "seconds": None,
    }
    turn.steps.append({"agent": entry["agent"], "words": [], "calls": [call]})
    yield started, turn.view()
    if ended is None:
        return
    call.update(status="done", result=entry["output"] or "", error=entry["is_error"], seconds=round(ended - started, 3))
    turn.spans.append({"kind": "tool", "label": entry["name"], "start": started, "end": ended})
    yield ended, turn.view()


def _latency(entry: Mapping[str, Any], turn: ToldTurn) -> None:
    at = entry["end_of_speech"]
    for name, (kind, label) in _STAGES.items():
        if (part := entry.get(name) or 0.0) > 0:
            turn.spans.append({"kind": kind, "label": label, "start": at, "end": at + part})
            at += part
