"""The benchmarks run, and their page says what was measured. No duration of this machine is asserted here."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import gaps, targets, turns
from benchmarks.__main__ import PAGE, RESULTS, app
from benchmarks.page import filled, merged, written
from benchmarks.part import Effort, Measuring, Part
from benchmarks.parts import PARTS
from benchmarks.pictures import draw
from benchmarks.stores import stores
from benchmarks.tables import markdown
from graph_voice.tracing import flush_traces


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_each_part_measures_something_and_shows_it(part: Part, tmp_path: Path) -> None:
    with stores(postgres=False) as opened:
        rows = part.measure(Measuring(Effort.SMOKE, opened))
    assert [row for row in rows if "note" not in row]
    lines = part.table(rows).splitlines()
    assert len(lines) >= 3
    assert len({line.count("|") for line in lines}) == 1
    for path in draw({part.name: rows}, tmp_path):
        assert "<svg" in path.read_text(encoding="utf-8")
    assert flush_traces(30.0), "what waits to be sent holds up what is traced later"


def test_a_store_that_is_not_there_is_named_in_its_row() -> None:
    with stores(postgres=False) as opened:
        rows = turns.measure(Measuring(Effort.SMOKE, opened))
    (missing,) = [row for row in rows if "note" in row]
    assert missing["way"] == "graph_voice, Postgres"
    assert "not measured: it was not asked for" in turns.table(rows)


def test_a_turn_that_lost_its_history_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    opened_with = turns.a_talk
    monkeypatch.setattr(turns, "a_talk", lambda way, stores, size: opened_with(way, stores, size=0))
    monkeypatch.setattr(Measuring, "of", lambda self, full, quick, smoke: (10,) if isinstance(full, tuple) else 1)
    with stores(postgres=False) as opened, pytest.raises(AssertionError, match="was shown 3 messages instead of 10"):
        turns.measure(Measuring(Effort.SMOKE, opened))


def test_the_silences_of_the_page_are_those_of_the_virtual_clock() -> None:
    with stores(postgres=False) as opened:
        rows = gaps.measure(Measuring(Effort.FULL, opened))
    silence = {(row["turn"], row["way"]): row["silence_s"] for row in rows}
    first = {(row["turn"], row["way"]): row["first_word_s"] for row in rows}
    scene = "tool turn, a line before the tool call"
    assert silence[scene, "LiveKit agents"] - silence[scene, "graph_voice"] == pytest.approx(gaps.MODEL)
    scene = "handoff with a summary, nothing said before"
    assert first[scene, "LiveKit agents"] - first[scene, "graph_voice"] == pytest.approx(gaps.SUMMARY)
    assert not any(first[scene, "graph_voice"] > first[scene, "LiveKit agents"] for scene, _ in first)
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["gaps"]["rows"]
    assert rows == kept, "out of date: python -m benchmarks --only gaps --page"


def test_the_page_is_made_of_the_results_that_are_kept_beside_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == filled(page, json.loads(RESULTS.read_text(encoding="utf-8"))), "python -m benchmarks --render"


def test_results_of_a_part_replace_only_its_own(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    first = {name: {"effort": "full", "conditions": {}, "rows": [{"n": 1}]} for name in ("disk", "turns")}
    path.write_text(written(first), encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == first
    again = {"disk": {"effort": "quick", "conditions": {}, "rows": [{"n": 2}]}}
    assert merged(path, again) == {"turns": first["turns"], "disk": again["disk"]}


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks <!-- run: targets -->"):
        filled("# Benchmarks", {})


@pytest.mark.parametrize(("late", "reached"), [(0.9, "yes"), (0.91, "**no**")])
def test_whether_a_target_is_reached_is_computed(late: float, reached: str) -> None:
    row: dict[str, Any] = {"way": "graph_voice, SQLite", "items": 10, "chunk_x_adapter": late, "used_x_adapter": 0.8}
    row["chunk_ms_p50"] = 2.0
    told = targets.table({"turns": [row]}).splitlines()
    assert told[2].endswith(f"| {late:.2f}x (2.00 ms); in processor time 0.80x | {reached} |")
    assert all("not measured" in line for line in told[3:])


def test_a_cell_that_holds_a_bar_stays_one_cell() -> None:
    assert markdown([{"a": "x|y"}], {"a": "A"}).splitlines()[2] == "| x\\|y |"


def test_the_command_names_its_parts(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["--only", "nothing"])
    assert refused.exit_code == 2
    assert all(part.name in refused.output for part in PARTS)
    path = tmp_path / "rows.json"
    ran = CliRunner().invoke(app, ["--smoke", "--only", "gaps", "--json", str(path), "--no-postgres"])
    assert ran.exit_code == 0, ran.output
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert list(kept) == ["gaps"]
    assert kept["gaps"]["rows"][0]["way"] == "LiveKit agents"
