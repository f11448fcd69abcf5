"""The snippets of the page on Studio run, in order, in one namespace."""

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from graph_voice.testing import ScriptedModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "studio.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def test_the_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("GRAPH_VOICE_LLM", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    model = ScriptedModel(lambda messages: "Aye.")
    names: dict[str, Any] = {"model": model, "__name__": "page"}
    for code in snippets("python"):
        made = eval(compile(code, "studio.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(made):
            await made
    assert [prompt.messages[0].text for prompt in model.prompts] == ["You are a pirate.", "Sell."]


def test_the_json_is_that_of_a_langgraph_json() -> None:
    (written,) = snippets("json")
    from langgraph_cli.config import validate_config

    assert validate_config({**json.loads(written), "python_version": "3.11"})["graphs"]


def test_the_request_is_one_that_the_server_answers(studio: Any) -> None:
    path, body = re.search(r"127\.0\.0\.1:2024(\S+) .*? -d '(.*?)'", snippets("bash")[1], re.DOTALL).groups()  # type: ignore[union-attr]
    assert studio.post(path, **json.loads(body))["active_agent"] == "billing"


def test_the_pictures_are_there_and_small() -> None:
    for name in re.findall(r"\]\((images/[^)]+)\)", PAGE):
        assert 0 < (ROOT / "docs" / name).stat().st_size < 200_000
