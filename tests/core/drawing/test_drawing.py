"""Drawings show the whole graph, legibly, without asking anybody."""

import re
import socket
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from typing_extensions import TypedDict

from graph_voice import Agent, Handoff, create_voice_graph, function_tool
from graph_voice.drawing import to_ascii, to_mermaid, to_svg
from graph_voice.drawing.boxes import Box, Link, Port
from graph_voice.drawing.layers import arrange
from graph_voice.errors import BuildError

SVG = "{http://www.w3.org/2000/svg}"


class _State(TypedDict):
    active_agent: str


def _nothing(state: _State) -> dict[str, str]:
    return {}


def _route(state: _State) -> str:
    return "end"


def voice_graph(
    handoffs: Mapping[str, Mapping[str, str]], start: str | None = None, router: str | None = None
) -> StateGraph[Any, Any, Any, Any]:
    """Agents with tools nodes, wired as a voice graph is: agent -> {target: tools that hand off to it}.

    A transfer (`transfer_to_...`) leads from its agent, any other tool's handoff from the tools.
    """
    builder = StateGraph(_State)
    for name, targets in handoffs.items():
        builder.add_node(name, _nothing, metadata={"graph_voice": {"agent": name, "start": name == start}})
        builder.add_node(f"{name}_tools", _nothing)
        ways: dict[Hashable, str] = {"tools": f"{name}_tools", "end": END}
        returned: dict[Hashable, str] = {name: name}
        for target, label in targets.items():
            (ways if label.startswith("transfer_to_") else returned)[label] = target
        builder.add_conditional_edges(name, _route, ways)
        builder.add_conditional_edges(f"{name}_tools", _route, returned)
    agents: dict[Hashable, str] = {name: name for name in handoffs}
    if router:
        builder.add_node(router, _nothing)
        builder.add_edge(START, router)
        builder.add_conditional_edges(router, _route, agents)
    else:
        builder.add_conditional_edges(START, _route, agents)
    return builder


TWO = voice_graph(
    {"intake": {"customer_service": "record_name, record_age"}, "customer_service": {"intake": "back"}},
    "intake",
)
MESH = voice_graph(
    {
        one: {other: f"transfer_to_{other}" for other in ("triage", "support", "billing") if other != one}
        for one in ("triage", "support", "billing")
    },
    "triage",
)
_HUB = {
    "greeter": {"reservation": "to_reservation", "takeaway": "to_takeaway"},
    "reservation": {"greeter": "to_greeter"},
    "takeaway": {"greeter": "to_greeter", "checkout": "to_checkout"},
    "checkout": {"takeaway": "to_takeaway", "greeter": "to_greeter"},
}
HUB = voice_graph(_HUB, "greeter")
MIXED = voice_graph(
    {
        "triage": {"billing": "transfer_to_billing", "support": "book, cancel", "desk": "transfer_to_desk"},
        "billing": {"triage": "back", "support": "transfer_to_support"},
        "support": {"triage": "transfer_to_triage", "desk": "hand_over"},
        "desk": {},
    },
    "triage",
)
ROUTED = voice_graph(_HUB, router="language_router")
UNMARKED = voice_graph(_HUB)


def _foreign() -> StateGraph[Any, Any, Any, Any]:
    """What a user may add: loops, nodes of their own, tools that end the call, labelled ways out."""
    builder = StateGraph(_State)
    for name in ("billing", "billing_tools", "support", "audit"):
        builder.add_node(name, _nothing)
    builder.add_edge(START, "billing")
    builder.add_conditional_edges("billing", _route, {"tools": "billing_tools", "end": END})
    ways: dict[Hashable, str] = {
        "billing": "billing",
        "escalate, transfer": "support",
        "fill_till_list": "audit",
        "hang_up": END,
        "again": "billing_tools",
    }
    builder.add_conditional_edges("billing_tools", _route, ways)
    builder.add_conditional_edges("audit", _route, {"retry": "audit", "done": END, "support": "support"})
    builder.add_conditional_edges("support", _route, {"end": END, "more": "support"})
    return builder


