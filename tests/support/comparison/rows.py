"""The rows of the comparison: a script, what it shows on each way, and the cell that this makes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comparison.app import Way

__all__ = ["ROWS", "USUAL", "Observation", "Row", "cells", "row"]

Observation = Mapping[str, Any]
"""What one run of a scenario shows: plain values, by name."""
Scenario = Callable[[Way], Awaitable[Observation]]

USUAL = (Way.LIVEKIT, Way.ADAPTER, Way.SAVER, Way.OURS)
_SHORT = {
    Way.ADAPTER: "without a checkpointer",
    Way.SAVER: "with a checkpointer",
    Way.CUSTOM: 'with `stream_mode="custom"`',
}


@dataclass(frozen=True)
class Row:
    """One feature.

    Args:
        group: the part of the page.
        feature: the first cell.
        scenario: runs the script one way.
        verdict: what the page says of an observation.
        ways: on which it is run.
        wins: whether the tests expect graph_voice to have it; the page shows where it has not.
        short: what the README calls it, for the rows that stand there too.
    """

    group: str
    feature: str
    scenario: Scenario
    verdict: Callable[[Any], str]
    ways: Sequence[Way]
    wins: bool
    short: str | None

    @property
    def name(self) -> str:
        return str(getattr(self.scenario, "__name__", self.feature))


ROWS: list[Row] = []


def row(
    group: str,
    feature: str,
    verdict: Callable[[Any], str],
    *,
    ways: Sequence[Way] = USUAL,
    wins: bool = True,
    short: str | None = None,
) -> Callable[[Scenario], Row]:
    """Make a scenario a row of the comparison; see `Row`."""

    def made(scenario: Scenario) -> Row:
        found = Row(group, feature, scenario, verdict, ways, wins, short)
        ROWS.append(found)
        return found

    return made


def cells(found: Row, seen: Mapping[Way, Observation]) -> tuple[str, str, str]:
    """The cells of a row: LiveKit agents, `LLMAdapter` in all its ways, graph_voice."""
    told = {way: found.verdict(observation) for way, observation in seen.items()}
    adapters = {way: text for way, text in told.items() if way in _SHORT}
    if Way.ADAPTER in adapters and adapters[Way.ADAPTER] == adapters.get(Way.SAVER):
        del adapters[Way.SAVER]
        labels = _SHORT | {Way.ADAPTER: ""}
    else:
        labels = _SHORT
    if len(set(adapters.values())) == 1:
        return told[Way.LIVEKIT], next(iter(adapters.values())), told[Way.OURS]
    parts = [f"{labels[way]}: {text}" if labels[way] else text for way, text in adapters.items()]
    return told[Way.LIVEKIT], "; ".join(parts), told[Way.OURS]
