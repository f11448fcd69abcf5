"""The table of mutants fits the code: a row that is out of date would break nothing, and prove nothing."""

import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_each_mutant_changes_one_place_and_names_tests_that_are_there() -> None:
    mutants = tomllib.loads((ROOT / "scripts" / "mutants.toml").read_text())["mutant"]
    wrong = []
    for mutant in mutants:
        found = (ROOT / mutant["file"]).read_text().count(mutant["old"])
        if found != 1:
            wrong.append(f"{mutant['name']}: {mutant['file']} holds the old text {found} times")
        if mutant["new"] == mutant["old"]:
            wrong.append(f"{mutant['name']}: it changes nothing")
        paths = [word.split("::")[0] for word in mutant["test"].split() if word.startswith("tests/")]
        wrong += [f"{mutant['name']}: there is no {path}" for path in paths if not (ROOT / path).exists()]
        if not paths:
            wrong.append(f"{mutant['name']}: it names no test")
    assert wrong == []
    twice = [name for name, count in Counter(m["name"] for m in mutants).items() if count > 1]
    assert twice == []
