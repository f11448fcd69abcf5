"""Listen to the recordings of `graph-voice demo`, and compare them with the transcript and the state.

    python scripts/listen_to_demo.py calls/customer_service-0 calls/intake-3

For each folder it checks: the recording is as long as the call; each channel, transcribed again piece by piece, has the
words of the transcript and nothing between them; an interrupted line ends where its channel goes silent; the state
remembers what was heard, the handoffs that happened, and the last active agent. Exits with 1 when anything differs.
"""

import asyncio
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from hearing import likeness
from livekit import rtc

from graph_voice_livekit.offline import WhisperSTT

LOUD = 0.01
"""Root mean square of a full-scale signal, above which somebody speaks."""
MARGIN = 0.25
"""Seconds around an utterance that belong to it."""
SHORT = 0.2
"""Seconds. Anything shorter has no whole word: the end of a line split into two turns, a reply cut at once."""
LIKE = 0.7
"""How much of what was said must be recognized again, by its sound, over the whole call."""
LIKE_AT_LEAST = 0.5
"""The same for each utterance of five words or more. Any two sentences have about a third of their sounds in common."""


@dataclass
class Report:
    """What was found in one folder."""

    folder: Path
    faults: list[str] = field(default_factory=list)
    likeness: dict[str, float] = field(default_factory=dict)
    """Channel -> how much of the transcript was recognized again, by its sound: 0-1."""
    interruptions: int = 0
    handoffs: int = 0


async def listen(folder: Path, stt: WhisperSTT) -> Report:
    """Check one folder."""
    report = Report(folder)
    log = json.loads((folder / "call.json").read_text(encoding="utf-8"))
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    sound, rate = soundfile.read(folder / "call.wav", dtype="float32")
    if sound.ndim != 2 or sound.shape[1] != 2:
        report.faults.append("call.wav does not have two channels")
        return report
    if abs(len(sound) / rate - log["duration"]) > 0.05:
        report.faults.append(f"call.wav lasts {len(sound) / rate:.2f} s, the call lasted {log['duration']:.2f} s")
    said = [e for e in log["entries"] if e["type"] == "utterance"]
    for channel, name in enumerate(("caller", "agents")):
        mine = [u for u in said if (u["speaker"] == "caller") == (channel == 0)]
        await _words(report, name, sound[:, channel], rate, mine, stt)
        _silence(report, name, sound[:, channel], rate, mine)
    _cuts(report, sound[:, 1], rate, said)
    _memory(report, log, state, said)
    return report


async def _words(
    report: Report, name: str, sound: np.ndarray, rate: int, said: list[dict[str, Any]], stt: WhisperSTT
) -> None:
    found = total = 0.0
    for utterance in said:
        if utterance["ended"] - utterance["started"] < SHORT:
            continue
        expected = utterance["said"] or utterance["text"]
        piece = _between(sound, rate, utterance["started"] - MARGIN, utterance["ended"] + MARGIN)
        frame = rtc.AudioFrame((piece * 32767).astype(np.int16).tobytes(), rate, 1, len(piece))
        event = await stt.recognize(frame)
        heard = event.alternatives[0].text if event.alternatives else ""
        like, weight = likeness(heard, expected), len(_plain(expected))
        found, total = found + like * weight, total + weight
        if weight > 4 and like < LIKE_AT_LEAST:
            report.faults.append(f"{name} at {utterance['started']:.1f} s: {expected!r} sounds like {heard!r}")
    report.likeness[name] = found / total if total else 1.0
    if report.likeness[name] < LIKE:
        report.faults.append(f"{name}: only {report.likeness[name]:.0%} of the transcript's words are in the recording")