FOREIGN = _foreign()
GRAPHS = {
    "two": TWO,
    "mesh": MESH,
    "hub": HUB,
    "mixed": MIXED,
    "routed": ROUTED,
    "unmarked": UNMARKED,
    "foreign": FOREIGN,
}
every_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
both_views = pytest.mark.parametrize("agents_only", [False, True], ids=["whole", "agents"])


# reading a drawing


@dataclass(frozen=True)
class Rect:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Rect") -> bool:
        return (
            self.left < other.right - 0.1
            and other.left < self.right - 0.1
            and self.top < other.bottom - 0.1
            and other.top < self.bottom - 0.1
        )


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def groups(root: ET.Element, attribute: str) -> list[ET.Element]:
    return [group for group in root.iter(f"{SVG}g") if attribute in group.attrib]


def edges_in(root: ET.Element) -> Counter[tuple[str, str, str]]:
    return Counter(
        (group.attrib["data-source"], group.attrib["data-target"], group.attrib["data-label"])
        for group in groups(root, "data-label")
    )


def texts(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def rect_of(element: ET.Element) -> Rect:
    x, y, width, height = (float(element.attrib[key]) for key in ("x", "y", "width", "height"))
    return Rect(x, y, x + width, y + height)


def text_rect(element: ET.Element) -> Rect:
    """As wide as the widest of the common fonts would set it."""
    size, x, y = (float(element.attrib[key]) for key in ("font-size", "x", "y"))
    width = len(element.text or "") * size * 0.6
    return Rect(x - width / 2, y - size * 0.8, x + width / 2, y + size * 0.25)


def node_rects(root: ET.Element) -> dict[str, Rect]:
    boxes = {group.attrib["data-node"]: group.find(f"{SVG}rect") for group in groups(root, "data-node")}
    return {name: rect_of(box) for name, box in boxes.items() if box is not None}


def label_rects(root: ET.Element) -> list[Rect]:
    return [
        rect_of(box)
        for group in root.iter(f"{SVG}g")
        if group.get("class") == "label" and (box := group.find(f"{SVG}rect")) is not None
    ]


def overlapping(rects: Iterable[Rect]) -> list[tuple[Rect, Rect]]:
    return [(one, two) for one, two in combinations(rects, 2) if one.overlaps(two)]


# the SVG


@every_graph
def test_every_edge_of_the_graph_is_drawn_exactly_once(graph: StateGraph[Any, Any, Any, Any]) -> None:
    drawn = edges_in(parsed(to_svg(graph)))
    held = Counter((edge.source, edge.target, str(edge.data or "")) for edge in graph.compile().get_graph().edges)
    assert drawn == held


@every_graph
def test_every_node_is_drawn_exactly_once_with_its_name(graph: StateGraph[Any, Any, Any, Any]) -> None:
    root = parsed(to_svg(graph))
    names = [name for name in graph.compile().get_graph().nodes if name not in (START, END)]
    drawn = Counter(group.attrib["data-node"] for group in groups(root, "data-node"))
    assert {name: drawn[name] for name in names} == dict.fromkeys(names, 1)
    assert set(names) <= set(texts(root))


@every_graph
@both_views
def test_the_tools_that_hand_off_are_written_on_the_edge(
    graph: StateGraph[Any, Any, Any, Any], agents_only: bool
) -> None:
    written = texts(parsed(to_svg(graph, agents_only=agents_only)))
    drawable = graph.compile().get_graph()
    labels = [
        tool
        for edge in drawable.edges
        if edge.target not in (END, edge.source) and edge.data not in (None, "tools")
        for tool in str(edge.data).split(", ")
    ]
    assert labels
    assert not Counter(labels) - Counter(written)


@every_graph
@both_views
def test_no_box_and_no_label_overlaps_another(graph: StateGraph[Any, Any, Any, Any], agents_only: bool) -> None:
    root = parsed(to_svg(graph, agents_only=agents_only))
    assert len(node_rects(root)) > 1
    assert overlapping([*node_rects(root).values(), *label_rects(root)]) == []


@every_graph
@both_views
def test_text_stays_in_its_box_and_the_drawing_on_its_sheet(
    graph: StateGraph[Any, Any, Any, Any], agents_only: bool
) -> None:
    root = parsed(to_svg(graph, agents_only=agents_only))
    assert overlapping(text_rect(text) for text in root.iter(f"{SVG}text")) == []
    boxes = [*node_rects(root).values(), *label_rects(root)]
    for text in root.iter(f"{SVG}text"):
        at = text_rect(text)
        assert any(
            box.left <= at.left and at.right <= box.right and box.top <= at.top and at.bottom <= box.bottom
            for box in boxes
        ), text.text
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in boxes:
        assert box.left >= 0
        assert box.top >= 0
        assert box.right + 30 < width
        assert box.bottom + 30 < height


@every_graph
@both_views
def test_lines_go_around_foreign_boxes_and_labels(graph: StateGraph[Any, Any, Any, Any], agents_only: bool) -> None:
    root = parsed(to_svg(graph, agents_only=agents_only))
    nodes, labels = node_rects(root), [g for g in root.iter(f"{SVG}g") if g.get("class") == "label"]
    for edge in groups(root, "data-label"):
        ends = edge.attrib["data-source"], edge.attrib["data-target"]
        others = [rect for name, rect in nodes.items() if name not in ends]
        others += [
            rect_of(box)
            for label in labels
            if (label.attrib["data-source"], label.attrib["data-target"]) != ends
            and (box := label.find(f"{SVG}rect")) is not None
        ]
        for x, y in points_of(line_of(edge)):
            assert not any(r.left < x < r.right and r.top < y < r.bottom for r in others), ends


def with_tools(counts: Sequence[int]) -> StateGraph[Any, Any, Any, Any]:
    """A voice graph of agents with so many tools each, which hand off in a ring."""
    names = [f"agent_{index}" for index in range(len(counts))]

    def made(name: str) -> Any:
        async def run() -> str:
            """Do it."""
            return ""

        return function_tool(name=name)(run)

    return create_voice_graph(
        [
            Agent(
                name,
                instructions="Help.",
                tools=[made(f"{name}_does_{number}") for number in range(count)],
                handoffs=[Handoff(names[(index + 1) % len(names)])] if len(names) > 1 else [],
            )
            for index, (name, count) in enumerate(zip(names, counts, strict=True))
        ]
    )


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4))
@settings(max_examples=25)
def test_each_tool_can_be_drawn_by_its_name(counts: list[int]) -> None:
    graph = with_tools(counts)
    named = [f"agent_{index}_does_{number}" for index, count in enumerate(counts) for number in range(count)]
    drawn = to_svg(graph, tools=True)
    root = parsed(drawn)
    assert not Counter(named) - Counter(texts(root))
    assert not set(named) & set(texts(parsed(to_svg(graph))))
    assert overlapping([*node_rects(root).values(), *label_rects(root)]) == []
    for group in groups(root, "data-node"):
        box = group.find(f"{SVG}rect")
        for text in group.iter(f"{SVG}text"):
            assert box is not None
            at, around = text_rect(text), rect_of(box)
            assert around.left <= at.left
            assert at.right <= around.right
            assert around.top <= at.top
            assert at.bottom <= around.bottom
    for text in (to_ascii(graph, tools=True), to_mermaid(graph, tools=True)):
        assert all(text.count(name) == 1 for name in named)


