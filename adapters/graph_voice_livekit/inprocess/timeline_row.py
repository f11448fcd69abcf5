"""One row of the timeline: a stretch of the call with a lane for each speaker."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import NDArray

from graph_voice_livekit.inprocess.entries import CALLER, CallLog, Handoff, Latency, Note, ToolCall, Utterance
from graph_voice_livekit.inprocess.palette import STAGES

__all__ = ["CUT", "FAINT", "INK", "TOOL", "Row"]

INK, FAINT, CUT, TOOL = "#22262c", "#7d8590", "#d01c1c", "#f1d9a7"

_WAIT, _TOOLS = 0.5, 0.62
"""Heights of the two thin lanes, where 1 is a speaker's."""

_WAVE = (0.08, 0.62)
"""Where in its lane a voice is drawn; above it are its words."""

_CHARACTER = 6.7
"""Pixels a character of a caption takes, on average."""


class Row:
    """What happened from `start` to `end` (call seconds)."""

    def __init__(self, log: CallLog, palette: Mapping[str, str], *, start: float, end: float, only_used: bool) -> None:
        self._log = log
        self._palette = palette
        self.start, self.end = start, end
        used = {each.speaker for each in log.utterances if each.started < end and each.ended > start}
        for handoff in log.handoffs:
            if start <= handoff.at < end:
                used |= {handoff.old_agent, handoff.new_agent}
        agents = [agent for agent in log.agents if agent in used or not only_used]
        self._waits = bool(log.latencies)
        self._tools = bool(log.tool_calls)
        # the lower edge of each lane, from the top: caller, waiting, the agents, tools
        self.height = 1.0 + _WAIT * self._waits + len(agents) + _TOOLS * self._tools
        level = self.height - 1.0
        self._lanes = {CALLER: level}
        level -= _WAIT * self._waits
        self._wait_lane = level
        for agent in agents:
            level -= 1.0
            self._lanes[agent] = level

    def draw(self, axes: Axes, *, caller: NDArray[np.float64], agents: NDArray[np.float64], pixels: float) -> None:
        """Draw the row; the envelopes are in steps of 10 ms from the start of the call."""
        self._pixels_per_second = pixels / (self.end - self.start)
        self._frame(axes)
        for handoff in self._log.handoffs:
            self._handoff(axes, handoff)
        for latency in self._log.latencies:
            self._latency(axes, latency)
        free = self._log.duration
        later: dict[str, float] = {}
        for utterance in sorted(self._log.utterances, key=lambda each: -each.started):
            self._utterance(axes, utterance, caller if utterance.speaker == CALLER else agents)
            self._caption(axes, utterance, until=later.get(utterance.speaker, free + 10.0))
            later[utterance.speaker] = utterance.started
        tools_until = self._log.duration + 10.0
        for call in sorted(self._log.tool_calls, key=lambda each: -each.started):
            self._tool(axes, call, until=tools_until)
            tools_until = call.started
        for note in self._log.notes:
            self._note(axes, note)

    def _frame(self, axes: Axes) -> None:
        axes.set_xlim(self.start, self.end)
        axes.set_ylim(0, self.height)
        axes.set_yticks([])
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#c4c9d0")
        length = self.end - self.start
        step = next(step for step in (1, 2, 5, 10) if length / step <= 20 or step == 10)
        first = int(np.ceil(self.start / step)) * step
        ticks = np.arange(first, self.end + 1e-9, step)
        axes.set_xticks(ticks, [f"{int(tick) // 60}:{int(tick) % 60:02d}" for tick in ticks])
        axes.tick_params(axis="x", colors=FAINT, labelsize=8, length=3, color="#c4c9d0")
        axes.vlines(ticks, 0, self.height, color="#eef0f3", linewidth=0.8, zorder=0)
        for name, level in self._lanes.items():
            axes.add_patch(
                Rectangle((self.start, level + 0.02), self.end - self.start, 0.96, color="#f7f8fa", zorder=-1)
            )
            self._label(axes, name, level + 0.5 * sum(_WAVE), self._palette[name], weight="bold")
        if self._waits:
            self._label(axes, "waiting", self._wait_lane + _WAIT / 2, FAINT)
        if self._tools:
            self._label(axes, "tools", _TOOLS / 2, FAINT)
        if self._log.duration < self.end:
            axes.axvspan(self._log.duration, self.end, color="white", alpha=0.85, zorder=5, linewidth=0)

    def _label(self, axes: Axes, text: str, y: float, color: str, weight: str = "normal") -> None:
        shown = text if len(text) <= 20 else text[:19] + "…"
        axes.annotate(
            shown,
            (0, y),
            xycoords=("axes fraction", "data"),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9.5 if len(shown) <= 13 else 8,
            color=color,
            weight=weight,
            annotation_clip=False,
        )

    def _utterance(self, axes: Axes, utterance: Utterance, envelope: NDArray[np.float64]) -> None:
        level = self._lanes.get(utterance.speaker)
        if level is None or utterance.ended <= self.start or utterance.started >= self.end:
            return
        color = self._palette[utterance.speaker]
        low, high = level + _WAVE[0], level + _WAVE[1]
        if utterance.lost or utterance.dropped:
            axes.plot(utterance.ended, (low + high) / 2, marker="x", color=CUT, markersize=7, zorder=6)
        if utterance.dropped:
            return
        length = max(utterance.ended - utterance.started, 0.02)
        axes.add_patch(
            Rectangle((utterance.started, low), length, high - low, color=color, alpha=0.13, linewidth=0, zorder=1)
        )
        first, last = round(utterance.started * 100), round(utterance.ended * 100) + 1
        part = envelope[first:last]
        if len(part):
            times = (first + np.arange(len(part)) + 0.5) / 100
            middle, half = (low + high) / 2, (high - low) / 2 * 0.94
            axes.fill_between(times, middle - half * part, middle + half * part, color=color, linewidth=0.3, zorder=2)
        if utterance.interrupted:
            axes.add_patch(
                Rectangle(
                    (utterance.ended, low),
                    0.8,
                    high - low,
                    facecolor="none",
                    edgecolor=color,
                    alpha=0.45,
                    hatch="////",
                    linewidth=0,
                    zorder=1,
                )
            )
            axes.vlines(utterance.ended, low - 0.06, high + 0.06, color=CUT, linewidth=2.4, zorder=6)

    def _caption(self, axes: Axes, utterance: Utterance, *, until: float) -> None:
        level = self._lanes.get(utterance.speaker)
        visible = min(utterance.ended, self.end) - max(utterance.started, self.start)
        if level is None or visible <= 0 or visible < (utterance.ended - utterance.started) / 2:
            return  # its words stand in the row that holds the greater part of it
        start = max(utterance.started, self.start)
        room = (min(until, self.end) - start) * self._pixels_per_second / _CHARACTER - 1
        text = " ".join((utterance.said or utterance.text).split())
        if utterance.interrupted:
            text += " —"
        if len(text) > room:
            text = text[: max(0, int(room) - 1)].rstrip() + "…" if room >= 5 else ""
        # a $ would begin a formula
        text = text.replace("$", r"\$")
        axes.text(start, level + 0.81, text, fontsize=8.5, color=INK, va="center", ha="left", clip_on=True, zorder=4)

    def _latency(self, axes: Axes, latency: Latency) -> None:
        if latency.first_audio <= self.start or latency.end_of_speech >= self.end:
            return
        low, high = self._wait_lane + 0.16, self._wait_lane + 0.4
        at = latency.end_of_speech
        for name, length in latency.stages.items():
            axes.add_patch(Rectangle((at, low), length, high - low, color=STAGES[name], linewidth=0, zorder=3))
            at += length
        lane = self._lanes.get(latency.speaker)
        axes.vlines(latency.end_of_speech, low, self._lanes[CALLER] + _WAVE[0], color=FAINT, linewidth=0.7, zorder=3)
        if lane is not None:
            axes.vlines(latency.first_audio, lane + _WAVE[1], high, color=FAINT, linewidth=0.7, zorder=1)
        if self.start <= latency.first_audio < self.end:
            fits = (self.end - latency.first_audio) * self._pixels_per_second > 50
            axes.annotate(
                f"{latency.total:.2f} s",
                (latency.first_audio if fits else latency.end_of_speech, (low + high) / 2),
                xytext=(4 if fits else -4, 0),
                textcoords="offset points",
                ha="left" if fits else "right",
                fontsize=8,
                weight="bold",
                color=INK,
                va="center",
                zorder=4,
            )

    def _handoff(self, axes: Axes, handoff: Handoff) -> None:
        old, new = self._lanes.get(handoff.old_agent), self._lanes.get(handoff.new_agent)
        if old is None or new is None or not self.start <= handoff.at < self.end:
            return
        begin, end = old + sum(_WAVE) / 2, new + sum(_WAVE) / 2
        axes.plot(handoff.at, begin, marker="o", markersize=5, color=self._palette[handoff.old_agent], zorder=7)
        axes.add_patch(
            FancyArrowPatch(
                (handoff.at, begin),
                (handoff.at, end),
                arrowstyle="-|>",
                mutation_scale=13,
                color=INK,
                linewidth=1.4,
                shrinkA=2,
                shrinkB=0,
                zorder=7,
            )
        )

    def _tool(self, axes: Axes, call: ToolCall, *, until: float) -> None:
        ended = call.ended if call.ended is not None else self._log.duration
        if ended < self.start or call.started >= self.end:
            return
        length = max(ended - call.started, 2.5 / self._pixels_per_second)
        axes.add_patch(
            Rectangle(
                (call.started, 0.1),
                length,
                _TOOLS - 0.24,
                facecolor="#f3b5b0" if call.is_error else TOOL,
                edgecolor=self._palette.get(call.agent, INK),
                linewidth=0.9,
                zorder=3,
            )
        )
        start = call.started + length
        room = (min(until, self.end) - start) * self._pixels_per_second / _CHARACTER - 1
        name = call.name if len(call.name) <= room else call.name[: max(0, int(room) - 1)] + "…"
        if room < 4 or start < self.start:
            return
        axes.annotate(
            name,
            (start, 0.1 + (_TOOLS - 0.24) / 2),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=7.5,
            family="monospace",
            color=CUT if call.is_error else INK,
            va="center",
            zorder=4,
        )

    def _note(self, axes: Axes, note: Note) -> None:
        if note.kind == "end" or not self.start <= note.at < self.end:
            return
        axes.vlines(note.at, 0, self.height, color=CUT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=4)
        axes.annotate(
            note.kind,
            (note.at, self.height),
            xytext=(2, 1),
            textcoords="offset points",
            fontsize=7,
            color=CUT,
            va="bottom",
            annotation_clip=False,
        )