def _silence(report: Report, name: str, sound: np.ndarray, rate: int, said: list[dict[str, Any]]) -> None:
    rest = sound.copy()
    for utterance in said:
        first, last = utterance["started"] - MARGIN, utterance["ended"] + MARGIN
        rest[max(0, int(first * rate)) : max(0, int(last * rate))] = 0
    if (loud := _loud(rest, rate)) > 0.1:
        report.faults.append(f"{name}: {loud:.1f} s of sound that is not in the transcript")


def _cuts(report: Report, agents: np.ndarray, rate: int, said: list[dict[str, Any]]) -> None:
    spoken = sorted((u for u in said if u["speaker"] != "caller"), key=lambda u: u["started"])
    for index, utterance in enumerate(spoken):
        if not utterance["interrupted"]:
            continue
        report.interruptions += 1
        cut = utterance["ended"]
        until = min(spoken[index + 1]["started"] if index + 1 < len(spoken) else cut + 2, cut + 2)
        if _loud(_between(agents, rate, cut - 0.6, cut), rate) == 0:
            report.faults.append(f"nothing is heard before the cut at {cut:.1f} s")
        if _loud(_between(agents, rate, cut + 0.06, until), rate) > 0.05:
            report.faults.append(f"the agent is still heard after the cut at {cut:.1f} s")
        if utterance["text"] and len(_plain(utterance["text"])) >= len(_plain(utterance["generated"] or "")):
            report.faults.append(f"the line cut at {cut:.1f} s is complete in the transcript: {utterance['text']!r}")


def _memory(report: Report, log: dict[str, Any], state: dict[str, Any], said: list[dict[str, Any]]) -> None:
    spoken = " ".join(m["text"] for m in state["messages"] if m["type"] == "ai")
    heard = " ".join(u["text"] for u in sorted(said, key=lambda u: u["started"]) if u["speaker"] != "caller")
    if _plain(spoken) != _plain(heard):
        report.faults.append(f"the state has {spoken!r}, but {heard!r} was heard")
    handed = [(e["old_agent"], e["new_agent"]) for e in log["entries"] if e["type"] == "handoff"]
    remembered = [(h["old_agent_id"], h["new_agent_id"]) for h in state["handoffs"]]
    report.handoffs = len(handed)
    if handed != remembered:
        report.faults.append(f"handoffs: {handed} in the call, {remembered} in the state")
    active = handed[-1][1] if handed else log["first_agent"]
    if state["active_agent"] != active:
        report.faults.append(f"{active} was the active agent at the end, but the state says {state['active_agent']}")
    cut = sum(bool(u["interrupted"]) for u in said if u["speaker"] != "caller" and u["text"])
    if cut != sum(bool(m.get("interrupted")) for m in state["messages"]):
        report.faults.append(f"{cut} lines were cut, but the state has another number")
    if not report.handoffs:
        report.faults.append("there was no handoff")
    if not any(u["interrupted"] for u in said):
        report.faults.append("there was no interruption")


def _plain(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower().replace("-", " "))


def _between(sound: np.ndarray, rate: int, first: float, last: float) -> np.ndarray:
    return sound[max(0, int(first * rate)) : max(0, int(last * rate))]


def _loud(sound: np.ndarray, rate: int) -> float:
    """Seconds of speech in it, in windows of 20 ms."""
    window = rate // 50
    frames = sound[: len(sound) // window * window].reshape(-1, window)
    return float((np.sqrt((frames**2).mean(axis=1)) > LOUD).sum()) / 50 if len(frames) else 0.0


async def _main(folders: list[str]) -> int:
    stt = WhisperSTT()
    stt.load()
    faulty = 0
    for folder in folders:
        report = await listen(Path(folder), stt)
        words = ", ".join(f"{name} {share:.0%}" for name, share in report.likeness.items())
        print(f"{folder}: words recognized again: {words}; {report.interruptions} cut, {report.handoffs} handoffs")
        for fault in report.faults:
            print(f"  FAULT {fault}")
        faulty += bool(report.faults)
    return 1 if faulty else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(asyncio.run(_main(sys.argv[1:])))
