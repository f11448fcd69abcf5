"""The long form: what it plays, the report that it writes, and a seed that fails."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import proof_runs
import pytest
import soak
from proof_runs import Outcome
from proof_scenario import Scenario, make


def test_the_page_is_what_the_report_says() -> None:
    report = json.loads(soak.REPORT.read_text())
    assert soak.rendered(report) in soak.PAGE.read_text()


def test_the_last_long_run_was_long_and_what_it_found_is_mended() -> None:
    report = json.loads(soak.REPORT.read_text())
    counts = report["counts"]
    assert soak.summed(counts, "barge-ins") >= 10_000
    assert soak.summed(counts, "speculations discarded") >= 1_000
    for failure in report["failures"]:
        assert soak.play(failure["seed"])["failure"] is None
    for kind in ("crashes", "task_crashes"):
        assert (report[kind]["runs"], report[kind]["failed"]) == (200, 0)
    assert all(run["commit"] and not run["changed"] for run in report["runs"])


def test_a_run_can_be_added_to_the_report() -> None:
    report = json.loads(soak.REPORT.read_text())
    twice = soak.added(report, report | {"crashes": None})
    assert len(twice["runs"]) == 2 * len(report["runs"])
    assert soak.summed(twice["counts"], "barge-ins") == 2 * soak.summed(report["counts"], "barge-ins")
    assert twice["crashes"] == report["crashes"]


@pytest.fixture(autouse=True)
def _logs_again() -> Iterator[None]:
    """The soak has processes of its own, in which nothing is logged."""
    loggers = [logging.getLogger(name) for name in ("graph_voice", "livekit", "asyncio")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate


def test_all_kinds_of_scenarios_are_played() -> None:
    kinds = Counter(soak.kind_of(seed) for seed in range(1_000))
    assert set(kinds) == set(proof_runs.KINDS)
    assert min(kinds.values()) > 200


def test_a_scenario_is_played_and_counted() -> None:
    result = soak.play(1)
    assert result["failure"] is None
    assert result["counts"]["core: calls"] == 1
    assert soak.summed(result["counts"], "barge-ins") > 0
    json.dumps(result)


def test_a_seed_that_fails_becomes_a_regression(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def judged(scenario: Scenario, kind: str) -> Outcome:
        moved = any(act["do"] == "moves" for acts in scenario["rounds"] for act in acts)
        return Outcome(kind, scenario["seed"], failure="core: AssertionError: moved" if moved else None)

    monkeypatch.setattr(proof_runs, "judge", judged)
    monkeypatch.setattr(soak, "REGRESSIONS", tmp_path / "regressions")
    failing = next(s for s in range(100) if judged(soak_scenario(s), soak.kind_of(s)).failure)
    path = soak.shrunk(failing)
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["kind"] == soak.kind_of(failing)
    assert found["failure"] == "core: AssertionError: moved"
    assert [act["do"] for acts in found["scenario"]["rounds"] for act in acts] == ["moves"]


def soak_scenario(seed: int) -> Scenario:
    return make(seed, calm=soak.kind_of(seed) == "both")
