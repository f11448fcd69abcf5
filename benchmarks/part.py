"""What the parts of the benchmark have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from benchmarks.stores import Stores

__all__ = ["Effort", "Measuring", "Part", "Row", "Silent"]

Row = Mapping[str, Any]
"""The measurements of one contestant at one point: plain values, by column."""


class Effort(StrEnum):
    """How much is measured."""

    FULL = "full"
    """Minutes. docs/benchmarks.md shows such a run."""
    QUICK = "quick"
    """Less than a minute, for a quick look during development."""
    SMOKE = "smoke"
    """Seconds: whether it runs at all. Its numbers mean nothing."""


class Silent:
    """Progress that is not shown."""

    def begin(self, steps: int) -> None:
        """There will be `steps` steps."""

    def step(self, text: str) -> None:
        """The next step begins."""


@dataclass(frozen=True)
class Measuring:
    """What a part gets to measure with."""

    effort: Effort
    stores: Stores
    progress: Silent = field(default_factory=Silent)

    def of(self, full: Any, quick: Any, smoke: Any) -> Any:
        """The value for this effort."""
        return {Effort.FULL: full, Effort.QUICK: quick, Effort.SMOKE: smoke}[self.effort]


@dataclass(frozen=True)
class Part:
    """One thing that is measured."""

    name: str
    what: str
    """In one line."""
    measure: Callable[[Measuring], list[Row]]
    table: Callable[[Sequence[Row]], str]
    """The rows as Markdown."""
