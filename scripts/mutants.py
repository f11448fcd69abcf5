"""Break the code on purpose, and see the tests fail: `python scripts/mutants.py [WORD ...]`, or `make mutants`.

Each entry of `scripts/mutants.toml` names a file, a piece of it, what replaces the piece, and the tests that must fail
then. Each mutant is a copy of the project in a temporary folder; nothing here is changed. Words choose the mutants
whose name or file contains one of them. Exits with 1 when a mutant survives, or no longer fits the code.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

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
"""That a mutant is caught is all that matters here, not by how small an example."""


def main() -> int:
    options = parsed()
    mutants = tomllib.loads(TABLE.read_text())["mutant"]
    chosen = [m for m in mutants if not options.words or any(w in m["name"] or w in m["file"] for w in options.words)]
    if not chosen:
        print(f"No mutant has {' or '.join(options.words)!r} in its name or its file.")
        return 1
    wrong: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ThreadPoolExecutor(options.jobs) as pool,
        Progress(*columns, console=Console(soft_wrap=True)) as bars,
    ):
        bar = bars.add_task("mutants", total=len(chosen))
        running = {pool.submit(try_mutant, mutant): mutant["name"] for mutant in chosen}
        for future in as_completed(running):
            outcome = f"{running[future]} -> {future.result()}"
            if " -> caught" not in outcome:
                wrong.append(outcome)
            bars.console.print(escape(outcome), highlight=False)
            bars.advance(bar)
    print("\n".join([f"{len(chosen)} mutants, {len(wrong)} to look at", *wrong]))
    return 1 if wrong else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of a mutant's name or file (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time (default: one per processor)")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    return options


def try_mutant(mutant: dict[str, str]) -> str:
    """Which test catches it, or why none does."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
            else:
                shutil.copy(source, copy / name)
        (copy / "conftest.py").write_text(NO_SHRINKING)
        target = copy / mutant["file"]
        text = target.read_text()
        if text.count(mutant["old"]) != 1:
            return f"STALE: {mutant['file']} holds the old text {text.count(mutant['old'])} times"
        target.write_text(text.replace(mutant["old"], mutant["new"]))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant["test"].split()]
        paths = {"PYTHONPATH": os.pathsep.join([str(copy), str(copy / "adapters")])}
        try:
            done = subprocess.run(
                command, cwd=copy, env=os.environ | paths, capture_output=True, text=True, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return "caught: the tests hang"
    failed = re.search(r"^(?:FAILED|ERROR) (tests/\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed is not None:
        return f"caught by {failed[1]}"
    return f"SURVIVES {mutant['test']}" if done.returncode == 0 else f"STALE: pytest said {done.stdout[-300:]!r}"


if __name__ == "__main__":
    sys.exit(main())
