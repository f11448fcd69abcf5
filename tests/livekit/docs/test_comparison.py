"""docs/comparison.md and the README's table say what a run shows, and the run shows what is known of the three ways."""

from pathlib import Path
from typing import Any

import pytest
from comparison.app import Way
from comparison.page import observe, page, readme_table, rows
from comparison.rows import Observation, Row, cells

ROOT = Path(__file__).parents[3]
PAGE, README = ROOT / "docs" / "comparison.md", ROOT / "README.md"
OUT_OF_DATE = "out of date: python scripts/compare.py writes it anew"

_seen: dict[str, dict[Way, Observation]] = {}


def seen(found: Row) -> dict[Way, Observation]:
    """What the row's script shows; each is played once."""
    if found.name not in _seen:
        _seen[found.name] = observe(found)
    return _seen[found.name]


def named(name: str) -> Row:
    return next(found for found in rows() if found.name == name)


@pytest.mark.parametrize("found", rows(), ids=lambda found: found.name)
def test_the_row_of_the_page_is_what_its_script_shows(found: Row) -> None:
    told = cells(found, seen(found))
    line = "| " + " | ".join([found.feature, *told]) + " |"
    assert line in PAGE.read_text(encoding="utf-8").splitlines(), OUT_OF_DATE
    assert not (found.wins and told[2].startswith(("no:", "no ", "never"))), told[2]


def test_the_page_and_the_readme_are_those_of_the_run() -> None:
    shown = {found.name: seen(found) for found in rows()}
    assert PAGE.read_text(encoding="utf-8") == page(shown), OUT_OF_DATE
    assert readme_table(shown) in README.read_text(encoding="utf-8"), OUT_OF_DATE


KNOWN: list[tuple[str, Way, dict[str, Any]]] = [
    ("own_voice", Way.LIVEKIT, {"voices": ["front", "billing"]}),
    ("own_voice", Way.ADAPTER, {"voices": ["voice"]}),
    ("own_voice", Way.OURS, {"voices": ["front", "billing"]}),
    ("next_turn", Way.ADAPTER, {"answer": "This is the front desk."}),
    ("next_turn", Way.SAVER, {"answer": "You owe nothing."}),
    ("announced", Way.LIVEKIT, {"announced": False}),
    ("said_during_handoff", Way.LIVEKIT, {"remembered": False, "answers": 1}),
    ("said_during_handoff", Way.OURS, {"remembered": True, "answers": 2}),
    ("two_handoffs", Way.LIVEKIT, {"spoken": ""}),
    ("two_handoffs", Way.OURS, {"spoken": "Billing speaking."}),
    ("visible", Way.ADAPTER, {"events": [], "items": []}),
    ("visible", Way.OURS, {"events": ["look_up"], "items": ["function_call", "function_call_output"]}),
    ("mocked", Way.ADAPTER, {"ran": 1}),
    ("mocked", Way.OURS, {"ran": 0}),
    ("batch_order", Way.LIVEKIT, {"order": ["quick", "slow"]}),
    ("batch_order", Way.OURS, {"order": ["slow", "quick"]}),
    ("malformed", Way.LIVEKIT, {"ran": [""]}),
    ("malformed", Way.OURS, {"ran": []}),
    ("cut_in_tool_known", Way.LIVEKIT, {"ran": 1, "known": True}),
    ("cut_in_tool_known", Way.ADAPTER, {"ran": 0, "known": False}),
    ("cut_in_tool_known", Way.SAVER, {"dangling": True, "answered": None}),
    ("cut_in_tool_known", Way.OURS, {"ran": 1, "known": True, "dangling": False}),
    ("instructions_once", Way.SAVER, {"kept": True}),
    ("instructions_once", Way.OURS, {"shown": True, "kept": False}),
    ("question", Way.SAVER, {"booked": []}),
    ("question", Way.OURS, {"booked": ["Oslo"]}),
    ("dropped_guess", Way.LIVEKIT, {"charged": [5]}),
    ("dropped_guess", Way.ADAPTER, {"charged": [9, 5]}),
    ("dropped_guess", Way.SAVER, {"charged": [9, 5], "remembered": True}),
    ("dropped_guess", Way.OURS, {"charged": [5], "remembered": False}),
    ("usage", Way.ADAPTER, {"input": 0, "output": 0, "model": "unknown"}),
    ("usage", Way.OURS, {"input": 100, "output": 7, "model": "scripted"}),
]


@pytest.mark.parametrize(("name", "way", "facts"), KNOWN, ids=lambda value: value if isinstance(value, str) else None)
def test_what_is_known_is_seen(name: str, way: Way, facts: dict[str, Any]) -> None:
    observed = seen(named(name))[way]
    assert {key: observed[key] for key in facts} == facts


def test_words_that_were_not_heard_are_in_no_prompt_but_that_of_a_checkpointer() -> None:
    shown = seen(named("cut_in"))
    for way in (Way.LIVEKIT, Way.ADAPTER, Way.OURS):
        assert shown[way]["heard"] == shown[way]["history"] == shown[way]["prompt"]
    assert shown[Way.SAVER]["prompt"] > 2 * shown[Way.SAVER]["heard"]


def test_the_graph_runs_ahead_of_the_voice() -> None:
    for name in ("tool_turn", "handoff_gap"):
        shown = seen(named(name))
        gap = {way: observation.get("silence", observation.get("gap")) for way, observation in shown.items()}
        assert gap[Way.OURS] <= 0.25 < gap[Way.LIVEKIT] - 0.3  # only the voice's first sound is waited for


def test_a_line_before_a_tool_is_not_held_back() -> None:
    shown = seen(named("slow_tool_turn"))
    assert shown[Way.OURS]["line_after"] == shown[Way.LIVEKIT]["line_after"] < 1
    assert shown[Way.ADAPTER]["line_after"] > 4
