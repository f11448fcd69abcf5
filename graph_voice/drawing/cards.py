"""The boxes of a drawing: an agent and its tools on one card, the marks around it, and their sizes.

Text widths are generous estimates, because the reader's fonts are not known. Lengths are in pixels.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graph_voice.drawing.boxes import Box, Port
from graph_voice.drawing.picture import Edge, EdgeKind, NodeKind, Picture

NAME_SIZE = 15.0
TOOLS_SIZE = 11.5
LABEL_SIZE = 11.5
LABEL_LINE = 16.0
LABEL_PADDING = 7.0

AGENT_HEIGHT = 42.0
TOOLS_HEIGHT = 26.0
DOT = 14.0
RING = 14.0
_CARD_PADDING = 12.0
_TOOLS_GAP = 38.0
_STUB = 30.0
"""From a box to the dot or ring beside it."""
_LOOP = 26.0
LOOP_GAP = 4.0


@dataclass(frozen=True)
class Rect:
    """A rectangle, given by its center."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    def moved(self, x: float, y: float) -> "Rect":
        return Rect(self.x + x, self.y + y, self.width, self.height)


@dataclass(frozen=True)
class Stub:
    """An edge from START or to END, drawn as a mark beside the box, not as a line across the drawing."""

    edge: Edge
    mark: tuple[float, float]
    """The center of the dot or ring."""
    touches: tuple[float, float]
    """Where it meets the box."""


@dataclass(frozen=True)
class Loop:
    """An edge from a node to itself, drawn on the right side of its card."""

    edge: Edge
    side: float
    reach: float
    """How far out it goes; its label begins there."""
    y: float


@dataclass(frozen=True)
class Card:
    """One node, or an agent with its tools, around (0, 0)."""

    name: str
    nodes: tuple[tuple[str, Rect], ...]
    frame: Rect | None
    stubs: tuple[Stub, ...]
    inner: tuple[Edge, ...]
    """The edges between the agent and its tools."""
    loops: tuple["Loop", ...]
    box: Box

    def port(self, name: str) -> Port:
        """Where the edges of one of its nodes leave the card."""
        return self.box.incoming if name == self.name else self.box.outgoing


def text_width(text: str, size: float, *, monospace: bool = False) -> float:
    """The approximate width of a line of text."""
    return sum(_advance(char, monospace) for char in text) * size


def _advance(char: str, monospace: bool) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if monospace:
        return 0.62
    if char in "iljtfI.,:;!|'()[] ":
        return 0.42
    return 0.95 if char in "mwMW@%" else 0.66


def label_size(labels: Sequence[str]) -> tuple[float, float]:
    """Width and height of an edge's label, one name per line; zero without a label."""
    if not labels:
        return 0.0, 0.0
    widest = max(text_width(label, LABEL_SIZE, monospace=True) for label in labels)
    return widest + 2 * LABEL_PADDING, len(labels) * LABEL_LINE + 4.0


def is_stub(edge: Edge, start: str | None) -> bool:
    """Whether the edge is drawn as a mark beside its node.

    A turn may end with any agent, and begin with any active agent: lines for all of these would hide the
    handoffs. So END is repeated beside each node, and START beside all nodes except the one that begins a new call.
    """
    if edge.kind is EdgeKind.END:
        return set(edge.labels) <= {"end", "__end__"}
    return edge.kind is EdgeKind.START and start is not None and edge.target != start


def cards(shown: Picture) -> list[Card]:
    """The cards to be placed: every node that an edge of the drawing needs, with tools nodes on their agents' cards."""
    lines = [edge for edge in shown.edges if not is_stub(edge, shown.start)]
    touched = {edge.source for edge in lines} | {edge.target for edge in lines}
    made = []
    for node in shown.nodes.values():
        if node.kind is NodeKind.TOOLS:
            continue
        if node.kind in (NodeKind.START, NodeKind.END) and node.name not in touched:
            continue
        made.append(_mark(node.name) if node.kind in (NodeKind.START, NodeKind.END) else _card(node.name, shown))
    return made


