"""All that is measured, in the page's order."""

from benchmarks import concurrency, disk, gaps, garbage, handoff, job_start, tasks, tracing, turns
from benchmarks.part import Part

__all__ = ["PARTS"]

PARTS: tuple[Part, ...] = (
    turns.PART,
    handoff.PART,
    tasks.PART,
    gaps.PART,
    disk.PART,
    concurrency.PART,
    garbage.PART,
    tracing.PART,
    job_start.PART,
)
