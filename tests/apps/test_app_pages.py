"""The pages of the applications: their snippets run, and are the applications' own; their drawings are current."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from graph_voice.drawing import to_svg
from graph_voice.launch.loading import load_graph

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "restaurant": (DOCS / "restaurant.md", DOCS / "images" / "restaurant_graph.svg"),
    "front_desk": (DOCS / "front-desk.md", DOCS / "images" / "front_desk.svg"),
    "medical_triage": (DOCS / "medical-triage.md", DOCS / "images" / "medical_triage.svg"),
}


@pytest.mark.parametrize("app", PAGES)
def test_the_snippets_run_and_say_what_the_application_says(app: str) -> None:
    page, _ = PAGES[app]
    names: dict[str, Any] = {}
    for snippet in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(snippet, names)
    graph = load_graph(str(DOCS.parent / "graphs" / app / "graph.py")).compile()
    if app == "restaurant":
        from graphs.restaurant import graph as module

        assert names["carried"] == module.carried
        assert names["to_checkout"].__doc__ == module.to_checkout.__doc__
    elif app == "front_desk":
        from graphs.front_desk import graph as desk

        source = inspect.getsource(desk.schedule_appointment)
        assert source in page.read_text("utf-8")
    else:
        from graphs.medical_triage.graph import triage

        assert names["support"] == next(h for h in triage.declared if h.to == "support")
    assert graph.nodes


@pytest.mark.parametrize("app", PAGES)
def test_the_drawing_is_current(app: str) -> None:
    page, drawing = PAGES[app]
    assert f"images/{drawing.name}" in page.read_text("utf-8")
    assert drawing.read_text("utf-8") == to_svg(load_graph(str(DOCS.parent / "graphs" / app)))


def test_the_table_of_pieces_names_what_there_is() -> None:
    told = (DOCS / "from-livekit.md").read_text("utf-8").partition("piece by piece")[2]
    for name in ("active_agent_attribute", "on_enter_tools", "userdata_summary", "tool=False", "SecretStr"):
        assert name in told
    for name in ("carried", "Guest", "Patient"):
        assert any(name in path.read_text("utf-8") for path in (DOCS.parent / "graphs").glob("*/*.py")), name
