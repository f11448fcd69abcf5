"""What Python's garbage collector costs a call: pauses, and how long turns take, in four ways to run it.

There is one conversation in the process, as in a LiveKit job, and the ways to run the collector alternate. In a LiveKit
job everything imported is frozen (`gc.freeze`); "frozen again" freezes once more after the call has begun.
"""

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.conversations import a_talk
from benchmarks.figures import percentile
from benchmarks.part import Measuring, Part, Row
from benchmarks.tables import markdown
from benchmarks.ways import Way

__all__ = ["MODES", "PART", "measure"]

MODES = {
    "default": "as Python has it",
    "job": "as in a LiveKit job",
    "frozen": "frozen again in the call",
    "off": "off",
}


def measure(measuring: Measuring) -> list[Row]:
    """One row for each way to run it and each size."""
    sizes, turns, blocks = measuring.of((1_000, 5_000), (1_000,), (2,)), measuring.of(40, 15, 2), measuring.of(2, 1, 1)
    ways = measuring.of((Way.PLAIN, Way.ADAPTER, Way.OURS_SQLITE), (Way.OURS_SQLITE,), (Way.OURS_SQLITE,))
    measuring.progress.begin(len(sizes) * len(ways))
    rows: list[Row] = []
    for size in sizes:
        for way in ways:
            measuring.progress.step(f"collector with {size:,} items: {way}")
            rows += _modes(way, size, turns, blocks, measuring)
    return rows


def _modes(way: Way, size: int, turns: int, blocks: int, measuring: Measuring) -> list[Row]:
    texts: dict[str, list[float]] = {mode: [] for mode in MODES}
    pauses: dict[str, list[float]] = {mode: [] for mode in MODES}
    order = random.Random(0)
    for _ in range(blocks):
        for mode in order.sample(list(MODES), len(MODES)):
            gc.unfreeze()
            gc.collect()
            if mode == "job":
                gc.freeze()
            try:
                took, paused = asyncio.run(_turns(way, size, turns, mode, measuring))
            finally:
                gc.enable()
                gc.unfreeze()
            texts[mode] += took
            pauses[mode] += paused
    return [
        {
            "items": size,
            "way": way.value,
            "mode": mode,
            "turns": len(texts[mode]),
            "text_ms_p50": round(statistics.median(texts[mode]), 3),
            "text_ms_p99": round(percentile(texts[mode], 99), 3),
            "text_ms_max": round(max(texts[mode]), 3),
            "pauses_over_10_ms": sum(pause > 10 for pause in pauses[mode]),
            "pause_ms_max": round(max(pauses[mode], default=0.0), 2),
            "pause_ms_per_turn": round(sum(pauses[mode]) / len(texts[mode]), 3),
        }
        for mode in MODES
    ]


async def _turns(way: Way, size: int, turns: int, mode: str, measuring: Measuring) -> tuple[list[float], list[float]]:
    pauses: list[float] = []
    began = 0.0

    def watch(phase: str, info: dict[str, Any]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            pauses.append((time.perf_counter() - began) * 1000)

    async with a_talk(way, measuring.stores, size=size) as talk:
        for _ in range(2):
            await talk.turn()
        if mode == "frozen":
            gc.collect()
            gc.freeze()
        elif mode == "off":
            gc.disable()
        gc.callbacks.append(watch)
        try:
            return [(await talk.turn()).text for _ in range(turns)], pauses
        finally:
            gc.callbacks.remove(watch)


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    named = [{**row, "mode": MODES[row["mode"]]} for row in rows]
    return markdown(
        named,
        {
            "items": "items",
            "way": "",
            "mode": "collector",
            "text_ms_p50": "first words p50, ms",
            "text_ms_p99": "p99",
            "text_ms_max": "longest",
            "pauses_over_10_ms": "pauses over 10 ms",
            "pause_ms_max": "longest pause, ms",
            "pause_ms_per_turn": "pauses a turn, ms",
        },
    )


PART = Part("garbage", "what Python's garbage collector costs a call", measure, table)
