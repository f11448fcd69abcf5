"""The targets, and whether a run reached them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.part import Row
from benchmarks.tables import cell
from benchmarks.tasks import BEGINS, BY_TOOL
from benchmarks.ways import Way

__all__ = ["TARGETS", "Target", "table"]

Rows = Mapping[str, Sequence[Row]]
"""By part."""


@dataclass(frozen=True)
class Target:
    """One target.

    Args:
        text: the target.
        measured: returns the run's number, and a text to show with it. Raises `LookupError` when the run lacks it.
        reached: whether that number is good enough.
    """

    text: str
    measured: Callable[[Rows], tuple[float, str]]
    reached: Callable[[float], bool]


def _row(rows: Rows, part: str, **wanted: Any) -> Row:
    found = (row for row in rows[part] if all(row.get(key) == value for key, value in wanted.items()))
    try:
        return next(found)
    except StopIteration:
        raise LookupError(f"no row {wanted} of {part}") from None


def _turn(items: int, column: str) -> Callable[[Rows], tuple[float, str]]:
    def measured(rows: Rows) -> tuple[float, str]:
        row = _row(rows, "turns", way=Way.OURS_SQLITE.value, items=items)
        used = row[column.replace("chunk", "used")]
        return row[column], f"{row[column]:.2f}x ({cell(row['chunk_ms_p50'])} ms); in processor time {used:.2f}x"

    return measured


def _handoff(rows: Rows) -> tuple[float, str]:
    row = _row(rows, "handoff", way=Way.OURS_SQLITE.value, items=10)
    plain = _row(rows, "handoff", way=Way.PLAIN.value, items=10)
    memory = _row(rows, "handoff", way=Way.OURS.value, items=10)
    beside = (
        f"{cell(row['used_ms_p50'])} of them processor time; without a store {cell(memory['chunk_ms_p50'])}, "
        f"a LiveKit agent {cell(plain['chunk_ms_p50'])}"
    )
    return row["chunk_ms_p50"], f"{cell(row['chunk_ms_p50'])} ms ({beside})"


def _task_begins(rows: Rows) -> tuple[float, str]:
    found = {what: _row(rows, "tasks", way=Way.OURS_SQLITE.value, what=what) for what in (BEGINS, BY_TOOL)}
    began, moved = found[BEGINS], found[BY_TOOL]
    return began["used_x_handoff"], (
        f"{began['used_x_handoff']:.2f}x ({cell(began['used_ms_p50'])} ms, a handoff {cell(moved['used_ms_p50'])})"
    )


def _bytes(turn: str) -> Callable[[Rows], tuple[float, str]]:
    def measured(rows: Rows) -> tuple[float, str]:
        row = _row(rows, "disk", way=Way.OURS_SQLITE.value, turn=turn)
        return row["bytes_per_turn"], f"{row['bytes_per_turn']:,} bytes over {row['turns']:,} turns"

    return measured


def _growth(rows: Rows) -> tuple[float, str]:
    found = [row for row in rows["disk"] if row["way"] == Way.OURS_SQLITE.value]
    if not found:
        raise LookupError("no row of graph_voice in disk")
    worst = max(row["bytes_second_half"] / row["bytes_first_half"] for row in found)
    return worst, f"the second half takes {worst:.2f}x the first half, at most"


def _conversations(rows: Rows) -> tuple[float, str]:
    most = {
        collector: max(
            (
                row["conversations"]
                for row in rows["concurrency"]
                if row["way"] == Way.OURS_SQLITE.value and row["collector"] == collector and row["largest"]
            ),
            default=0,
        )
        for collector in ("on", "off")
    }
    used = [row["per_core"] for row in rows["concurrency"] if row["way"] == Way.OURS_SQLITE.value]
    told = f"{most['on']} ({most['off']} with Python's collector off; processor time alone would allow {max(used)})"
    return most["on"], told


def _tool_gap(rows: Rows) -> tuple[float, str]:
    scene = "tool turn, a line before the tool call"
    ours = _row(rows, "gaps", turn=scene, way="graph_voice")["silence_s"]
    plain = _row(rows, "gaps", turn=scene, way="LiveKit agents")["silence_s"]
    return plain - ours, f"{plain - ours:.2f} s shorter ({ours:.2f} s, a LiveKit agent {plain:.2f} s)"


def _job(rows: Rows) -> tuple[float, str]:
    ready = {
        process: _row(
            rows, "job_start", processes="fork server, with create_server's modules", process=process
        )["agent_ms_p50"]
        for process in ("waiting", "new")
    }  # fmt: skip
    return max(ready.values()), f"{ready['waiting']:.0f} ms in a waiting process, {ready['new']:.0f} ms in a new one"


TARGETS = (
    Target(
        "first chunk at 10 items: at most 0.9x `LLMAdapter` without a saver",
        _turn(10, "chunk_x_adapter"),
        lambda x: x <= 0.9,
    ),
    Target(
        "first chunk at 1,000 items: at most 1.5x a LiveKit agent",
        _turn(1_000, "chunk_x_plain"),
        lambda x: x <= 1.5,
    ),
    Target("handoff, from the tool call to the next agent's first chunk: at most 5 ms", _handoff, lambda ms: ms <= 5),
    Target(
        "a task begins, in processor time until its first chunk: at most a handoff by a tool",
        _task_begins,
        lambda x: x <= 1.0,
    ),
    Target("on disk, a turn of words: at most 4 kB", _bytes("words"), lambda size: size <= 4_096),
    Target(
        "on disk, a turn with a tool call: at most 4 kB", _bytes("words and a tool call"), lambda size: size <= 4_096
    ),
    Target(
        "on disk: a turn takes as much in the second half of a long call as in the first (within a tenth)",
        _growth,
        lambda x: x <= 1.1,
    ),
    Target("conversations per core, tokens late by at most 20 ms (p95): 150", _conversations, lambda n: n >= 150),
    Target(
        "silence in a tool turn: shorter than a LiveKit agent's by the model's 0.4 s",
        _tool_gap,
        lambda s: s >= 0.4 - 1e-9,
    ),
    Target("a job is ready: in at most 100 ms", _job, lambda ms: ms <= 100),
)


def table(rows: Rows) -> str:
    """For the page: each target, what was measured, whether it is reached."""
    lines = ["| target (median, durable in SQLite) | measured | reached |", "|---|---|---|"]
    for target in TARGETS:
        try:
            value, told = target.measured(rows)
        except LookupError:
            told, reached = "not measured in this run", ""
        else:
            reached = "yes" if target.reached(value) else "**no**"
        lines.append(f"| {target.text} | {told} | {reached} |")
    return "\n".join(lines)
