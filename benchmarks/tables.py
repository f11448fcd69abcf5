"""Rows as a Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["cell", "markdown"]


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """One line per row. If a row has a `note` (why it could not be measured), it replaces the numbers.

    Args:
        rows: the rows.
        columns: key in the row -> the name of its column.
    """
    keys = list(columns)
    right = [any(isinstance(row.get(key), int | float) for row in rows) for key in keys]
    lines = [
        "| " + " | ".join(columns.values()) + " |",
        "|" + "|".join("---:" if is_number else "---" for is_number in right) + "|",
    ]
    for row in rows:
        cells = [cell(row.get(key)) for key in keys]
        if "note" in row:
            empty = next((n for n, key in enumerate(keys) if key not in row), len(keys) - 1)
            cells[empty] = f"not measured: {row['note']}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value for people: three digits, thousands with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value).replace("|", "\\|")
