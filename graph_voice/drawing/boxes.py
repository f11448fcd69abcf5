"""What the layout takes and returns: boxes with ports, links, and where they go. Lengths are in pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Port:
    """The part of a box where edges may begin or end, relative to the center of the box."""

    center: float
    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """A box to be placed, with one port for incoming and one for outgoing edges, unless a link says otherwise."""

    key: str
    width: float
    height: float
    incoming: Port
    outgoing: Port


@dataclass(frozen=True)
class Link:
    """An edge between two different boxes, and the size of its label (0 for none)."""

    source: str
    target: str
    label_width: float = 0.0
    label_height: float = 0.0
    leaves: Port | None = None
    """The port of its source where it begins. None: the box's own for outgoing edges."""

    def port(self, box: Box) -> Port:
        """Where it begins or ends at this box."""
        return (self.leaves or box.outgoing) if box.key == self.source else box.incoming


@dataclass(frozen=True)
class Route:
    """The path of an edge: straight lines inside the layers, which bend between them."""

    points: tuple[tuple[float, float], ...]
    """Pairs of points. Each pair is a straight vertical piece; between the pairs the line bends."""
    label: tuple[float, float] | None
    """The center of the label."""


@dataclass(frozen=True)
class Arrangement:
    """Where everything is."""

    centers: Mapping[str, tuple[float, float]]
    routes: tuple[Route, ...]
    """One per link, in the links' order."""
    width: float
    height: float


@dataclass
class Slot:
    """A box, or the space that a passing edge (and maybe its label) takes in a layer."""

    layer: int
    width: float
    height: float
    box: Box | None = None
    x: float = 0.0
    order: float = 0.0
    near: list[tuple["Slot", float, float, float]] = field(default_factory=list)
    """The slots in the neighboring layers: (slot, own port, its port, weight)."""