def _mark(name: str) -> Card:
    rect = Rect(0, 0, 2 * DOT - 8, 2 * DOT - 8)
    port = Port(0, 1, rect.height)
    return Card(name, ((name, rect),), None, (), (), (), Box(name, rect.width, rect.height, port, port))


def _card(name: str, shown: Picture) -> Card:
    tools = shown.tools_of(name)
    own = [edge for edge in shown.edges if name in (edge.source, edge.target) or edge.source == tools]
    stubs = [edge for edge in own if is_stub(edge, shown.start)]
    left = [edge for edge in stubs if name in (edge.source, edge.target)]
    right = [edge for edge in stubs if edge.source == tools and tools is not None]

    width = max(84.0, text_width(name, NAME_SIZE) + 32.0)
    agent = Rect(0, 0, width, AGENT_HEIGHT)
    nodes = [(name, agent)]
    frame = None
    port_in = port_out = Port(0, width - 16, AGENT_HEIGHT)
    if tools is not None:
        lines = shown.nodes[tools].lines
        tools_width = max(text_width(line, TOOLS_SIZE, monospace=True) for line in lines) + 24.0
        tools_height = TOOLS_HEIGHT + (len(lines) - 1) * LABEL_LINE
        pill = Rect(agent.right + _TOOLS_GAP + tools_width / 2, 0, tools_width, tools_height)
        nodes.append((tools, pill))
        frame = _around((agent, pill), _CARD_PADDING)
        port_out = Port(pill.x, pill.width - 20, tools_height)

    body = frame or agent
    marks_left = _marks(left, agent.left, body.left - _STUB)
    marks_right = _marks(right, nodes[-1][1].right, body.right + _STUB)
    leftmost = body.left - (_STUB + RING if left else 0)
    rightmost = body.right + (_STUB + RING if right else 0)
    loops = _loops([edge for edge in own if edge.source == edge.target], body.right, rightmost - body.right)
    rightmost = max(
        [rightmost, *(loop.side + loop.reach + LOOP_GAP + label_size(loop.edge.labels)[0] for loop in loops)]
    )
    # The frame, not the marks, is aligned with other boxes: so the same space is kept on both sides.
    half = max(body.x - leftmost, rightmost - body.x)
    shift = -body.x

    def port(at: Port) -> Port:
        return Port(at.center + shift, at.width, at.height)

    height = max([body.height, *(2 * abs(loop.y) + label_size(loop.edge.labels)[1] for loop in loops)])
    return Card(
        name,
        tuple((key, rect.moved(shift, 0)) for key, rect in nodes),
        frame.moved(shift, 0) if frame else None,
        tuple(
            Stub(stub.edge, (stub.mark[0] + shift, stub.mark[1]), (stub.touches[0] + shift, stub.touches[1]))
            for stub in (*marks_left, *marks_right)
        ),
        tuple(edge for edge in own if {edge.source, edge.target} == {name, tools}),
        tuple(replace(loop, side=loop.side + shift) for loop in loops),
        Box(name, 2 * half, height, port(port_in), port(port_out)),
    )


def _marks(edges: Sequence[Edge], side: float, at: float) -> list[Stub]:
    """Dots and rings one above the other, beside a box whose side is at `side`."""
    gap = 18.0
    found = []
    for index, edge in enumerate(sorted(edges, key=lambda edge: edge.kind is EdgeKind.END)):
        y = (index - (len(edges) - 1) / 2) * gap
        found.append(Stub(edge, (at, y), (side, y)))
    return found


def _loops(edges: Sequence[Edge], side: float, beyond: float) -> list[Loop]:
    gap = max([28.0, *(label_size(edge.labels)[1] + 6 for edge in edges)])
    return [Loop(edge, side, beyond + _LOOP, (index - (len(edges) - 1) / 2) * gap) for index, edge in enumerate(edges)]


def _around(rects: Iterable[Rect], padding: float) -> Rect:
    rects = list(rects)
    left, right = min(r.left for r in rects) - padding, max(r.right for r in rects) + padding
    top, bottom = min(r.top for r in rects) - padding, max(r.bottom for r in rects) + padding
    return Rect((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
