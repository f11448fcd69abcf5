"""What the parts of the benchmark have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from benchmarks.stores import Stores

__all__ = ["Effort", "Measuring", "Part", "Row", "Silent"]

Row = Mapping[str, Any]
"""What one contestant showed at one point: plain values, by column."""


class Effort(StrEnum):
    """How much is measured."""

    FULL = "full"
    """Minutes: what docs/benchmarks.md shows."""
    QUICK = "quick"
    """Less than a minute, for a look while one works."""
    SMOKE = "smoke"
    """Seconds: whether it runs at all. Its numbers mean nothing."""


class Silent:
    """Progress that nobody sees."""

    def begin(self, steps: int) -> None:
        """So many steps are to come."""

    def step(self, text: str) -> None:
        """One of them begins."""


@dataclass(frozen=True)
class Measuring:
    """What a part is given."""

    effort: Effort
    stores: Stores
    progress: Silent = field(default_factory=Silent)

    def of(self, full: Any, quick: Any, smoke: Any) -> Any:
        """The one that this effort asks for."""
        return {Effort.FULL: full, Effort.QUICK: quick, Effort.SMOKE: smoke}[self.effort]


@dataclass(frozen=True)
class Part:
    """One thing that is measured."""

    name: str
    what: str
    """In a line."""
    measure: Callable[[Measuring], list[Row]]
    table: Callable[[Sequence[Row]], str]
    """The rows as Markdown."""
