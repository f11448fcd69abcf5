"""The page about recorded calls: its Python runs, and it names each option."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from graph_voice.cli.app import command
from graph_voice.testing import ScriptedModel, call

PAGE = Path(__file__).parents[3] / "docs" / "record-test.md"


async def test_the_python_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PAGE.parents[1])
    script = {"customer_service": ["Welcome.", call("transfer_to_billing")], "billing": ["Billing here."]}
    names: dict[str, Any] = {"model": ScriptedModel(script)}
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    await eval(compile(code, "record-test.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert "async def test_a_bill_word_for_word() -> None:" in names["source"]
    assert '"customer_service: I\'m transferring you to billing now.",' in names["source"]


def test_the_page_names_each_option() -> None:
    page = PAGE.read_text()
    made: Any = command()
    options = {o for p in made.commands["record-test"].params for o in p.opts if o.startswith("--")}
    assert [option for option in options - {"--help", "--name", "--output", "--prompts"} if option not in page] == []
