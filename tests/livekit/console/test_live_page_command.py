"""The command that opens a graph in the live page."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graph_voice import Agent, create_voice_graph
from graph_voice.launch.loading import load_graph
from graph_voice_livekit.console.live_page import PORT, serve_command

SOURCE = """
from graph_voice import Agent, create_voice_graph

graph = create_voice_graph([Agent("desk", instructions="Help.")])
second = create_voice_graph([Agent("desk", instructions="Help.")])
"""


def a_graph() -> Any:
    return create_voice_graph([Agent("desk", instructions="Help.")])


def file_in(folder: Path, name: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["my_agent.py", "agents/desk.py", "two words/it's mine.py"])
@pytest.mark.parametrize("attribute", ["graph", "second"])
@pytest.mark.parametrize("made", [lambda graph: graph, lambda graph: graph.compile()], ids=["builder", "compiled"])
def test_the_command_loads_the_same_graph(
    name: str, attribute: str, made: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = load_graph(f"{file_in(tmp_path, name)}:{attribute}")
    command = serve_command(made(graph))
    program, verb, spec = shlex.split(command.text)
    assert (program, verb) == ("graph-voice", "serve")
    assert load_graph(spec) is graph
    assert str(tmp_path) not in command.text
    assert command.from_file
    assert "%%writefile" not in command.html()


def test_a_file_elsewhere_is_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load_graph(f"{file_in(tmp_path, 'graphs/my_agent.py')}")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert serve_command(graph).text == "graph-voice serve ../graphs/my_agent.py"


def notebook(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    """What a kernel has: a main module without a file."""
    module = ModuleType("__main__")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "__main__", module)


def test_a_graph_of_a_notebook_must_be_written_to_a_file_first(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, graph = a_graph(), a_graph()
    notebook(monkeypatch, _12=graph, desk=desk, graph=graph, _=desk)
    assert serve_command(graph).text == "graph-voice serve my_agent.py"
    command = serve_command(desk.compile())
    assert command.text == "graph-voice serve my_agent.py:desk"
    assert not command.from_file
    shown = command.html()
    assert "%%writefile my_agent.py" in shown
    assert f'href="http://127.0.0.1:{PORT}/"' in shown
    assert f"<code>{command.text}</code>" in shown


def test_the_file_of_a_graph_that_a_notebook_has_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = load_graph(f"{file_in(tmp_path, 'my_agent.py')}:second")
    notebook(monkeypatch, graph=graph)
    assert serve_command(graph).text == "graph-voice serve my_agent.py:second"


def test_a_graph_that_no_module_has() -> None:
    assert serve_command(a_graph()).text == "graph-voice serve my_agent.py"


def test_a_strange_module_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy:
        @property
        def __class__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("woken")

    graph = a_graph()
    notebook(monkeypatch, lazy=Lazy(), graph=graph)
    monkeypatch.setitem(sys.modules, "no_module", Lazy())  # type: ignore[arg-type]
    assert serve_command(graph).text == "graph-voice serve my_agent.py"


def test_what_is_shown_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = load_graph(str(file_in(tmp_path, "<b>&.py")))
    assert "<b>" not in serve_command(graph).html()
