"""A handoff: from the model's call of the transfer tool to the next agent's first words.

Two agents hand off to each other, one handoff per turn, with a model without delays and nothing said before the
transfer. What is carried is each way's default: nothing in LiveKit and graph_voice, everything with `LLMAdapter`,
whose graph is wired by langgraph-swarm and, without a saver, begins each turn with the first agent.
"""

import asyncio
import contextlib
import gc
import random
import statistics
import time
from collections.abc import Sequence

from benchmarks.conversations import Talk, a_talk
from benchmarks.fakes import TRANSFER, Brain
from benchmarks.figures import ratio, spread
from benchmarks.part import Measuring, Part, Row
from benchmarks.tables import markdown
from benchmarks.ways import Way

__all__ = ["PART", "hand_over", "measure"]


def measure(measuring: Measuring) -> list[Row]:
    """One row for each way and size."""
    sizes = measuring.of((10, 1_000), (10,), (2,))
    handoffs = measuring.of(40, 8, 2)
    ways = [Way.PLAIN, Way.ADAPTER, Way.ADAPTER_SQLITE, Way.OURS, Way.OURS_SQLITE, Way.OURS_POSTGRES]
    measuring.progress.begin(len(sizes))
    rows: list[Row] = []
    for size in sizes:
        measuring.progress.step(f"handoffs with {size:,} items")
        here = [way for way in ways if measuring.stores.lacks(way.store) is None]
        rows += asyncio.run(_compare(size, handoffs, here, measuring))
        for way in ways:
            if way not in here:
                rows.append({"items": size, "way": way.value, "note": measuring.stores.lacks(way.store)})
    return rows


async def _compare(size: int, handoffs: int, ways: Sequence[Way], measuring: Measuring) -> list[Row]:
    took: dict[Way, list[tuple[float, float, float]]] = {way: [] for way in ways}
    order = random.Random(0)
    each = max(2, min(handoffs, size // 20))
    for _ in range(-(-handoffs // each)):
        async with contextlib.AsyncExitStack() as stack:
            talks = [
                await stack.enter_async_context(a_talk(way, measuring.stores, size=size, desk=True, brain=Brain()))
                for way in ways
            ]
            for talk in talks:
                await hand_over(talk)
            gc.collect()
            gc.freeze()  # as in benchmarks/turns.py
            try:
                for _ in range(each):
                    for talk in order.sample(talks, len(talks)):
                        took[talk.way].append(await hand_over(talk))
            finally:
                gc.unfreeze()
    plain = [statistics.median(column) for column in zip(*took[Way.PLAIN], strict=True)]
    return [
        {
            "items": size,
            "way": way.value,
            "handoffs": len(took[way]),
            **spread("chunk_ms", [chunk for chunk, _, _ in took[way]]),
            **spread("used_ms", [used for _, used, _ in took[way]]),
            **spread("text_ms", [text for _, _, text in took[way]]),
            "chunk_x_plain": ratio(statistics.median(chunk for chunk, _, _ in took[way]), plain[0]),
            "used_x_plain": ratio(statistics.median(used for _, used, _ in took[way]), plain[1]),
        }
        for way in ways
    ]


async def hand_over(talk: Talk, said: str = TRANSFER) -> tuple[float, float, float]:
    """Milliseconds from the tool call to the next agent's first chunk, the processor time of the loop's thread until
    then, and milliseconds to the first words that reach the voice."""
    called: list[tuple[float, float]] = []
    talk.brain.on_call = lambda: called.append((time.perf_counter(), time.thread_time()))
    await talk.turn(said)
    assert len(called) == 1, f"{talk.way}: {len(called)} transfers in one turn"
    assert talk.watch.first_chunk is not None
    assert talk.watch.first_chunk_used is not None
    assert talk.watch.first_text is not None
    ((at, used),) = called
    parts = (talk.watch.first_chunk - at, talk.watch.first_chunk_used - used, talk.watch.first_text - at)
    chunk, used, text = (1000 * part for part in parts)
    return chunk, used, text


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "items": "items before",
            "way": "",
            "chunk_ms_p50": "first chunk p50, ms",
            "chunk_ms_p95": "p95",
            "text_ms_p50": "first words p50, ms",
            "text_ms_p95": "p95",
            "used_ms_p50": "processor until the first chunk, ms",
            "chunk_x_plain": "first chunk x LiveKit agent",
            "used_x_plain": "(in processor time)",
        },
    )


PART = Part("handoff", "a handoff: from the tool call to the next agent's first words", measure, table)
