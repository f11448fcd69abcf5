"""Mutants made on demand: which tests they get, which changes there are, and which of them are tried."""

from pathlib import Path

import pytest
from make_mutants import Mutant, files_of, folder_of_tests, mutants_of, mutated, sample

SOURCE = """\
class Prices:
    low: int | None = None

    def between(self, low: int | None, high: int = 1 + 9) -> int | str:
        if low is not None and low == high:
            return low | high
        return -1
"""


@pytest.mark.parametrize(
    ("package", "tests"),
    [
        ("graph_voice/turn", "tests/core/turn"),
        ("graph_voice/turn/record.py", "tests/core/turn"),
        ("graph_voice/events.py", "tests/core"),
        ("graph_voice/graph", "tests/core"),
        ("graph_voice", "tests/core"),
        ("adapters/graph_voice_livekit/session", "tests/livekit/session"),
        ("adapters/graph_voice_livekit/worker", "tests/livekit"),
    ],
)
def test_the_tests_of_a_package_are_found_by_its_place(package: str, tests: str, tmp_path: Path) -> None:
    for file in ("core/test_events.py", "core/turn/test_record.py", "livekit/session/test_bridge.py"):
        (tmp_path / "tests" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / file).touch()
    (tmp_path / "tests" / "core" / "graph").mkdir()  # a folder without tests counts for nothing

    assert folder_of_tests(package, tmp_path) == tests


def test_a_package_outside_of_the_tested_trees_or_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "graph_voice").mkdir()
    (tmp_path / "graph_voice" / "events.py").touch()
    with pytest.raises(ValueError, match="'graph_voices/turn' is not in graph_voice, "):
        folder_of_tests("graph_voices/turn", tmp_path)
    for nothing in ("graph_voice/turns", "graph_voice/turn.py", "README.md"):
        with pytest.raises(ValueError, match="no Python file"):
            files_of(nothing, tmp_path)
    assert files_of("graph_voice", tmp_path) == files_of("graph_voice/events.py", tmp_path) == ["graph_voice/events.py"]


def test_each_mutant_changes_the_line_that_it_names_and_no_annotation() -> None:
    mutants = list(mutants_of("prices.py", SOURCE))

    for mutant in mutants:
        before, after = SOURCE.splitlines(), mutated(mutant, SOURCE).splitlines()
        changed = [number for number, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1]]
        assert changed == [mutant.line], mutant
    assert {mutant.line for mutant in mutants} == {4, 5, 6, 7}
    assert {mutant.column for mutant in mutants if mutant.line == 4} == {52, 54, 56}  # 1, +, 9
    assert "    if low is not None or low == high:" in [mutated(m, SOURCE).splitlines()[4][4:] for m in mutants]


def test_identity_is_not_replaced_by_equality_or_an_order() -> None:
    changes = {m.operator.rpartition("Operator_")[2] for m in mutants_of("a.py", "a is b\nc == d\n")}

    assert changes == {"Is_IsNot", "Eq_NotEq", "Eq_Lt", "Eq_LtE", "Eq_Gt", "Eq_GtE"}


def test_stars_that_unpack_are_no_operators() -> None:
    source = "f(*a, **b)\n{**a, 'b': [*b]}\ndef f(*a, b=1, **c): ...\na * b ** c\n"

    assert {(m.line, m.column) for m in mutants_of("a.py", source)} == {(3, 13), (4, 3), (4, 7)}


def test_a_sample_has_one_mutant_of_each_place_before_a_second_one_of_any() -> None:
    mutants = [Mutant("a.py", line, 1, f"core/{change}", 0) for line in range(1, 11) for change in "xyz"]

    assert len({m.place for m in sample(mutants, 10, seed=1)}) == 10
    assert len({m.place for m in sample(mutants, 11, seed=1)}) == 10
    assert len({m.place for m in sample(mutants, 4, seed=1)}) == 4
    assert sorted(map(str, sample(mutants, 99, seed=1))) == sorted(map(str, mutants))


def test_a_sample_depends_on_its_seed_alone() -> None:
    mutants = [Mutant("a.py", line, 1, "core/x", 0) for line in range(100)]

    assert sample(mutants, 10, seed=1) == sample(mutants, 10, seed=1) != sample(mutants, 10, seed=2)
