"""A report compared with an earlier one: what became better or worse, and what may be chance."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from graph_voice.testing.simulation.results import Rate, Results

__all__ = ["Change", "Comparison", "compare"]

ALL = "all calls"


@dataclass(frozen=True)
class Change:
    """One rate, before and now."""

    name: str
    before: Rate
    now: Rate

    @property
    def difference(self) -> float:
        """Between -1 and 1."""
        return self.now.share - self.before.share

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true difference lies, with 95% confidence: Newcombe's interval, made of Wilson's two."""
        (low, high), (low_before, high_before) = self.now.interval, self.before.interval
        now, before = self.now.share, self.before.share
        down = math.hypot(now - low, high_before - before)
        up = math.hypot(high - now, before - low_before)
        return max(-1.0, self.difference - down), min(1.0, self.difference + up)

    @property
    def verdict(self) -> Literal["better", "worse", "may be chance", "the same", "new", "gone"]:
        """What can be said of it."""
        if not self.before.total or not self.now.total:
            return "gone" if self.before.total else "new"
        low, high = self.interval
        if low > 0:
            return "better"
        if high < 0:
            return "worse"
        return "may be chance" if self.difference else "the same"


@dataclass(frozen=True)
class Comparison:
    """Two reports of the same scenarios."""

    total: Change
    scenarios: list[Change]
    judges: list[Change]

    @property
    def worse(self) -> list[Change]:
        """What became worse beyond chance: of the total, a scenario, or a judge."""
        return [change for change in (self.total, *self.scenarios, *self.judges) if change.verdict == "worse"]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """For a table: name, before, now, difference, its interval, what can be said."""
        return [_row(change) for change in (self.total, *self.scenarios, *self.judges)]


def compare(earlier: Results, now: Results) -> Comparison:
    """Compare two reports. Scenarios and judges are matched by their names; those of one report only are "new" or
    "gone". The total is that of the scenarios that both have, so a new scenario does not change it."""
    both = earlier.scenarios.keys() & now.scenarios.keys()
    total = Change(ALL, _sum(earlier.scenarios, both), _sum(now.scenarios, both))
    return Comparison(total, _changes(earlier.scenarios, now.scenarios), _changes(earlier.judges, now.judges))


def _changes(before: Mapping[str, Rate], now: Mapping[str, Rate]) -> list[Change]:
    none = Rate(0, 0)
    return [Change(name, before.get(name, none), now.get(name, none)) for name in dict.fromkeys([*now, *before])]


def _sum(rates: Mapping[str, Rate], names: Iterable[str]) -> Rate:
    found = [rates[name] for name in names]
    return Rate(sum(rate.passed for rate in found), sum(rate.total for rate in found))


def _row(change: Change) -> tuple[str, ...]:
    if not (change.before.total and change.now.total):
        shares = [f"{rate.share:.0%}" if rate.total else "" for rate in (change.before, change.now)]
        return change.name, *shares, "", "", change.verdict
    low, high = change.interval
    return (
        change.name,
        f"{change.before.share:.0%} of {change.before.total}",
        f"{change.now.share:.0%} of {change.now.total}",
        f"{change.difference:+.0%}",
        f"{low:+.0%} to {high:+.0%}",
        change.verdict,
    )
