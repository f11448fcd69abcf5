"""How many conversations one core can run, each streaming 20 tokens a second without a pause.

All are sessions in one event loop. A token's lateness is the time from when it is due in the model's schedule to when
it reaches the voice. The number of conversations rises until the 95th percentile is over 20 ms twice in a row; then it
is narrowed down by halving. Agents in real calls speak less than half of the time, and LiveKit gives each call its own
process. One Python collector that pauses for a hundred conversations exists only in this benchmark, so it is measured
without the collector too.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.conversations import Talk, a_talk
from benchmarks.fakes import Brain
from benchmarks.figures import spread
from benchmarks.part import Measuring, Part, Row
from benchmarks.tables import markdown
from benchmarks.ways import Store, Way
from graph_voice import LiveSaver

__all__ = ["BOUND", "PART", "measure"]

BOUND = 20.0
"""Milliseconds of lateness."""
PERIOD = 0.05
WORDS = ("And ", "then ", "it ", "goes ", "on. ")


def measure(measuring: Measuring) -> list[Row]:
    """One row for each number of conversations that was tried. `largest` marks the largest one within the bound."""
    contests = [(way, collector) for collector in (True, False) for way in (Way.PLAIN, Way.ADAPTER, Way.OURS_SQLITE)]
    contests = measuring.of(contests, [contests[2], contests[5]], contests[2:3])
    measuring.progress.begin(len(contests))
    rows: list[Row] = []
    for way, collector in contests:
        measuring.progress.step(f"conversations per core: {way}")
        if not collector:
            gc.disable()
        try:
            rows += [{**row, "collector": "on" if collector else "off"} for row in asyncio.run(_search(way, measuring))]
        finally:
            gc.enable()
    return rows


async def _search(way: Way, measuring: Measuring) -> list[Row]:
    seconds = measuring.of(2.5, 1.0, 0.3)
    tried: dict[int, Row] = {}
    words = WORDS * measuring.of(8, 8, 1)
    async with _crowd(way, measuring, words) as crowd:
        low, high, number = 0, 0, measuring.of(100, 100, 2)
        steps = measuring.of(5, 1, 1)
        while len(tried) < steps and (not high or high - low > max(10, low // 12)):
            found = await crowd.point(number, seconds)
            if found["late_ms_p95"] > BOUND:  # another process may have had the core
                found = min(found, await crowd.point(number, seconds), key=lambda row: row["late_ms_p95"])
            tried[number] = found
            if found["late_ms_p95"] <= BOUND:
                low = number
            else:
                high = number
            number = int(low * 1.5) // 10 * 10 or 2 * low if not high else (low + high) // 20 * 10
            if number in tried or number == 0:
                break
    return [{**row, "largest": n == low} for n, row in sorted(tried.items())]


class _Crowd:
    """The conversations of one way. More are opened when they are needed."""

    def __init__(
        self,
        way: Way,
        measuring: Measuring,
        words: Sequence[str],
        stack: contextlib.AsyncExitStack,
        saver: BaseCheckpointSaver[Any] | None,
    ) -> None:
        self._way = way
        self._measuring = measuring
        self._words = words
        self._stack = stack
        self._saver = saver
        self._talks: list[Talk] = []

    async def point(self, number: int, seconds: float) -> Row:
        """Let `number` conversations talk for `seconds`."""
        while len(self._talks) < number:
            brain = Brain(self._words, period=PERIOD)
            opened = a_talk(self._way, self._measuring.stores, brain=brain, saver=self._saver)
            self._talks.append(await self._stack.enter_async_context(opened))
        gc.collect()
        gc.freeze()  # as in benchmarks/turns.py: only this benchmark has a hundred conversations in a process
        crowd, reply = _Measured(), len(self._words) * PERIOD
        async with asyncio.TaskGroup() as speaking:
            for n, talk in enumerate(self._talks[:number]):
                speaking.create_task(crowd.speak(talk, reply * n / number))
            await asyncio.sleep(reply)  # by then each has begun
            crowd.begin()
            await asyncio.sleep(seconds)
            cores = crowd.end()
        gc.unfreeze()
        return {
            "way": self._way.value,
            "conversations": number,
            **spread("late_ms", crowd.late or [0.0], 2),
            **spread("first_ms", crowd.first or [0.0], 2),
            "cores": round(cores, 3),
            "per_core": round(len(crowd.late) * PERIOD / seconds / cores),  # by the tokens that really came
            "tokens": len(crowd.late),
        }


class _Measured:
    """What is measured while they talk."""

    def __init__(self) -> None:
        self.late: list[float] = []
        """Milliseconds, for each token."""
        self.first: list[float] = []
        """Milliseconds from the caller's words to the first token."""
        self._measuring = self._over = False

    def begin(self) -> None:
        self._measuring = True
        self._wall, self._used = time.perf_counter(), time.process_time()

    def end(self) -> float:
        """Stop. Returns how many cores were busy."""
        self._measuring, self._over = False, True
        return (time.process_time() - self._used) / (time.perf_counter() - self._wall)

    async def speak(self, talk: Talk, after: float) -> None:
        """One conversation: one turn after the other."""
        await asyncio.sleep(after)
        while not self._over:
            began, number = time.perf_counter(), 0

            def arrived(began: float = began) -> None:
                nonlocal number
                now = time.perf_counter()
                if self._measuring:
                    self.late.append((now - talk.brain.due - number * PERIOD) * 1000)
                    if number == 0:
                        self.first.append((now - began) * 1000)
                number += 1

            talk.watch.on_text = arrived
            await talk.session.run(user_input="Go on.")
            assert number == len(talk.brain.words), f"{number} pieces of text for {len(talk.brain.words)} tokens"


@contextlib.asynccontextmanager
async def _crowd(way: Way, measuring: Measuring, words: Sequence[str]) -> AsyncIterator[_Crowd]:
    """Conversations that share a store, as several calls of a process do."""
    async with contextlib.AsyncExitStack() as stack:
        saver = None
        if way.store is Store.SQLITE:
            opened = AsyncSqliteSaver.from_conn_string(str(measuring.stores.file()))
            durable = await stack.enter_async_context(opened)
            saver = await stack.enter_async_context(LiveSaver(durable))
        yield _Crowd(way, measuring, words, stack, saver)


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "way": "",
            "collector": "collector",
            "conversations": "conversations",
            "late_ms_p50": "token late by p50, ms",
            "late_ms_p95": "p95",
            "first_ms_p50": "caller's words to first token p50, ms",
            "first_ms_p95": "p95",
            "cores": "cores busy",
            "per_core": "conversations per core, by processor time",
            "largest": "the most within 20 ms",
        },
    )


PART = Part("concurrency", "conversations per core at 20 tokens a second, and how late the tokens are", measure, table)