def test_the_tools_of_langgraphs_own_tool_node_are_named_too() -> None:
    async def look_up() -> str:
        """Look up."""
        return ""

    builder = StateGraph(_State)
    builder.add_node("desk", _nothing)
    builder.add_node("desk_tools", ToolNode([look_up]))
    builder.add_edge(START, "desk")
    builder.add_conditional_edges("desk", _route, {"tools": "desk_tools", "end": END})
    builder.add_edge("desk_tools", "desk")
    assert "look_up" in texts(parsed(to_svg(builder, tools=True)))


def line_of(edge: ET.Element) -> str:
    """The path of an edge, without the head of its arrow."""
    (line,) = (path.attrib["d"] for path in edge.iter(f"{SVG}path") if path.attrib["fill"] == "none")
    return line


def points_of(path: str) -> list[tuple[float, float]]:
    """Points along an SVG path of moves, lines and cubics."""
    points: list[tuple[float, float]] = []
    for command, body in re.findall(r"([MLC])([^MLC]*)", path):
        numbers = [float(number) for number in body.split()]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        if command == "M":
            points.append(pairs[0])
            continue
        controls = [points[-1], *pairs]
        points += [bezier(controls, step / 12) for step in range(1, 13)]
    return points


def bezier(controls: Sequence[tuple[float, float]], t: float) -> tuple[float, float]:
    while len(controls) > 1:
        controls = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in pairwise(controls)]
    return controls[0]


