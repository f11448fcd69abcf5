"""The mark `scenarios`: a test for each scenario of a file."""

import pytest

pytest_plugins = ["pytester"]

SCENARIOS = "scenarios: [{label: One, instructions: A.}, {label: Two, instructions: B.}]"
TEST = """
import pytest

@pytest.mark.scenarios("scenarios.yaml")
def test_each(scenario):
    assert scenario.label in ("One", "Two")
"""


@pytest.mark.parametrize("folder", [".", "tests"])
def test_a_test_runs_for_each_scenario_of_a_file_beside_it_or_in_the_root(
    pytester: pytest.Pytester, folder: str
) -> None:
    (pytester.path / folder).mkdir(exist_ok=True)
    (pytester.path / "scenarios.yaml").write_text(SCENARIOS)
    (pytester.path / folder / "test_it.py").write_text(TEST)
    result = pytester.runpytest_subprocess("-v", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_each[[]One[]]*", "*test_each[[]Two[]]*"])


def test_a_mark_without_a_path_or_a_test_without_the_argument_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST.replace('"scenarios.yaml"', ""))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*write @pytest.mark.scenarios(path)*"])
