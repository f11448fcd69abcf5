"""All that is measured, in the page's order."""

from benchmarks import handoff, turns
from benchmarks.part import Part

__all__ = ["PARTS"]

PARTS: tuple[Part, ...] = (turns.PART, handoff.PART)