def test_the_agents_view_shows_agents_and_handoffs_alone() -> None:
    root = parsed(to_svg(HUB, agents_only=True))
    expected = Counter((agent, target, label) for agent, ways in _HUB.items() for target, label in ways.items())
    assert edges_in(root) == expected + Counter([(START, "greeter", "")])
    assert set(node_rects(root)) == set(_HUB)


def test_both_directions_of_a_pair_are_lines_of_their_own_in_the_giver_s_colour() -> None:
    root = parsed(to_svg(TWO, agents_only=True))
    found = {
        (edge.attrib["data-source"], edge.attrib["data-target"]): (
            line_of(edge),
            {path.get("stroke", path.attrib["fill"]) for path in edge.iter(f"{SVG}path")},
        )
        for edge in groups(root, "data-label")
    }
    there, back = found["intake", "customer_service"], found["customer_service", "intake"]
    assert there[0] != back[0]
    assert there[1] != back[1]
    assert len(there[1]) == len(back[1]) == 1


def test_the_active_agent_and_no_other_is_highlighted() -> None:
    root = parsed(to_svg(MESH, active="support"))
    active = [g.attrib["data-node"] for g in groups(root, "data-node") if "active" in g.attrib["class"].split()]
    assert active == ["support"]
    assert not [g for g in groups(parsed(to_svg(MESH)), "data-node") if "active" in g.attrib["class"].split()]


def test_a_new_call_begins_with_the_marked_agent_below_the_start() -> None:
    root = parsed(to_svg(voice_graph(_HUB, "takeaway")))
    rects = node_rects(root)
    assert min(rects, key=lambda name: rects[name].top) in ("takeaway", "takeaway_tools")


def test_a_voice_graph_is_drawn_with_its_agents_tools_and_declared_handoffs() -> None:
    @function_tool(handoffs=["billing"])
    async def record_name(name: str) -> str:
        """Record the caller's name."""
        return name

    graph = create_voice_graph(
        [
            Agent(
                "intake",
                instructions="Ask.",
                tools=[record_name],
                handoffs=[Handoff("billing", tool=False), Handoff("support", "For help.")],
            ),
            Agent("support", instructions="Help.", handoffs=[Handoff("billing", "For money.")]),
            Agent("billing", instructions="Count."),
        ]
    )
    whole = parsed(to_svg(graph))
    kinds = {group.attrib["data-node"]: group.attrib["class"] for group in groups(whole, "data-node")}
    assert {name: kind for name, kind in kinds.items() if not name.startswith("__")} == {
        "intake": "agent",
        "intake_tools": "tools",
        "support": "agent",
        "support_tools": "tools",
        "billing": "agent",
    }
    assert {edge for edge in edges_in(whole) if edge[2]} == {
        ("intake_tools", "billing", "record_name"),
        ("intake", "support", "transfer_to_support"),
        ("support", "billing", "transfer_to_billing"),
    }
    handoffs = edges_in(parsed(to_svg(graph, agents_only=True)))
    assert {edge for edge in handoffs if edge[0] != START} == {
        ("intake", "billing", "record_name"),
        ("intake", "support", "transfer_to_support"),
        ("support", "billing", "transfer_to_billing"),
    }


