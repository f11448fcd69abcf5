"""A drawing as SVG, with its own light background, so that it can be read on a dark page too."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from langgraph.graph import START

from graph_voice.drawing import cards, shapes
from graph_voice.drawing.boxes import Link, Route
from graph_voice.drawing.cards import Card, Loop, Rect, Stub
from graph_voice.drawing.layers import arrange
from graph_voice.drawing.picture import Edge, EdgeKind, NodeKind, Picture, picture
from graph_voice.palette import GREY, Hue, hues

_SANS = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SHEET = "#fdfdfe"
_INK = "#1f2937"
_FAINT = "#8d98a9"
_MARGIN = 30.0
_MARK = 6.0
_GROUP_GAP = 7.0
"""Between the steps of a group and the box around them."""


def to_svg(graph: Any, *, agents_only: bool = False, active: str | None = None, tools: bool = False) -> str:
    """Draw a graph as a complete SVG document.

    An agent and its tools are on one card. A handoff is in the color of the agent that hands off, labeled with
    the tools that make it. It leaves from the agent itself when it is a declared transfer, and from the tools when
    they return it. A dot is START and a ring is END; they are repeated beside the nodes. Each node's group has
    `data-node`, each edge's has `data-source`, `data-target` and `data-label`. The steps of a group of tasks are in a
    dashed box with the group's name, `data-group`; there are several where other nodes stand between them.

    Args:
        graph: a LangGraph `StateGraph`, or a compiled graph.
        agents_only: only agents and handoffs, from agent to agent.
        active: the active agent, filled with its color.
        tools: each tool by its name, in place of the tools node's.

    Raises:
        BuildError: `graph` is not a graph or doesn't compile, or it has no node `active`.
    """
    shown = picture(graph, agents_only=agents_only, active=active, tools=tools)
    return _Sheet(shown, active).document()


class _Sheet:
    """One drawing while it is made. From bottom to top: cards, lines, labels, and the boxes on the cards."""

    def __init__(self, shown: Picture, active: str | None) -> None:
        self.shown = shown
        self.active = active
        self.hues = hues(shown.named(NodeKind.AGENT))
        self.groups, self.frames, self.lines, self.labels, self.boxes = (ET.Element("g") for _ in range(5))

    def document(self) -> str:
        made = cards.cards(self.shown)
        card_of = {name: card for card in made for name, _ in card.nodes}
        edges = [
            edge
            for edge in self.shown.edges
            if not cards.is_stub(edge, self.shown.start) and card_of[edge.source] is not card_of[edge.target]
        ]
        links = [
            Link(
                card_of[edge.source].name,
                card_of[edge.target].name,
                *cards.label_size(edge.labels),
                card_of[edge.source].port(edge.source),
            )
            for edge in edges
        ]
        # START is on top, or, where it isn't drawn, the agent that begins.
        made.sort(key=lambda card: (card.name != START, card.name != self.shown.start))
        placed = arrange([card.box for card in made], links)
        for group, steps in self.shown.groups.items():
            for inside in side_by_side(made, placed.centers, steps):
                self._group(group, inside)
        for card in made:
            self._card(card, *placed.centers[card.name])
        for edge, route in zip(edges, placed.routes, strict=True):
            self._line(edge, route)
        return self._written(placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN)

    def _written(self, width: float, height: float) -> str:
        size = {"width": shapes.number(width), "height": shapes.number(height)}
        root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {size['width']} {size['height']}",
                **size,
                "role": "img",
                "font-family": _SANS,
            },
        )
        agents = self.shown.named(NodeKind.AGENT)
        ET.SubElement(root, "title").text = shapes.clean("Graph of " + (", ".join(agents) or "no agents"))
        sheet = Rect(width / 2, height / 2, width - 1, height - 1)
        shapes.rect(root, sheet, 14, {"fill": _SHEET, "stroke": "#e4e7ec", "class": "sheet"})
        moved = ET.SubElement(root, "g", {"transform": f"translate({_MARGIN:g} {_MARGIN:g})"})
        moved.extend(([self.groups] if len(self.groups) else []) + [self.frames, self.lines, self.labels, self.boxes])
        ET.indent(root)
        return ET.tostring(root, encoding="unicode") + "\n"

    def _group(self, name: str, inside: Sequence[Rect]) -> None:
        """The box around steps of a group that stand side by side."""
        left, right = min(rect.left for rect in inside), max(rect.right for rect in inside)
        top, bottom = min(rect.top for rect in inside), max(rect.bottom for rect in inside)
        width, height = right - left + 2 * _GROUP_GAP, bottom - top + 2 * _GROUP_GAP
        box = Rect((left + right) / 2, (top + bottom) / 2, width, height)
        made = shapes.group(self.groups, "group", f"{name}: several tasks in order", {"group": name})
        style = {"fill": "#f2f4f7", "fill-opacity": "0.6", "stroke": _FAINT, "stroke-dasharray": "5 4"}
        shapes.rect(made, box, 18, style)
        x = box.left + 12 + cards.text_width(name, cards.LABEL_SIZE) / 2
        shapes.text(made, name, x, box.bottom + cards.LABEL_SIZE * 0.8, cards.LABEL_SIZE, GREY[0], weight="600")

    def _card(self, card: Card, x: float, y: float) -> None:
        hue = self.hues.get(card.name, GREY)
        if card.frame is not None:
            style = {"fill": hue.card, "stroke": hue.line, "stroke-opacity": "0.28", "class": "card"}
            shapes.rect(self.frames, card.frame.moved(x, y), 16, style)
        rects = {name: rect.moved(x, y) for name, rect in card.nodes}
        for name, rect in rects.items():
            self._node(name, rect, hue)
        for edge in card.inner:
            self._inner(edge, rects, hue)
        for stub in card.stubs:
            self._stub(stub, x, y)
        for loop in card.loops:
            self._loop(loop, x, y, hue)

    def _node(self, name: str, rect: Rect, hue: Hue) -> None:
        kind = self.shown.nodes[name].kind
        active = name == self.active
        made = shapes.group(self.boxes, f"{kind} active" if active else kind, _told(name, kind), {"node": name})
        if active:
            halo = Rect(rect.x, rect.y, rect.width + 9, rect.height + 9)
            style = {"fill": "none", "stroke": hue.line, "stroke-opacity": "0.35", "stroke-width": "4"}
            shapes.rect(self.frames, halo, 15, style)
        if kind is NodeKind.START:
            shapes.dot(made, rect.x, rect.y, rect.width / 2, _INK)
        elif kind is NodeKind.END:
            shapes.ring(made, rect.x, rect.y, rect.width / 2, _INK)
        elif kind is NodeKind.TOOLS:
            fill, ink = (hue.line, "#ffffff") if active else ("#ffffff", hue.line)
            style = {"fill": fill, "stroke": hue.line, "stroke-opacity": "0.5", "stroke-dasharray": "3 2.5"}
            shapes.rect(made, rect, cards.TOOLS_HEIGHT / 2, style)
            lines = self.shown.nodes[name].lines
            for index, words in enumerate(lines):
                y = rect.y + (index - (len(lines) - 1) / 2) * cards.LABEL_LINE
                shapes.text(made, words, rect.x, y, cards.TOOLS_SIZE, ink, mono=True)
        else:
            fill, ink = (hue.line, "#ffffff") if active else (hue.box, _INK)
            style = {"fill": fill, "stroke": hue.line, "stroke-width": "1.6"}
            shapes.rect(made, rect, 11 if kind is NodeKind.AGENT else 4, style)
            shapes.text(made, name, rect.x, rect.y, cards.NAME_SIZE, ink, weight="600")

    def _edge(self, edge: Edge) -> ET.Element:
        data = {"source": edge.source, "target": edge.target, "label": edge.label}
        way = f"{edge.source} \N{RIGHTWARDS ARROW} {edge.target}"
        return shapes.group(self.lines, f"edge {edge.kind}", f"{way}: {edge.label}" if edge.labels else way, data)

    def _line(self, edge: Edge, route: Route) -> None:
        owner = self.shown.nodes[edge.source].owner or edge.source
        if edge.kind is EdgeKind.START:
            known = edge.target == self.shown.start
            style = {"stroke": _INK if known else _FAINT, "stroke-width": "1.6" if known else "1.1"}
            if not known:
                style["stroke-dasharray"] = "2 4"
            color = style["stroke"]
        else:
            color = self.hues.get(owner, GREY).line
            style = {"stroke": color, "stroke-width": "1.6"}
            if edge.kind is not EdgeKind.HANDOFF and edge.conditional:
                style["stroke-dasharray"] = "5 4"
        shapes.arrow(self._edge(edge), route.points, {**style, "stroke-linecap": "round"})
        if route.label is not None:
            self._label(edge, *route.label, color)

    def _label(self, edge: Edge, x: float, y: float, color: str) -> None:
        made = shapes.group(self.labels, "label", data={"source": edge.source, "target": edge.target})
        width, height = cards.label_size(edge.labels)
        style = {"fill": _SHEET, "stroke": color, "stroke-opacity": "0.3"}
        shapes.rect(made, Rect(x, y, width, height), 8, style)
        for index, words in enumerate(edge.labels):
            line = y + (index - (len(edge.labels) - 1) / 2) * cards.LABEL_LINE
            shapes.text(made, words, x, line, cards.LABEL_SIZE, color, mono=True)

    def _inner(self, edge: Edge, rects: dict[str, Rect], hue: Hue) -> None:
        """The edges from an agent to its tools and back, one above the other."""
        source, target = rects[edge.source], rects[edge.target]
        if edge.kind is EdgeKind.CALL:
            points = [(source.right + 1, source.y - 6), (target.left - 1, source.y - 6)]
        else:
            points = [(source.left - 1, source.y + 6), (target.right + 1, source.y + 6)]
        shapes.arrow(self._edge(edge), points, {"stroke": hue.line, "stroke-opacity": "0.75", "stroke-width": "1.3"})

    def _stub(self, stub: Stub, x: float, y: float) -> None:
        mark, touches = (stub.mark[0] + x, stub.mark[1] + y), (stub.touches[0] + x, stub.touches[1] + y)
        made = self._edge(stub.edge)
        style = {"stroke": _FAINT, "stroke-width": "1.2"}
        away = _MARK if touches[0] > mark[0] else -_MARK
        if stub.edge.kind is EdgeKind.END:
            shapes.arrow(made, [touches, (mark[0] + away, mark[1])], style)
            shapes.ring(made, *mark, _MARK, _FAINT)
        else:
            shapes.arrow(made, [(mark[0] + away, mark[1]), touches], style)
            shapes.dot(made, *mark, _MARK - 2, _FAINT)

    def _loop(self, loop: Loop, x: float, y: float, hue: Hue) -> None:
        y += loop.y
        side, out = x + loop.side, x + loop.side + loop.reach
        made = self._edge(loop.edge)
        shapes.bow(made, (side, y - 9), (side, y + 9), out, {"stroke": hue.line, "stroke-width": "1.6"})
        if loop.edge.labels:
            self._label(loop.edge, out + cards.LOOP_GAP + cards.label_size(loop.edge.labels)[0] / 2, y, hue.line)


def side_by_side(
    made: Sequence[Card], centers: Mapping[str, tuple[float, float]], steps: Sequence[str]
) -> list[list[Rect]]:
    """The places of these steps, row by row: those that have no other card between them together."""
    found: list[list[Rect]] = []
    row: float | None = None
    for card in sorted(made, key=lambda card: (centers[card.name][1], centers[card.name][0])):
        x, y = centers[card.name]
        if card.name not in steps:
            row = None
            continue
        if row != y:
            found.append([])
        row = y
        found[-1].append(Rect(x, y, card.box.width, card.box.height))
    return found


def _told(name: str, kind: NodeKind) -> str:
    if kind is NodeKind.START:
        return "START: a new call begins here"
    if kind is NodeKind.END:
        return "END of a turn"
    return f"{kind} {name}"
