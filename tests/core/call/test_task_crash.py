"""A real process is killed while a task is open, and another one goes on in it: no effect twice, no answer lost."""

import multiprocessing
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import task_crash_support

ROUNDS = int(os.environ.get("GRAPH_VOICE_CRASHES", "6"))


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that begin with everything imported, as LiveKit's job processes do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["task_crash_support"])
    # The server that forks does not get the `sys.path` of this process.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield context


def hold(processes: Any, folder: Path, moments: int | None) -> int:
    process = processes.Process(target=task_crash_support.main, args=(str(folder), moments))
    process.start()
    process.join(600)
    assert process.exitcode is not None, "the call does not end"
    return int(process.exitcode)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_call_that_is_killed_inside_a_task_goes_on_in_it(processes: Any, tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    kills = 0
    while hold(processes, tmp_path, moments.randrange(1, 90) if kills < 4 else None) != 0:
        kills += 1
        assert kills < 10
    assert task_crash_support.check(tmp_path) == kills > 0
