"""`studio_graph`: which model a graph without one gets, so that Studio opens it without a key."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from graph_voice.errors import LoadError
from graph_voice.studio import studio_graph
from graph_voice.testing import ScriptedModel

ROOT = Path(__file__).parents[2]
INTAKE = ROOT / "graphs" / "intake.py"
OWN = """
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel
builder = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel(["Own."]))
"""


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAPH_VOICE_LLM", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def model_of(graph: Any) -> Any:
    return ((graph.config or {}).get("configurable") or {}).get("llm")


def test_with_nothing_set_it_is_the_intent_router() -> None:
    graph = studio_graph(INTAKE)
    assert type(model_of(graph)).__name__ == "IntentRouter"
    assert not graph.checkpointer


async def test_the_router_answers_a_run_that_names_nothing() -> None:
    made = await studio_graph(INTAKE).ainvoke({"messages": [("user", "My name is Ada.")]})
    assert made["userdata"].name == "Ada"


async def test_a_run_may_name_another() -> None:
    llm = ScriptedModel(["Scripted."])
    made = await studio_graph(INTAKE).ainvoke({"messages": [("user", "Hello.")]}, {"configurable": {"llm": llm}})
    assert made["messages"][-1].text == "Scripted."


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setenv("GRAPH_VOICE_LLM", "anthropic:claude-x")
    assert type(model_of(studio_graph(INTAKE))).__name__ == "ChatAnthropic"
    monkeypatch.setenv("GRAPH_VOICE_LLM", "offline")
    assert type(model_of(studio_graph(INTAKE))).__name__ == "IntentRouter"


def test_a_graph_with_a_model_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN + "graph = builder\n")
    assert model_of(studio_graph(tmp_path / "own.py")) is None


def test_a_graph_opens_without_any_model_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    text = OWN.replace(', llm=ScriptedModel(["Own."])', "")
    (tmp_path / "none.py").write_text(text + "graph = builder\n")
    with caplog.at_level(logging.WARNING, logger="graph_voice"):
        graph = studio_graph(tmp_path / "none.py")
    assert "a" in graph.nodes
    assert "none has no model" in caplog.text


def test_a_graph_with_a_checkpointer_is_refused_with_the_fix(tmp_path: Path) -> None:
    more = (
        "from langgraph.checkpoint.memory import InMemorySaver\ngraph = builder.compile(checkpointer=InMemorySaver())\n"
    )
    (tmp_path / "saved.py").write_text(OWN + more)
    with pytest.raises(LoadError, match="Export the graph uncompiled"):
        studio_graph(tmp_path / "saved.py")


def test_it_needs_no_server_package() -> None:
    studio_graph(INTAKE)
    assert "langgraph_api" not in sys.modules
