"""Random calls, on the core, on LiveKit, and on both: nothing that was done or heard is lost, doubled or made up.

`GRAPH_VOICE_SCENARIOS=500` plays so many; `GRAPH_VOICE_SEED=7` begins with that one. The long form is `make soak`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import proof_runs
import pytest
from proof_scenario import Scenario, make
from proof_shrink import shrink

SCENARIOS = int(os.environ.get("GRAPH_VOICE_SCENARIOS", "24"))
SEED = int(os.environ.get("GRAPH_VOICE_SEED", "0"))
REGRESSIONS = sorted((Path(__file__).parent.parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("seed", range(SEED, SEED + SCENARIOS))
@pytest.mark.parametrize("kind", ["core", "livekit"])
def test_a_random_call_keeps_the_invariants_behind_each_round_and_at_its_end(kind: str, seed: int) -> None:
    _holds(make(seed), kind)


@pytest.mark.parametrize("seed", range(SEED, SEED + SCENARIOS // 2))
def test_both_front_ends_agree_on_a_calm_call(seed: int) -> None:
    _holds(make(seed, calm=True), "both")


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_a_regression_stays_away(path: Path) -> None:
    found = json.loads(path.read_text())
    _holds(found["scenario"], found["kind"])


def _holds(scenario: Scenario, kind: str) -> None:
    outcome = proof_runs.judge(scenario, kind)
    if outcome.failure is not None:
        pytest.fail("\n".join([*outcome.log, outcome.failure]), pytrace=False)


def test_a_scenario_is_plain_data_and_the_same_for_the_same_seed() -> None:
    for seed in range(20):
        assert json.loads(json.dumps(make(seed))) == make(seed)
        assert json.loads(json.dumps(make(seed, calm=True))) == make(seed, calm=True)


def test_playing_a_scenario_twice_is_the_same_call() -> None:
    one, other = (proof_runs.judge(make(3), "core") for _ in range(2))
    assert (one.counts, one.log) == (other.counts, other.log)


def test_a_failing_scenario_is_made_small() -> None:
    def acts(scenario: Scenario) -> Iterator[str]:
        return (act["do"] for acts in scenario["rounds"] for act in acts)

    made = next(s for s in map(make, range(100)) if "moves" in acts(s) and len(list(acts(s))) > 10)
    smallest = shrink(made, lambda scenario: "moves" in acts(scenario))
    assert list(acts(smallest)) == ["moves"]
    assert len(smallest["agents"]) == 1


def test_the_results_of_two_front_ends_are_compared() -> None:
    one = {"active_agent": "a", "handoffs": [], "effects": ["x"], "userdata": [], "results": []}
    told = one | {"turns": [["hi", "Once upon a time"]]}
    assert proof_runs.agree(told, one | {"turns": [["hi", "Once upon"]]}) == []
    assert proof_runs.agree(told, one | {"turns": [["hi", "Once in"]]})
    assert proof_runs.agree(told, one | {"turns": [["ho", "Once upon"]]})
    assert proof_runs.agree(told, told | {"effects": ["x", "x"]})
