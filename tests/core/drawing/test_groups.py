"""A group of tasks is a box around its steps, in each kind of drawing."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from graph_voice import Agent, RunContext, Task, TaskGroup, create_voice_graph, function_tool
from graph_voice.drawing import to_ascii, to_mermaid, to_svg
from graph_voice.drawing.cards import cards
from graph_voice.drawing.picture import picture
from graph_voice.drawing.svg import side_by_side

STEPS = ["get_name", "get_city", "get_size"]


def graph(*, between: bool = False) -> Any:
    """A desk with a group of three steps, and a task that is none of them."""
    form = TaskGroup("form <1>", [Task(name, instructions="?") for name in STEPS])
    reason = Task("get_reason", instructions="?")

    @function_tool(tasks=[form])
    async def register(ctx: RunContext[Any]) -> str:
        """Register."""
        return str(await ctx.run_task(form))

    @function_tool(needs={"reason": reason})
    async def cancel(reason: str) -> str:
        """Cancel."""
        return reason

    tools = [cancel, register] if between else [register, cancel]
    desk = Agent("desk", instructions="Desk.", tools=tools)
    return create_voice_graph([desk, form, reason] if not between else [desk, reason, form])


@pytest.mark.parametrize("agents_only", [False, True])
def test_the_picture_knows_the_steps_in_their_order(agents_only: bool) -> None:
    assert picture(graph(), agents_only=agents_only).groups == {"form <1>": tuple(STEPS)}


def test_only_agents_are_drawn_where_a_task_ends() -> None:
    shown = picture(graph(), agents_only=True)
    assert {"desk", *STEPS, "get_reason", "__start__"} == shown.nodes.keys()
    assert {e.source for e in shown.edges if e.target == "desk" and e.labels == ("task ends",)} == {
        *STEPS,
        "get_reason",
    }


def _of(element: ET.Element, kind: str, key: str) -> list[tuple[str | None, list[float]]]:
    """The boxes of this kind: their names, and left, top, right, bottom."""
    found = []
    for group in element.iter("{http://www.w3.org/2000/svg}g"):
        if (name := group.get(f"data-{key}")) is None or kind not in (group.get("class") or "").split():
            continue
        rect = next(group.iter("{http://www.w3.org/2000/svg}rect"))
        x, y, width, height = (float(rect.get(k) or 0) for k in ("x", "y", "width", "height"))
        found.append((name, [x, y, x + width, y + height]))
    return found


@pytest.mark.parametrize("agents_only", [False, True])
@pytest.mark.parametrize("between", [False, True])
def test_the_box_holds_all_steps_and_nothing_else(agents_only: bool, between: bool) -> None:
    root = ET.fromstring(to_svg(graph(between=between), agents_only=agents_only))
    boxes = [box for name, box in _of(root, "group", "group") if name == "form <1>"]
    inside = set()
    for name, (left, top, right, bottom) in [*_of(root, "agent", "node"), *_of(root, "tools", "node")]:
        holds = [b for b in boxes if b[0] < left and b[1] < top and right < b[2] and bottom < b[3]]
        apart = [b for b in boxes if right < b[0] or b[2] < left or bottom < b[1] or b[3] < top]
        assert len(holds) + len(apart) == len(boxes), f"{name} is neither inside nor outside"
        inside |= {(name or "").removesuffix("_tools")} if holds else set()
    assert inside == set(STEPS)


def test_steps_that_have_another_card_between_them_have_a_box_of_their_own() -> None:
    made = cards(picture(graph(), agents_only=True))
    places = {"get_name": 0.0, "get_reason": 200.0, "get_city": 400.0, "get_size": 600.0}
    centers = {card.name: (places.get(card.name, 300.0), 100.0 if card.name in places else 0.0) for card in made}
    assert [[rect.x for rect in box] for box in side_by_side(made, centers, STEPS)] == [[0.0], [400.0, 600.0]]


def test_mermaid_has_a_subgraph_with_the_steps() -> None:
    lines = to_mermaid(graph(), agents_only=True).splitlines()
    at = next(i for i, line in enumerate(lines) if "subgraph" in line)
    assert "form #60;1#62;" in lines[at]
    ids = {line.split("(")[0].strip(): line for line in lines if '("get_' in line}
    drawn = [next(step for step in STEPS if f'"{step}"' in ids[line.strip()]) for line in lines[at + 1 : at + 4]]
    assert (drawn, lines[at + 4].strip()) == (STEPS, "end")


def test_the_list_names_the_steps_in_their_order() -> None:
    assert "[form <1>]\n  1. get_name\n  2. get_city\n  3. get_size\n" in to_ascii(graph())