def test_a_line_begins_at_the_agent_for_a_transfer_and_at_the_tools_for_what_they_return() -> None:
    root = parsed(to_svg(MIXED))
    rects = node_rects(root)
    checked = 0
    for edge in groups(root, "data-label"):
        source = edge.attrib["data-source"]
        if "handoff" in edge.attrib["class"].split():
            x, y = points_of(line_of(edge))[0]
            at = rects[source]
            assert at.left <= x <= at.right
            assert min(abs(y - at.top), abs(y - at.bottom)) < 0.1
            assert source.endswith("_tools") != edge.attrib["data-label"].startswith("transfer_to_")
            checked += 1
    assert checked == 7


def test_an_agent_that_leads_to_a_place_by_a_transfer_and_by_a_tool_has_a_line_for_each() -> None:
    @function_tool(handoffs=["lookup", "b"])
    async def find() -> str:
        """Find."""
        return "found"

    a = Agent("a", instructions="A.", tools=[find], handoffs=["lookup", "b"])
    graph = create_voice_graph([a, Agent("b", instructions="B.")])
    graph.add_node("lookup", lambda state: {})
    graph.add_edge("lookup", "b")
    expected = {
        ("a", "lookup", "transfer_to_lookup"),
        ("a_tools", "lookup", "find"),
        ("a", "b", "transfer_to_b"),
        ("a_tools", "b", "find"),
    }
    root = parsed(to_svg(graph))
    assert {edge for edge in edges_in(root) if edge[2]} == expected
    kinds = {edge.attrib["class"] for edge in groups(root, "data-label") if edge.attrib["data-label"]}
    assert kinds == {"edge handoff"}, "to a custom node too"
    merged = edges_in(parsed(to_svg(graph, agents_only=True)))
    assert {edge for edge in merged if edge[2]} == {
        ("a", "lookup", "transfer_to_lookup, find"),
        ("a", "b", "transfer_to_b, find"),
    }


def test_odd_names_are_escaped_and_the_document_stays_valid() -> None:
    odd = 'a<b & "c"</svg>'
    graph = voice_graph({odd: {"ünïcode 客服": "x<y>&\x07"}, "ünïcode 客服": {odd: "back"}}, odd)
    root = parsed(to_svg(graph))
    assert {odd, f"{odd}_tools", "ünïcode 客服"} <= set(texts(root))
    assert "x<y>&\N{REPLACEMENT CHARACTER}" in texts(root)


def test_drawing_touches_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for draw in (to_svg, to_mermaid, to_ascii):
        assert "triage" in draw(MESH)


def test_a_compiled_graph_and_its_builder_are_drawn_alike() -> None:
    assert to_svg(MESH) == to_svg(MESH.compile())


@pytest.mark.parametrize("draw", [to_svg, to_mermaid, to_ascii])
def test_what_is_no_graph_or_not_in_it_is_refused_with_the_way_out(draw: Any) -> None:
    with pytest.raises(BuildError, match="can't draw a dict: pass a LangGraph StateGraph"):
        draw({})
    with pytest.raises(BuildError, match="doesn't compile"):
        draw(StateGraph(_State))
    with pytest.raises(BuildError, match=r"'bill' is not in the graph; it has 'triage'"):
        draw(MESH, active="bill")


# the text forms


@every_graph
def test_mermaid_has_every_edge_with_its_label(graph: StateGraph[Any, Any, Any, Any]) -> None:
    drawn = to_mermaid(graph)
    names = dict(re.findall(r'^    (n\d+)[(\[]+"(.*?)"', drawn, re.MULTILINE))
    held = Counter(
        (edge.source.strip("_"), edge.target.strip("_"), str(edge.data or ""))
        for edge in graph.compile().get_graph().edges
    )
    found = re.findall(r'^    (n\d+) -\.?->(?:\|"(.*)"\|)? (n\d+)$', drawn, re.MULTILINE)
    assert Counter((names[source], names[target], label) for source, label, target in found) == held


