"""What must be ordered when a simulated call of the drive-thru is over: see `scenarios.yaml`."""

from collections.abc import Mapping, Sequence
from typing import Any

from graph_voice.testing.simulation import Scenario

__all__ = ["check", "what_is_wrong"]


def what_is_wrong(wanted: Sequence[Mapping[str, Any]], ordered: Sequence[Mapping[str, Any]]) -> str | None:
    """How the order differs from what is wanted; None if it does not. Fields that are not named may be anything."""
    left, missing = list(ordered), []
    for item in sorted(wanted, key=len, reverse=True):  # the most particular ones first
        found = next((one for one in left if item.items() <= one.items()), None)
        if found is None:
            missing.append(item)
        else:
            left.remove(found)
    told = [f"{name} is {_told(items)}" for name, items in (("missing", missing), ("too much", left)) if items]
    return f"the order is not as wanted: {'; '.join(told)}" if told else None


def check(scenario: Scenario, call: Any) -> str | None:
    """Compare the order with the scenario's `expected_items`."""
    if "expected_items" not in scenario.userdata:
        return None
    return what_is_wrong(
        scenario.userdata["expected_items"], [item.model_dump() for item in call.userdata.items.values()]
    )


def _told(items: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(" ".join(f"{key}={value}" for key, value in item.items() if value is not None) for item in items)
