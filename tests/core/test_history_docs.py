"""The snippets of docs/history.md run, in order, in one namespace."""

import ast
import re
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from graph_voice.testing import ScriptedModel

PAGE = Path(__file__).parents[2] / "docs" / "history.md"


async def test_the_snippets_run() -> None:
    names: dict[str, Any] = {"model": ScriptedModel(["Hi.", "They said hello."])}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        # As a notebook runs it: `await` at the top level.
        result = eval(compile(code, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if result is not None:
            await result
    assert [m.text for m in names["shown"]] == ["Hello", "Hi."]
    summary = await names["brief"]({"messages": [HumanMessage("Hello")]})
    assert [m.text for m in summary["messages"]] == ["Prior conversation summary: They said hello."]
