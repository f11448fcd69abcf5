"""Statistics of many measurements."""

import statistics
from collections.abc import Sequence

__all__ = ["percentile", "ratio", "spread"]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(name: str, values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median and 95th percentile, as columns."""
    return {
        f"{name}_p50": round(statistics.median(values), digits),
        f"{name}_p95": round(percentile(values, 95), digits),
    }


def ratio(value: float, base: float | None) -> float | None:
    """How many times the base; None without one."""
    return round(value / base, 2) if base else None
