"""docs/benchmarks.md: the prose is written by hand, and everything between marks comes from a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.parts import PARTS

__all__ = ["Results", "filled", "merged", "written"]

Results = Mapping[str, Mapping[str, Any]]
"""By part: its rows, and the conditions under which they were measured."""


def written(results: Results) -> str:
    """The results as they are written in docs/benchmarks.json."""
    lines = []
    for name, result in results.items():
        told = {key: value for key, value in result.items() if key != "rows"}
        rows = ",\n".join(f"   {json.dumps(row, ensure_ascii=False)}" for row in result["rows"])
        head = json.dumps(told, ensure_ascii=False, indent=1).replace("\n", "\n  ").removesuffix("\n  }")
        lines.append(f' "{name}": {head},\n   "rows": [\n{rows}\n   ]\n  }}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def merged(path: Path, measured: Results) -> Results:
    """The new results, with the other parts as they were."""
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = {**before, **measured}
    return {part.name: found[part.name] for part in PARTS if part.name in found}


def filled(text: str, results: Results) -> str:
    """The page with these results between its marks.

    Raises `ValueError` when a mark is missing.
    """
    text = _between(text, "targets", targets.table({name: result["rows"] for name, result in results.items()}))
    for part in PARTS:
        if part.name in results:
            result = results[part.name]
            text = _between(text, part.name, f"{part.table(result['rows'])}\n\n{_conditions(result)}")
    return text


def _between(text: str, name: str, told: str) -> str:
    begin, end = f"<!-- run: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"docs/benchmarks.md lacks the marks {begin} and {end}.")
    return f"{before}{begin}\n\n{told}\n\n{end}{after}"


def _conditions(result: Mapping[str, Any]) -> str:
    of = result["conditions"]
    state = " with changes" if of["changed"] else ""
    versions = ", ".join(f"{name} {of[name]}" for name in ("langgraph", "livekit-agents", "livekit-plugins-langchain"))
    return (
        f"<sub>{result['effort']} run of {of['at']}, {of['seconds']:.0f} s, commit {of['commit']}{state}; "
        f"{of['processor']}, {of['cores']} cores, load {of['load_before']} before and {of['load_after']} after; "
        f"Python {of['python']}, {versions}.</sub>"
    )