def test_mermaid_gives_names_that_would_break_it_as_entities() -> None:
    drawn = to_mermaid(voice_graph({'end "x"]': {"b c": "say #1; --> n0"}, "b c": {}}))
    assert '("end #34;x#34;#93;")' in drawn
    assert '|"say #35;1#59; --#62; n0"|' in drawn


def test_mermaid_marks_the_active_agent() -> None:
    drawn = to_mermaid(MESH, active="billing")
    (node,) = re.findall(r'^    (n\d+)\("billing"\)$', drawn, re.MULTILINE)
    assert f"class {node} activeNode" in drawn


@every_graph
def test_ascii_has_a_line_for_every_edge(graph: StateGraph[Any, Any, Any, Any]) -> None:
    drawn = to_ascii(graph)
    arrows = [line for line in drawn.splitlines() if "-->" in line]
    edges = graph.compile().get_graph().edges
    assert len(arrows) == len(edges)
    for edge in edges:
        target = "(end)" if edge.target == END else edge.target
        way = (
            rf"- {re.escape(str(edge.data))} --> {re.escape(target)}( |$)"
            if edge.data
            else rf"--> {re.escape(target)}( |$)"
        )
        assert [line for line in arrows if re.search(way, line)]
    assert drawn.isascii()


def test_ascii_of_two_agents_reads_as_a_list_of_their_ways_out() -> None:
    assert to_ascii(TWO, agents_only=True, active="intake") == (
        "(start)\n"
        "  `--> intake * (a new call)\n"
        "\n"
        "+----------+\n"
        "| intake * |\n"
        "+----------+\n"
        "  `-- record_name, record_age --> customer_service\n"
        "\n"
        "+------------------+\n"
        "| customer_service |\n"
        "+------------------+\n"
        "  `-- back --> intake *\n"
    )


# the layout, on graphs nobody thought of


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[Box], list[Link]]:
    count = draw(st.integers(1, 9))
    boxes = []
    for index in range(count):
        width, height = draw(st.integers(20, 300)), draw(st.integers(10, 80))
        aside = width / 4 if draw(st.booleans()) else 0.0
        boxes.append(Box(str(index), width, height, Port(-aside, 10, height - 4), Port(aside, 20, height - 8)))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] != pair[1])
    chosen = draw(st.lists(pairs, unique=True, max_size=16)) if count > 1 else []
    links = [
        Link(str(source), str(target), *draw(st.sampled_from([(0.0, 0.0), (60.0, 20.0), (190.0, 36.0)])))
        for source, target in chosen
    ]
    return boxes, links


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_any_graph_is_laid_out_without_overlap(layout: tuple[list[Box], list[Link]]) -> None:
    boxes, links = layout
    placed = arrange(boxes, links)
    sizes = {box.key: (box.width, box.height) for box in boxes}
    nodes = {key: around(center, *sizes[key]) for key, center in placed.centers.items()}
    labels = [
        around(route.label, link.label_width, link.label_height) if route.label else None
        for link, route in zip(links, placed.routes, strict=True)
    ]
    assert [label is not None for label in labels] == [link.label_width > 0 for link in links]
    assert overlapping([*nodes.values(), *(label for label in labels if label)]) == []
    for index, (link, route) in enumerate(zip(links, placed.routes, strict=True)):
        others = [rect for key, rect in nodes.items() if key not in (link.source, link.target)]
        others += [label for number, label in enumerate(labels) if label and number != index]
        for x, y in bent(route.points):
            assert not any(r.left < x < r.right and r.top < y < r.bottom for r in others)


def around(center: tuple[float, float], width: float, height: float) -> Rect:
    return Rect(center[0] - width / 2, center[1] - height / 2, center[0] + width / 2, center[1] + height / 2)


def bent(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = [points[0]]
    for index, (one, two) in enumerate(pairwise(points)):
        middle = (one[1] + two[1]) / 2
        controls = [one, two] if index % 2 == 0 else [one, (one[0], middle), (two[0], middle), two]
        found += [bezier(controls, step / 10) for step in range(1, 11)]
    return found
