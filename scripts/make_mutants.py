"""Make mutants of a package, and see which survive its tests: `make mutants PACKAGE=graph_voice/turn`.

Cosmic Ray makes the mutants: another comparison, `and` for `or`, a loop that never runs. Each is a copy of the project
in a temporary folder; the project itself is not changed. The tests of graph_voice/turn are those in tests/core/turn, or
all of tests/core when there is no such folder. A mutant whose tests fail, hang or can't be imported is caught. The
survivors are shown with file, line and diff: each is a missing test, or a change that makes no difference.

Exits with 0 when every mutant is caught, with 1 when one survives, with 2 when nothing could be tried.
"""

import argparse
import difflib
import functools
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants import ROOT, add_jobs, at_least_one, copy_project, run_tests, try_all

TESTS = {
    "graph_voice": "tests/core",
    "adapters/graph_voice_livekit": "tests/livekit",
    "graphs": "tests/apps",
}
"""Where the tests of each tree of packages are."""

QUICK = ("-m", "not speech and not rooms")
"""Mutants are not tried with minutes of speech or with real rooms."""

UNTRIED = re.compile(
    r"ReplaceComparisonOperator_(?:(?:Is|IsNot)_(?:Eq|NotEq|Lt|LtE|Gt|GtE)|(?:Eq|NotEq|Lt|LtE|Gt|GtE)_(?:Is|IsNot))$"
)
"""`is` for `==` usually changes nothing, and `<` for `is` always fails."""


@dataclass(frozen=True)
class Mutant:
    """One change that Cosmic Ray can make, and where."""

    file: str
    line: int
    column: int
    operator: str
    """Cosmic Ray's name for the kind of change."""
    occurrence: int
    """Which of the file's places for this operator."""

    @property
    def place(self) -> tuple[str, int, int]:
        return self.file, self.line, self.column

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.operator.removeprefix('core/')}"


def main() -> int:
    options = parsed()
    tests = options.tests.split() if options.tests else [folder_of_tests(options.package)]
    found = [mutant for file in files_of(options.package) for mutant in mutants_of(file, (ROOT / file).read_text())]
    if not found:
        print(f"Nothing in {options.package} can be changed.")
        return 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        base = Path(folder)
        copy_project(base)
        print(f"{' '.join(tests)}, unchanged: ", end="", flush=True)
        unchanged = run_tests(base, [*QUICK, *tests], 3600.0)
        if unchanged.code != 0:
            print(f"they must pass first\n{unchanged.output[-3000:]}")
            return 2
        timeout = options.timeout or 3 * unchanged.seconds + 30
        print(f"{unchanged.seconds:.0f} s. Each mutant has {timeout:.0f} s.")
        chosen = sample(found, options.most, options.seed)
        attempts = [(str(mutant), functools.partial(try_mutant, base, mutant, tests, timeout)) for mutant in chosen]
        outcomes = try_all(attempts, options.jobs)
    survivors = [m for m, outcome in zip(chosen, outcomes, strict=True) if outcome == "SURVIVES"]
    print(f"\n{len(chosen)} mutants of {len(found)} tried (seed {options.seed}), {len(survivors)} survive")
    for mutant in survivors:
        print(f"\n{mutant}\n{difference(mutant)}")
    return 1 if survivors else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", help="a package or a file, for instance graph_voice/turn or graph_voice/events.py")
    parser.add_argument("--most", type=at_least_one, default=50, help="how many mutants are tried (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="which of them are chosen (default: 0)")
    parser.add_argument(
        "--timeout", type=float, help="seconds for each (default: three times what the unchanged code needs, and 30)"
    )
    parser.add_argument("--tests", help="other tests than the package's own: pytest's arguments in one string")
    add_jobs(parser)
    options = parser.parse_args()
    options.package = options.package.strip("/")
    try:
        files_of(options.package)
        folder_of_tests(options.package)
    except ValueError as error:
        parser.error(str(error))
    return options


def files_of(package: str, root: Path = ROOT) -> list[str]:
    """The Python files of a package, or the file itself, from the root of the project.

    Raises:
        ValueError: there is none.
    """
    place = root / package
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place] if place.suffix == ".py" else []
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"there is no Python file in {package!r}")
    return [file.relative_to(root).as_posix() for file in files]


def folder_of_tests(package: str, root: Path = ROOT) -> str:
    """The folder of a package's tests: the same path among the tests, or the nearest folder above it.

    Raises:
        ValueError: the package is in no tree that has tests.
    """
    for tree, tests in TESTS.items():
        if package == tree or package.startswith(f"{tree}/"):
            folder, top = root / tests / package.removeprefix(tree).strip("/"), root / tests
            while folder != top and not any(folder.glob("**/test_*.py")):
                folder = folder.parent
            return folder.relative_to(root).as_posix()
    raise ValueError(f"{package!r} is not in {', '.join(TESTS)}")


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """All changes that Cosmic Ray can make in this source, except in annotations, which only a type checker reads."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments() or UNTRIED.search(name):
            continue
        operator = kind()
        places = [(node, start) for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (node, (line, column)) in enumerate(places):
            if not _in_annotation(node) and not _is_unpacking(node):
                yield Mutant(file, line, column + 1, name, occurrence)


def _in_annotation(node: Any) -> bool:
    """Whether a node of parso's tree stands in the annotation of a parameter, a variable or a result."""
    while (parent := node.parent) is not None:
        if parent.type == "tfpdef":
            return True
        before = parent.children[parent.children.index(node) - 1]
        if (parent.type, getattr(before, "value", "")) in (("annassign", ":"), ("funcdef", "->")):
            return True
        node = parent
    return False


def _is_unpacking(node: Any) -> bool:
    """Whether it is the `*` or `**` of an argument or a display, which Cosmic Ray mistakes for an operator."""
    return getattr(node, "value", "") in ("*", "**") and node.parent.type not in ("term", "power")


def sample(mutants: Sequence[Mutant], most: int, seed: int) -> list[Mutant]:
    """At most `most` of them, chosen at random, in the order of the code: one per place before a second one of any."""
    chance = random.Random(seed)
    of_place: dict[tuple[str, int, int], int] = {}
    rounds: list[tuple[int, Mutant]] = []
    for mutant in chance.sample(mutants, len(mutants)):
        of_place[mutant.place] = of_place.get(mutant.place, 0) + 1
        rounds.append((of_place[mutant.place], mutant))
    rounds.sort(key=lambda one: one[0])  # stable: chance decides within a round
    return sorted((mutant for _, mutant in rounds[:most]), key=lambda m: (*m.place, m.operator, m.occurrence))


def mutated(mutant: Mutant, source: str) -> str:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    changed = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
    assert isinstance(changed, str), f"{mutant} is in no source"
    return changed


def try_mutant(base: Path, mutant: Mutant, tests: Sequence[str], timeout: float) -> str:
    """What catches it, if anything does. `base` is a copy of the project that is already compiled."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "project"
        shutil.copytree(base, copy)
        target = copy / mutant.file
        target.write_text(mutated(mutant, target.read_text()))
        run = run_tests(copy, [*QUICK, *tests], timeout)
    if run.code == 0:
        return "SURVIVES"
    if run.code is None:
        return "caught: the tests hang"
    return f"caught by {run.failed}" if run.failed is not None else "caught: pytest can't begin"


def difference(mutant: Mutant) -> str:
    """What a mutant changes, as a diff."""
    source = (ROOT / mutant.file).read_text()
    lines = difflib.unified_diff(
        source.splitlines(), mutated(mutant, source).splitlines(), mutant.file, f"{mutant.file}, mutant", lineterm=""
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
