"""The benchmarks run. What they show is in docs/benchmarks.md; no duration of this machine is asserted here."""

import pytest

from benchmarks.part import Effort, Measuring, Part
from benchmarks.parts import PARTS
from benchmarks.stores import stores


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_each_part_measures_something_and_makes_a_table_of_it(part: Part) -> None:
    with stores(postgres=False) as opened:
        rows = part.measure(Measuring(Effort.SMOKE, opened))
    assert rows
    assert all(row["note"] for row in rows if len(row) <= 3)
    lines = part.table(rows).splitlines()
    assert len(lines) >= 3
    assert len({line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}) == 1
