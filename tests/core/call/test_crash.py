"""A real process is killed in the middle of a call, and another one takes the call up. Nothing that counts is lost."""

import json
import multiprocessing
import os
import random
import sys
from pathlib import Path
from typing import Any

import crash_support
import pytest
from crash_support import STEPS, Ledger

ROUNDS = int(os.environ.get("GRAPH_VOICE_CRASHES", "20"))


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that begin with everything imported, as LiveKit's job processes do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crash_support"])
    # The server that forks does not get the `sys.path` of this process.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield context


def hold(processes: Any, folder: Path, moments: int | None) -> int:
    process = processes.Process(target=crash_support.main, args=(str(folder), moments))
    process.start()
    process.join(600)
    assert process.exitcode is not None, "the call does not end"
    return int(process.exitcode)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_call_that_is_killed_loses_nothing_and_does_nothing_twice(processes: Any, tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    kills = 0
    while hold(processes, tmp_path, moments.randrange(1, 60) if kills < 4 else None) != 0:
        kills += 1
        assert kills < 10
    end = json.loads((tmp_path / "end.json").read_text())
    ledger = Ledger(tmp_path / "ledger.jsonl")
    said = [text.strip() for kind, _, text in end["messages"] if kind == "ai"]

    # What the caller heard and was stored is there; so is each result that a reply has told.
    for words in ledger.read("heard"):
        assert any(words in text for text in said), words
    results = [text for kind, _, text in end["messages"] if kind == "tool"]
    for told in ledger.read("told"):
        assert told in results

    # No charge twice; what nobody knows of is reported; a note has one id, however often it ran.
    charged = ledger.read("charged")
    assert len(charged) == len(set(charged))
    for step in charged:
        known = f"charged {step}" in results
        unknown = any(found == f"result-call-{step}" and "unknown" in text for _, found, text in end["messages"])
        assert known or unknown, step
        assert (int(step) in end["steps"]) == known
    # It is reported by each process that takes the call up, until one of them has told the caller.
    assert {f"result-{call}" for call in ledger.read("unknown")} == {
        found for _, found, text in end["messages"] if "unknown" in text and found.startswith("result-")
    }
    settled = set()
    for kind, call in ledger.all():
        assert kind != "unknown" or call not in settled
        if kind == "settled":
            settled.add(call)
    notes = [step for step in range(1, STEPS + 1) if step % 2 == 0 and step % 3]
    assert {f"call-{step}" for step in notes} == set(ledger.read("noted"))
    assert [f"noted {step}" in results for step in notes] == [True] * len(notes)

    # Every turn is there once, in order, and everything happened once.
    asked = [int(text.split()[-1]) for kind, _, text in end["messages"] if kind == "human"]
    assert asked == list(range(1, STEPS + 1))
    assert len(end["steps"]) == len(set(end["steps"]))
    ids = [found for _, found, _ in end["messages"]]
    assert len(ids) == len(set(ids))
    assert end["agent"] == ("a" if (STEPS // 3) % 2 == 0 else "b")
