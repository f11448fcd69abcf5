"""Break the code on purpose, and see the tests fail: `python scripts/mutants.py [WORD ...]`, or `make mutants`.

Each entry of `scripts/mutants.toml` names a file, a piece of it, what replaces the piece, and the tests that must then
fail. Each mutant is a copy of the project in a temporary folder; the project itself is not changed. Words choose the
mutants whose name or file contains one of them. Exits with 1 when a mutant survives, or no longer fits the code.

`scripts/make_mutants.py` makes other mutants of a package.
"""

import argparse
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_suffix(".toml")
COPIED = ("graph_voice", "adapters", "graphs", "benchmarks", "docs", "scripts", "tests", "pyproject.toml")
TIMEOUT = 300.0
"""Seconds for the tests of one mutant; one that hangs counts as caught."""

NO_SHRINKING = """
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("mutants")
"""
"""Only whether a mutant is caught matters here, not by how small an example."""

_running: set[subprocess.Popen[str]] = set()
"""The test runs in progress. They end with this script."""


class Run(NamedTuple):
    code: int | None
    """What pytest returned; None after the timeout."""
    output: str
    seconds: float

    @property
    def failed(self) -> str | None:
        """The first test that failed."""
        found = re.search(r"^(?:FAILED|ERROR) (tests/\S+)", self.output, re.MULTILINE)
        return found[1] if found is not None else None


def main() -> int:
    options = parsed()
    mutants = tomllib.loads(TABLE.read_text())["mutant"]
    chosen = [m for m in mutants if not options.words or any(w in m["name"] or w in m["file"] for w in options.words)]
    if not chosen:
        print(f"No mutant has {' or '.join(options.words)!r} in its name or its file.")
        return 1
    attempts = [(mutant["name"], functools.partial(try_mutant, mutant)) for mutant in chosen]
    outcomes = try_all(attempts, options.jobs)
    wrong = [
        f"{mutant['name']} -> {outcome}"
        for mutant, outcome in zip(chosen, outcomes, strict=True)
        if not outcome.startswith("caught")
    ]
    print("\n".join([f"{len(chosen)} mutants, {len(wrong)} to look at", *wrong]))
    return 1 if wrong else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of a mutant's name or file (default: all)")
    add_jobs(parser)
    return parser.parse_args()


def add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=at_least_one, default=os.cpu_count() or 1, help="at a time (default: one per processor)"
    )


def at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def try_mutant(mutant: dict[str, str]) -> str:
    """Which test catches it, or why none does."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        copy_project(copy)
        target = copy / mutant["file"]
        text = target.read_text()
        if text.count(mutant["old"]) != 1:
            return f"STALE: {mutant['file']} holds the old text {text.count(mutant['old'])} times"
        target.write_text(text.replace(mutant["old"], mutant["new"]))
        run = run_tests(copy, mutant["test"].split(), TIMEOUT)
    if run.code is None:
        return "caught: the tests hang"
    if run.code == 1 and run.failed is not None:
        return f"caught by {run.failed}"
    return f"SURVIVES {mutant['test']}" if run.code == 0 else f"STALE: pytest said {run.output[-300:]!r}"


def copy_project(folder: Path) -> None:
    """Copy what the tests need, without leftovers of earlier runs."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        else:
            shutil.copy(source, folder / name)
    (folder / "conftest.py").write_text(NO_SHRINKING)


def run_tests(copy: Path, tests: Iterable[str], timeout: float) -> Run:
    """Run these tests (pytest's arguments) in a copy of the project, until one fails or `timeout` seconds pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    paths = {"PYTHONPATH": os.pathsep.join([str(copy), str(copy / "adapters")])}
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=copy,
        env=os.environ | paths,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that processes that the tests started end with them
    ) as process:
        _running.add(process)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Run(None, "", time.monotonic() - began)
        finally:
            _running.discard(process)
    return Run(process.returncode, output, time.monotonic() - began)


def try_all(attempts: Sequence[tuple[str, Callable[[], str]]], jobs: int) -> list[str]:
    """Try each named mutant, `jobs` at a time, with a bar and a line for each; their outcomes, in the same order."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ThreadPoolExecutor(jobs) as pool, Progress(*columns, console=Console(soft_wrap=True)) as bars:
        bar = bars.add_task("mutants", total=len(attempts))
        running = {pool.submit(attempt): name for name, attempt in attempts}
        try:
            for future in as_completed(running):
                bars.console.print(escape(f"{running[future]} -> {future.result()}"), highlight=False)
                bars.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _kill(process)
            raise
    return [future.result() for future in running]


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
