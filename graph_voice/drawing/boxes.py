"""What the layout takes and gives: boxes with ports, links, and where they go. Lengths are in pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Port:
    """The part of a box where edges may begin or end, seen from the centre of the box."""

    centre: float
    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """Something that takes place, with one port for what comes in and one for what goes out."""

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


@dataclass(frozen=True)
class Route:
    """The way of an edge: straight lines inside the layers, to be bent between them."""

    points: tuple[tuple[float, float], ...]
    """Pairs of points: a straight vertical piece each; between the pairs the line bends."""
    label: tuple[float, float] | None
    """The centre of the label."""


@dataclass(frozen=True)
class Arrangement:
    """Where everything is."""

    centres: Mapping[str, tuple[float, float]]
    routes: tuple[Route, ...]
    """One per link, in the links' order."""
    width: float
    height: float


@dataclass
class Slot:
    """A box, or the place that a passing edge (with its label, perhaps) takes in a layer."""

    layer: int
    width: float
    height: float
    box: Box | None = None
    x: float = 0.0
    order: float = 0.0
    near: list[tuple["Slot", float, float, float]] = field(default_factory=list)
    """The slots in the neighbouring layers: (slot, own port, its port, weight)."""
