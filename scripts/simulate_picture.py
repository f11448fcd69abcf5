"""The picture of docs/simulate.md: the report of 40 calls, in which a scripted model makes a mistake now and then.

`python scripts/simulate_picture.py` needs chromium on PATH.
"""

import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graph_voice.testing import ScriptedModel, call, simulate
from graph_voice.testing.simulation import Scenario, load_scenarios
from graphs.customer_service import graph

ROOT = Path(__file__).parents[1]
SCENARIOS = ROOT / "graphs" / "customer_service.scenarios.yaml"
SIZE = "1000,1490"
_calls: Iterator[int] = itertools.count(1)


def agents(scenario: Scenario) -> ScriptedModel:
    """Every seventh call looks up nothing, and makes a number up."""
    wrong = next(_calls) % 7 == 0
    looks_up: list[Any] = [] if wrong else [call("look_up_balance")]
    owed = "You owe 24 dollars, due in June." if wrong else "The balance is 42.50 dollars, due on the third of May."
    return ScriptedModel(
        {
            "customer_service": [
                "Welcome to Acorn Broadband, how can I help?",
                call("transfer_to_billing"),
                call("transfer_to_technical_support"),
            ],
            "billing": ["This is billing. What would you like to know?", *looks_up, owed],
            "technical_support": [
                "Technical support here. What is wrong?",
                call("check_line"),
                "Your line is up, and the signal is strong.",
            ],
        },
        first_token=0.45,
    )


def verdict(messages: list[Any]) -> Any:
    """The judge: what was not looked up is not accurate, and was no right use of the tools."""
    question, record = messages[-1].text.split("\n\n")[0], messages[-1].text
    made_up = "24 dollars" in record
    fails = made_up and any(word in question for word in ("stated true", "used rightly", "settled"))
    said = {"verdict": "fail" if fails else "pass", "reason": "No tool said 24 dollars." if fails else "It holds."}
    return call("submit_verdict", said)


def main() -> None:
    report = simulate(
        graph,
        load_scenarios(SCENARIOS),
        llm=agents,
        judge=ScriptedModel(verdict),
        judges=["expectations", "accuracy", "tool_use", "handoff", "conciseness"],
        n=20,
        concurrency=1,
        name="graphs/customer_service.py",
    )
    report.models = {"agents": "scripted", "caller": "script", "judges": "scripted"}
    page = report.html().replace("<details>", "<details open>", 1)
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "report.html").write_text(page)
        target = ROOT / "docs" / "images" / "simulate.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"]
        subprocess.run(["chromium", *options, f"--screenshot={target}", file.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
