"""The applications' simulated callers that need no language model: they pass with the intent router."""

from pathlib import Path
from typing import Any

import pytest

from graph_voice.launch.loading import load_graph
from graph_voice.testing import simulate
from graph_voice.testing.simulation import load_scenarios
from graph_voice_livekit.offline.router import IntentRouter
from graphs.front_desk.simulation import setup

GRAPHS = Path(__file__).parents[2] / "graphs"


@pytest.mark.parametrize("app", ["front_desk", "restaurant", "medical_triage"])
def test_callers_that_are_scripts_pass_with_the_router(app: str) -> None:
    found = [one for one in load_scenarios(GRAPHS / app / "scenarios.yaml") if one.tags.get("caller") == "script"]
    assert len(found) >= 2
    options: dict[str, Any] = {"setup": setup} if app == "front_desk" else {}
    router = IntentRouter(GRAPHS / app)
    report = simulate(load_graph(str(GRAPHS / app)), found, llm=lambda scenario: router, caller="script", **options)
    assert {run.scenario: run.problems for run in report.runs if not run.passed} == {}
