"""Each package is explained by one sentence, the contributors' picture of them is true, and public modules say so."""

import ast
import subprocess
import sys
from pathlib import Path

import layers
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(
    path.parent for folder in layers.PACKAGES.values() for path in folder.rglob("__init__.py") if path.parent != folder
)
PUBLIC = {
    "graph_voice": {
        "graph_voice.checks",
        "graph_voice.drawing",
        "graph_voice.errors",
        "graph_voice.events",
        "graph_voice.history",
        "graph_voice.models",
        "graph_voice.pytest_plugin",
        "graph_voice.studio",
        "graph_voice.tasks",
        "graph_voice.testing",
        "graph_voice.testing.recorded",
        "graph_voice.testing.simulation",
        "graph_voice.tracing",
    },
    "graph_voice_livekit": {
        "graph_voice_livekit.inprocess",
        "graph_voice_livekit.offline",
        "graph_voice_livekit.testing",
    },
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_package_is_explained_by_one_sentence(folder: Path) -> None:
    said = layers.sentence(folder)
    assert said.endswith("."), "one sentence, with its full stop"
    assert 20 <= len(said) <= 200, said


@pytest.mark.parametrize("house", layers.houses(), ids=lambda house: house.name)
def test_no_arrow_points_upwards_and_none_goes_round(house: layers.House) -> None:
    assert house.upward == []
    assert house.circles == []
    assert {room for layer in house.layers for room in layer} == set(house.rooms)


def test_the_table_in_contributing_is_true() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert layers.page(page) == page, "python scripts/layers.py --write"


@pytest.mark.parametrize("package", layers.PACKAGES)
def test_public_modules_say_so_in_their_first_line_and_only_they(package: str) -> None:
    found = set()
    for path in layers.PACKAGES[package].rglob("*.py"):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        if said.startswith("Public. "):
            name = ".".join((package, *path.relative_to(layers.PACKAGES[package]).with_suffix("").parts))
            found.add(name.removesuffix(".__init__"))
    assert found == PUBLIC[package]


def test_the_imports_keep_the_contracts() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
