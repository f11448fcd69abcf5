"""Loading a graph by name: what works, and what each mistake is answered with."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph_voice.errors import GraphVoiceError, LoadError
from graph_voice.launch.loading import load_graph, load_module, load_object, locate, name_of, source_of

GRAPH = """
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    text: str

def answer(state: State) -> dict:
    return {}

builder = StateGraph(State)
builder.add_node("agent", answer)
builder.add_edge(START, "agent")
graph = builder.compile()
number = 3

def make():
    return builder

def needs(argument):
    return builder

def breaks():
    raise RuntimeError("no key for the model")

async def later():
    return builder

class box:
    inner = builder
"""


@pytest.fixture(autouse=True)
def _modules_and_path_as_before() -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    assert sys.path == path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(GRAPH)
    return tmp_path


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_an_attribute_of_a_file_is_loaded(folder: Path) -> None:
    assert isinstance(load_graph(f"{folder}/agent.py:builder"), StateGraph)
    assert isinstance(load_graph(f"{folder}/agent.py:graph"), CompiledStateGraph)
    assert isinstance(load_graph(f"{folder}/agent.py:box.inner"), StateGraph)


def test_graph_is_the_attribute_if_none_is_given(folder: Path) -> None:
    assert load_graph(f"{folder}/agent.py") is load_graph(f"{folder}/agent.py:graph")
    assert load_graph(f"{folder}/agent.py:") is load_graph(f"{folder}/agent.py:graph")


def test_a_function_without_arguments_is_called(folder: Path) -> None:
    assert load_graph(f"{folder}/agent.py:make") is load_graph(f"{folder}/agent.py:builder")


def test_relative_paths_are_those_of_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_graph("agent.py:graph") is load_graph(f"{folder}/agent.py:graph")


def test_a_module_of_a_package_is_loaded_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shop_graphs").mkdir()
    written(folder, "shop_graphs/__init__.py", "")
    written(folder, "shop_graphs/phone.py", "from ." + "base import graph")
    written(folder, "shop_graphs/base.py", GRAPH)
    monkeypatch.chdir(folder)
    assert isinstance(load_graph("shop_graphs.phone:graph"), CompiledStateGraph)


def test_a_file_that_was_imported_by_name_is_not_executed_again_by_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(folder, "imported_before.py", GRAPH)
    monkeypatch.chdir(folder)
    by_name = load_graph("imported_before:graph")
    assert load_graph(f"{folder}/imported_before.py:graph") is by_name


def test_a_folder_stands_for_the_graph_in_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cafe").mkdir()
    written(folder, "cafe/graph.py", GRAPH)
    assert load_graph(f"{folder}/cafe") is load_graph(f"{folder}/cafe/graph.py:graph")
    assert load_graph(f"{folder}/cafe:builder") is load_graph(f"{folder}/cafe/graph.py:builder")
    assert locate(f"{folder}/cafe") == f"{folder}/cafe/graph.py:graph"
    assert source_of(f"{folder}/cafe:builder") == f"{folder}/cafe/graph.py"
    monkeypatch.chdir(folder)
    assert load_graph("cafe") is load_graph("cafe/graph.py")
    assert name_of("cafe") == name_of("cafe/graph.py:graph") == "cafe"
    monkeypatch.chdir(folder / "cafe")
    assert name_of("graph.py") == "cafe"
    assert (name_of("some/agent.py:graph"), name_of("shop.phone:graph")) == ("agent", "phone")


def test_a_file_of_a_package_may_import_its_neighbours(folder: Path) -> None:
    (folder / "bakery" / "oven").mkdir(parents=True)
    for name in ("bakery/__init__.py", "bakery/oven/__init__.py"):
        written(folder, name, "")
    written(folder, "bakery/parts.py", GRAPH)
    written(folder, "bakery/oven/graph.py", "from ..parts import graph\nfrom bakery.parts import builder")
    module = load_module(f"{folder}/bakery/oven")
    assert (module.__name__, module.graph is sys.modules["bakery.parts"].graph) == ("bakery.oven.graph", True)
    assert load_module(f"{folder}/bakery/oven/graph.py") is module, "once"
    before = load_object(f"{folder}/bakery/oven:graph")
    assert load_object(f"{folder}/bakery/oven:graph", reload=True) is before, "what it imports is not loaded again"


def test_a_file_of_a_package_that_is_imported_already_is_a_part_of_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "outer" / "inner_shop").mkdir(parents=True)
    written(folder, "outer/inner_shop/__init__.py", "")
    written(folder, "outer/inner_shop/goods.py", "class Sold(Exception): ...")
    written(folder, "outer/inner_shop/graph.py", "from .goods import Sold\n" + GRAPH)
    with monkeypatch.context() as running:
        running.syspath_prepend(str(folder))
        goods = importlib.import_module("outer.inner_shop.goods")
    module = load_module(str(folder / "outer/inner_shop"))
    assert (module.Sold, module.__name__) == (goods.Sold, "outer.inner_shop.graph")


def test_a_file_of_a_package_that_fails_leaves_nothing_of_it_behind(folder: Path) -> None:
    (folder / "smithy").mkdir()
    written(folder, "smithy/__init__.py", "")
    written(folder, "smithy/graph.py", "from .nowhere import graph")
    with pytest.raises(LoadError, match=r"smithy.*can't be loaded(.|\n)*No module named 'smithy.nowhere'"):
        load_graph(f"{folder}/smithy")
    assert not [name for name in sys.modules if name.partition(".")[0] == "smithy"]


def test_two_packages_of_one_name_are_told_apart(folder: Path) -> None:
    for where in ("one/twins", "two/twins"):
        (folder / where).mkdir(parents=True)
        written(folder, f"{where}/__init__.py", "")
        written(folder, f"{where}/graph.py", GRAPH)
    load_graph(f"{folder}/one/twins")
    with pytest.raises(LoadError, match=r"another package of that name is already loaded .*one/twins"):
        load_graph(f"{folder}/two/twins")


def test_the_folder_of_the_file_is_importable_only_while_it_is_loaded(folder: Path) -> None:
    written(folder, "prompts_beside_it.py", "number = 5")
    spec = written(folder, "uses.py", "import prompts_beside_it\nnumber = prompts_beside_it.number")
    assert load_object(f"{spec}:number") == 5
    assert str(folder) not in sys.path


def test_a_function_that_makes_the_graph_may_import_from_its_folder_too(folder: Path) -> None:
    written(folder, "made_beside_it.py", GRAPH)
    spec = written(folder, "lazy.py", "def make():\n    import made_beside_it\n    return made_beside_it.graph")
    assert isinstance(load_graph(f"{spec}:make"), CompiledStateGraph)


def test_a_file_is_executed_once_unless_asked_for_again(folder: Path) -> None:
    spec = written(folder, "counted.py", "import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\nruns = sys.counted")
    try:
        assert [load_object(f"{spec}:runs") for _ in range(3)] == [1, 1, 1]
        assert load_object(f"{spec}:runs", reload=True) == 2
        assert load_object(f"{spec}:runs") == 2
    finally:
        del sys.counted  # type: ignore[attr-defined]


def test_two_files_of_the_same_name_are_two_modules(folder: Path) -> None:
    (folder / "other").mkdir()
    one = written(folder, "twin.py", "number = 1")
    two = written(folder, "other/twin.py", "number = 2")
    assert (load_object(f"{one}:number"), load_object(f"{two}:number")) == (1, 2)


def test_a_missing_file_is_answered_with_names_like_it(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"there is no file .*/agnet\.py; did you mean .*/agent\.py\?"):
        load_graph(f"{folder}/agnet.py:graph")
    with pytest.raises(LoadError, match=r"zzz\.py; .* holds agent\.py$"):
        load_graph(f"{folder}/zzz.py")
    with pytest.raises(LoadError, match=r"the folder .*/nowhere does not exist"):
        load_graph(f"{folder}/nowhere/agent.py")
    with pytest.raises(LoadError, match=r"is a folder without a graph\.py: name a \.py file in it; .* holds agent\.py"):
        load_graph(f"{folder}/")


def test_a_missing_attribute_is_answered_with_the_graphs_that_are_there(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"no attribute 'grpah'; did you mean 'graph'\? Its graphs: builder, graph\.$"):
        load_graph(f"{folder}/agent.py:grpah")
    spec = written(folder, "empty.py", "")
    with pytest.raises(LoadError, match=r"no attribute 'graph'\. It holds no graphs\."):
        load_graph(spec)


def test_an_error_in_the_file_is_shown_with_the_line_that_raised_it(folder: Path) -> None:
    spec = written(folder, "broken.py", "import json\n\ndef read():\n    return json.loads('{')\n\nread()\n")
    with pytest.raises(LoadError) as caught:
        load_graph(spec)
    told = str(caught.value)
    assert "fails while it is imported" in told
    assert 'broken.py", line 4' in told
    assert "json.decoder.JSONDecodeError: Expecting property name" in told
    assert "loading.py" not in told
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import not_a_package_at_all", "ModuleNotFoundError: No module named 'not_a_package_at_all'"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_fails_leaves_nothing_behind(folder: Path, text: str, said: str) -> None:
    before = set(sys.modules)
    spec = written(folder, "fails.py", text)
    with pytest.raises(LoadError, match=said):
        load_graph(spec)
    assert not [name for name in set(sys.modules) - before if name.startswith("fails")]
    written(folder, "fails.py", GRAPH + "\n# longer than before, for the cache of bytecode\n")
    assert isinstance(load_graph(spec), CompiledStateGraph)


def test_ctrl_c_while_loading_is_not_taken_for_an_error_of_the_file(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_graph(written(folder, "stopped.py", "raise KeyboardInterrupt"))


def test_what_is_no_graph_is_named_with_what_would_do(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"is not a graph but 3\. Name a StateGraph.* Its graphs: builder, graph\."):
        load_graph(f"{folder}/agent.py:number")
    with pytest.raises(LoadError, match=r"can't be called without arguments.*\n.*missing 1 required positional"):
        load_graph(f"{folder}/agent.py:needs")
    with pytest.raises(LoadError, match=r"(?s)breaks can't be called.*RuntimeError: no key for the model"):
        load_graph(f"{folder}/agent.py:breaks")
    with pytest.raises(LoadError, match="is an async function: name a plain one"):
        load_graph(f"{folder}/agent.py:later")


def test_a_module_that_is_not_there_is_told_from_one_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(LoadError, match=r"there is no module 'no_such_thing' to import"):
        load_graph("no_such_thing.graphs:graph")
    with pytest.raises(LoadError, match=r"there is no module 'agent_' to import"):
        load_graph("agent_:graph")
    written(folder, "needs_more.py", "import not_a_package_at_all")
    with pytest.raises(LoadError, match=r"(?s)fails while it is imported.*'not_a_package_at_all'"):
        load_graph("needs_more:graph")


@pytest.mark.parametrize("spec", ["", ":", ":graph", "..:graph", "a b:graph"])
def test_a_spec_that_names_nothing_is_refused(spec: str) -> None:
    with pytest.raises(LoadError):
        load_graph(spec)


def test_a_file_that_is_not_python_is_refused(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"its name must end in \.py"):
        load_graph(written(folder, "agent.txt", "hello"))


def test_load_errors_are_import_errors_too() -> None:
    assert issubclass(LoadError, GraphVoiceError)
    assert issubclass(LoadError, ImportError)


def test_a_folder_that_is_a_graph_is_among_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "restaurant").mkdir()
    (tmp_path / "restaurant" / "graph.py").touch()
    (tmp_path / "intake.py").touch()
    with pytest.raises(LoadError, match=r"holds intake\.py, restaurant"):
        load_graph(str(tmp_path / "nothing"))
    with pytest.raises(LoadError, match=r"did you mean .*restaurant\?"):
        load_graph(str(tmp_path / "restaurants"))
