"""How much disk space a turn takes, at the beginning of a call and after many turns.

graph_voice is played on the virtual clock at the pace of a call (the reply takes two seconds, then the caller is silent
for two), so that it writes as often as in a call. `LLMAdapter` writes the whole conversation at each step of its graph,
whatever the pace. It is stopped earlier, and nothing is extrapolated.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.conversations import a_talk
from benchmarks.fakes import Brain
from benchmarks.part import Measuring, Part, Row
from benchmarks.tables import markdown
from benchmarks.ways import Way
from graph_voice.testing import run

__all__ = ["PART", "measure"]

PERIOD, SILENCE = 0.22, 2.0
"""Seconds per word, and between two turns."""


def measure(measuring: Measuring) -> list[Row]:
    """One row for each way and kind of turn."""
    turns, fewer = measuring.of(1_000, 100, 10), measuring.of(300, 60, 10)
    measuring.progress.begin(3)
    measuring.progress.step(f"{fewer:,} turns of LLMAdapter on disk")
    rows = [_row(Way.ADAPTER_SQLITE, "words", asyncio.run(_adapter(measuring, fewer)))]
    for what, tool in (("words", None), ("words and a tool call", "look_up")):
        measuring.progress.step(f"{turns:,} turns of graph_voice on disk: {what}")
        rows.append(_row(Way.OURS_SQLITE, what, run(_ours(measuring, turns, tool), limit=1e9)))
    return rows


async def _ours(measuring: Measuring, turns: int, tool: str | None) -> list[int]:
    path, sizes = measuring.stores.file(), []
    # Its calls are jobs of an executor, which the virtual clock waits for.
    with SqliteSaver.from_conn_string(str(path)) as saver:
        async with a_talk(
            Way.OURS_SQLITE, measuring.stores, brain=Brain(period=PERIOD, tool=tool), saver=saver
        ) as talk:
            for turn in range(turns):
                await talk.session.run(user_input=f"And where is my order number {turn}, please?")
                await asyncio.sleep(SILENCE)
                sizes.append(_size(path, saver.conn))
    return sizes


async def _adapter(measuring: Measuring, turns: int) -> list[int]:
    path, sizes = measuring.stores.file(), []
    async with (
        AsyncSqliteSaver.from_conn_string(str(path)) as saver,
        a_talk(Way.ADAPTER_SQLITE, measuring.stores, saver=saver) as talk,
    ):
        for turn in range(turns):
            await talk.session.run(user_input=f"And where is my order number {turn}, please?")
            with closing(sqlite3.connect(path)) as reader:
                sizes.append(_size(path, reader))
    return sizes


def _size(path: Path, connection: sqlite3.Connection) -> int:
    """The size of the file in bytes, including what is still in SQLite's log."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path.stat().st_size


def _row(way: Way, what: str, sizes: list[int]) -> Row:
    tenth = max(1, min(100, len(sizes) // 3))
    grown = [after - before for before, after in itertools.pairwise([0, *sizes])]
    return {
        "way": way.value,
        "turn": what,
        "turns": len(sizes),
        "bytes_per_turn": round(sizes[-1] / len(sizes)),
        "window": tenth,
        "bytes_first": round(sum(grown[1 : tenth + 1]) / tenth),  # the first one makes the tables
        "bytes_last": round(sum(grown[-tenth:]) / tenth),
        "bytes_first_half": round(sizes[len(sizes) // 2 - 1] / (len(sizes) // 2)),
        "bytes_second_half": round((sizes[-1] - sizes[len(sizes) // 2 - 1]) / (len(sizes) - len(sizes) // 2)),
        "bytes_most": max(grown[1:]),
        "file_mb": round(sizes[-1] / 1e6, 2),
        "sizes": sizes[:: max(1, len(sizes) // 50)],
    }


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "way": "",
            "turn": "each turn",
            "turns": "turns",
            "bytes_per_turn": "bytes a turn",
            "bytes_first": "in the first hundred",
            "bytes_last": "in the last hundred",
            "bytes_first_half": "in the first half",
            "bytes_second_half": "in the second half",
            "bytes_most": "most in one turn",
            "file_mb": "the file, MB",
        },
    )


PART = Part("disk", "bytes on disk a turn", measure, table)
