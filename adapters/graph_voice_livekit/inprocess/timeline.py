"""The picture of a call: who spoke when, who was cut off, where the time went."""

import itertools
import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerPatch
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch
from numpy.typing import NDArray

from graph_voice_livekit.inprocess.entries import CallLog, Utterance
from graph_voice_livekit.inprocess.palette import STAGES, colors
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE
from graph_voice_livekit.inprocess.timeline_row import CUT, FAINT, INK, TOOL, Row

__all__ = ["draw_timeline"]

_WIDTH, _DPI = 14.0, 100
"""Inches, and dots per inch: 1400 pixels."""

_LEFT, _RIGHT, _HEAD, _FOOT, _GAP = 1.5, 0.2, 0.85, 0.5, 0.42
"""Margins in inches; the gap is below each row, where its seconds are written."""

_LANE = 0.56
"""Inches per lane."""


def draw_timeline(log: CallLog, audio: NDArray[np.int16], path: str | Path, *, title: str = "Call") -> Path:
    """Draw a call as a PNG, 1400 pixels wide; calls longer than 40 s are broken into rows of about 30 s.

    Args:
        log: what happened.
        audio: what sounded, (samples, 2) at the rate of the call: caller and agents, as
            `CallRecorder.samples` gives.
        path: where the PNG goes.
        title: heads the picture.
    """
    path = Path(path)
    rows = _rows(log)
    heights = [row.height * _LANE for row in rows]
    legend = _handles(log)
    total = _HEAD + sum(heights) + _GAP * len(rows) + (_FOOT if legend else 0.0)
    figure = Figure(figsize=(_WIDTH, total), dpi=_DPI, facecolor="white")
    _head(figure, log, title, total)
    envelopes = [_envelope(audio[:, 0], log.duration), _envelope(audio[:, 1], log.duration)]
    top = total - _HEAD
    for row, height in zip(rows, heights, strict=True):
        box = (_LEFT / _WIDTH, (top - height) / total, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, height / total)
        axes: Axes = figure.add_axes(box)
        row.draw(axes, caller=envelopes[0], agents=envelopes[1], pixels=(_WIDTH - _LEFT - _RIGHT) * _DPI)
        top -= height + _GAP
    if legend:
        figure.legend(
            handles=legend,
            loc="lower left",
            bbox_to_anchor=((_LEFT - 0.1) / _WIDTH, 0.08 / total),
            ncols=len(legend),
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            handlelength=1.2,
            columnspacing=1.0,
            handler_map={FancyArrowPatch: HandlerPatch(patch_func=_arrow)},
        )
    figure.savefig(path, dpi=_DPI)
    return path


def _rows(log: CallLog) -> list[Row]:
    count = 1 if log.duration <= 40 else math.ceil(log.duration / 30)
    length = max(log.duration / count, 5.0)
    edges = [0.0, *(_pause(log, index * length) for index in range(1, count)), count * length]
    palette = colors(log.order)
    return [Row(log, palette, start=start, end=end, only_used=count > 1) for start, end in itertools.pairwise(edges)]


def _pause(log: CallLog, near: float) -> float:
    """A moment at which nobody speaks or waits, if there is one within 4 s: rows should not end in a word."""

    def quiet(at: float) -> bool:
        busy = [(each.started, each.ended) for each in log.utterances]
        busy += [(each.end_of_speech, each.first_audio) for each in log.latencies]
        return not any(start - 0.2 < at < end + 0.2 for start, end in busy)

    nearby = sorted(np.arange(near - 4.0, near + 4.0, 0.1), key=lambda at: abs(float(at) - near))
    return next((float(at) for at in nearby if quiet(float(at))), near)


def _head(figure: Figure, log: CallLog, title: str, total: float) -> None:
    interrupted = sum(isinstance(entry, Utterance) and entry.interrupted and not entry.dropped for entry in log.entries)
    facts = [
        f"{log.duration:.1f} s",
        _count(len(log.agents), "agent"),
        _count(len(log.handoffs), "handoff"),
        _count(len(log.tool_calls), "tool call"),
        _count(interrupted, "interruption"),
    ]
    figure.text(0.2 / _WIDTH, 1 - 0.22 / total, title, fontsize=15, weight="bold", color=INK, va="top")
    figure.text(0.2 / _WIDTH, 1 - 0.54 / total, "   ·   ".join(facts), fontsize=9, color=FAINT, va="top")


def _handles(log: CallLog) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = []
    if log.latencies:
        handles.append(Patch(facecolor="none", edgecolor="none", label="waiting for the answer:"))
        spent = {name for each in log.latencies for name, length in each.stages.items() if length >= 0.005}
        handles += [Patch(facecolor=color, label=name) for name, color in STAGES.items() if name in spent]
    if any(entry.dropped or entry.lost for entry in log.utterances):
        handles.append(Line2D([], [], color=CUT, marker="x", markersize=7, linestyle="", label="dropped or lost"))
    if any(entry.interrupted and not entry.dropped for entry in log.utterances):
        handles.append(
            Line2D([], [], color=CUT, linewidth=2.2, marker="|", markersize=11, linestyle="", label="cut off")
        )
    if log.handoffs:
        handles.append(FancyArrowPatch((0, 0), (1, 0), color=INK, label="handoff"))
    if log.tool_calls:
        handles.append(Patch(facecolor=TOOL, edgecolor=INK, linewidth=0.6, label="tool call"))
    return handles


def _arrow(*, xdescent: float, width: float, height: float, **_: object) -> FancyArrowPatch:
    middle = width / 2 - xdescent
    return FancyArrowPatch((middle, 1.5 * height), (middle, -0.5 * height), arrowstyle="-|>", mutation_scale=9)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _envelope(channel: NDArray[np.int16], duration: float) -> NDArray[np.float64]:
    """The loudness of a channel in steps of 10 ms, from 0 to 1; quiet speech is lifted a little."""
    window = SAMPLE_RATE // 100
    count = max(1, math.ceil(duration * 100))
    padded = np.zeros(count * window)
    kept = channel[: len(padded)]
    padded[: len(kept)] = np.abs(kept.astype(np.float64))
    peaks: NDArray[np.float64] = padded.reshape(count, window).max(axis=1)
    loudest = float(np.quantile(peaks, 0.995)) or float(peaks.max())
    if loudest < 50:  # nothing but silence: don't blow it up
        return np.zeros(count)
    return np.clip(peaks / loudest, 0.0, 1.0) ** 0.7
