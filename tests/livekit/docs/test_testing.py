"""The tests on the page about testing are tests that pass."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


def written() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": __name__}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(code, str(PAGE), "exec"), names)
    return names


TESTS = {name: test for name, test in written().items() if name.startswith("test_")}


def test_there_are_some() -> None:
    assert len(TESTS) == 6


@pytest.mark.virtual_clock
@pytest.mark.parametrize("name", TESTS)
async def test_a_test_of_the_page_passes(name: str) -> None:
    test = TESTS[name]
    if "front_end" in inspect.signature(test).parameters:
        for front_end in ("core", "livekit"):
            await test(front_end)
    else:
        await test()
