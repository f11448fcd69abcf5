"""One turn: the first chunk, the first words at the voice, the whole turn; with short and long histories.

The contestants alternate in one process, each time in another order, with the same model without delays. A session is
opened with a history, takes one turn to warm up and a few that are measured, and is closed before its history has
grown. `prompt_items` is what the model was really shown.
"""

import asyncio
import contextlib
import gc
import random
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.conversations import Talk, Took, a_talk
from benchmarks.figures import ratio, spread
from benchmarks.part import Measuring, Part, Row
from benchmarks.tables import markdown
from benchmarks.ways import Way

__all__ = ["PART", "measure"]

MEASURES = ("chunk", "used", "text", "whole", "cpu")


def measure(measuring: Measuring) -> list[Row]:
    """One row for each way and size."""
    sizes = measuring.of((10, 100, 1_000, 5_000), (10, 1_000), (2,))
    turns = {size: measuring.of(60 if size < 5_000 else 30, 12, 1) for size in sizes}
    ways = [way for way in Way if measuring.stores.lacks(way.store) is None]
    measuring.progress.begin(sum(_blocks(size, turns[size])[0] for size in sizes))
    rows: list[Row] = []
    for size in sizes:
        rows += asyncio.run(_compare(size, turns[size], ways, measuring))
        missing = [way for way in Way if way not in ways]
        rows += [{"items": size, "way": way.value, "note": measuring.stores.lacks(way.store)} for way in missing]
    return rows


def _blocks(size: int, turns: int) -> tuple[int, int]:
    """How many times sessions are opened, and the turns that are measured in each."""
    each = max(2, min(turns, size // 20))
    return -(-turns // each), each


async def _compare(size: int, turns: int, ways: Sequence[Way], measuring: Measuring) -> list[Row]:
    took: dict[Way, list[Took]] = {way: [] for way in ways}
    shown: dict[Way, list[int]] = {way: [] for way in ways}
    blocks, each = _blocks(size, turns)
    before = max(0, size - 2 * (each // 2) - 2)  # the middle one of the measured turns has `size` messages
    order = random.Random(0)
    for _ in range(blocks):
        measuring.progress.step(f"turns with {size:,} items")
        async with contextlib.AsyncExitStack() as stack:
            talks = [await stack.enter_async_context(a_talk(way, measuring.stores, size=before)) for way in ways]
            await _block(talks, each, took, shown, order)
    medians = {way: {m: statistics.median(getattr(t, m) for t in took[way]) for m in MEASURES} for way in ways}
    rows: list[Row] = []
    for way in ways:
        # A prompt that lost its history would look fast.
        assert min(shown[way]) >= before + 2, f"{way} was shown {min(shown[way])} messages instead of {size}"
        row: dict[str, Any] = {"items": size, "way": way.value, "turns": len(took[way])}
        row["prompt_items"] = int(statistics.median(shown[way]))
        for name in MEASURES:
            row |= spread(f"{name}_ms", [getattr(t, name) for t in took[way]])
        for name in ("chunk", "used"):
            mine = medians[way][name]
            row[f"{name}_x_plain"] = ratio(mine, medians[Way.PLAIN][name])
            row[f"{name}_x_adapter"] = ratio(mine, medians[Way.ADAPTER][name])
        rows.append(row)
    return rows


async def _block(
    talks: list[Talk], each: int, took: dict[Way, list[Took]], shown: dict[Way, list[int]], order: random.Random
) -> None:
    for talk in talks:
        await talk.turn()
    # All sessions live in this process, while a job has only one. Python's collector would scan all of them in any
    # contestant's turn. benchmarks/garbage.py measures what it costs with one session.
    gc.collect()
    gc.freeze()
    try:
        for _ in range(each):
            for talk in order.sample(talks, len(talks)):
                took[talk.way].append(await talk.turn())
                shown[talk.way].append(talk.brain.shown)
    finally:
        gc.unfreeze()


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "items": "items",
            "way": "",
            "chunk_ms_p50": "first chunk p50, ms",
            "chunk_ms_p95": "p95",
            "text_ms_p50": "first words p50, ms",
            "text_ms_p95": "p95",
            "whole_ms_p50": "whole turn p50, ms",
            "whole_ms_p95": "p95",
            "cpu_ms_p50": "processor, all of the turn, ms",
            "chunk_x_plain": "first chunk x LiveKit agent",
            "used_x_plain": "(in processor time)",
            "chunk_x_adapter": "first chunk x LLMAdapter, no saver",
            "used_x_adapter": "(in processor time)",
        },
    )


PART = Part("turns", "one turn: first chunk, first words, whole; at several lengths of history", measure, table)
