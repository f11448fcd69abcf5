"""The page about simulated callers: its scenarios can be played, its Python runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from graph_voice.cli.app import command
from graph_voice.testing import ScriptedModel, call
from graph_voice.testing.simulation import JUDGES, Scenario, load_scenarios, simulate
from graph_voice.testing.simulation.results import Rate

PAGE = Path(__file__).parents[3] / "docs" / "simulate.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def model(scenario: Scenario) -> ScriptedModel:
    bill = "bill" in str(scenario.userdata)
    return ScriptedModel(
        {
            "customer_service": [
                "Welcome.",
                *([call("transfer_to_billing")] if bill else []),
                call("transfer_to_technical_support"),
            ],
            "technical_support": ["What is the problem?", call("check_line"), "It is up.", "Anything else?"],
            "billing": ["Billing here."],  # it runs ahead of the transfer that is cut off
        }
    )


def test_the_scenario_of_the_page_is_played(tmp_path: Path) -> None:
    from graphs.customer_service import graph

    (text,) = blocks("yaml")
    (file := tmp_path / "scenarios.yaml").write_text(text)
    report = simulate(graph, load_scenarios(file), llm=model)
    assert report.rate == Rate(1, 1), report.markdown()


def test_the_python_of_the_page_runs(request: pytest.FixtureRequest) -> None:
    names: dict[str, Any] = {"__name__": __name__, "model": model}
    setup, judges, marked = blocks("python")
    exec(setup, names)
    assert names["report"].rate == Rate(5, 5)
    exec(judges, names)
    assert names["report"].judges == {"trajectory_superset_match": Rate(1, 1)}, names["report"].markdown()
    exec(marked, names)
    (mark,) = names["test_callers"].pytestmark
    assert (request.config.rootpath / mark.args[0]).exists()


def test_the_page_names_each_judge_and_each_option() -> None:
    page = PAGE.read_text()
    assert [name for name in ("expectations", *JUDGES) if f"| `{name}` |" not in page] == []
    command_: Any = command()
    options = {o for p in command_.commands["simulate"].params for o in p.opts if o.startswith("-")}
    assert [
        option for option in options - {"--help", "-h"} if f"`{option}" not in page and f"{option} " not in page
    ] == []
