"""The SVG shapes that a drawing is made of. Lengths are in pixels."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.etree import ElementTree as ET

from graph_voice.drawing.cards import Rect

MONOSPACE = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
_HEAD = 8.0
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def clean(text: str) -> str:
    """The text without characters that XML does not allow."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def group(parent: ET.Element, kind: str, title: str | None = None, data: Mapping[str, str] | None = None) -> ET.Element:
    """A group with its meaning: a class, `data-` attributes, a title that shows on hover."""
    attributes = {f"data-{key}": clean(value) for key, value in (data or {}).items()}
    made = ET.SubElement(parent, "g", {"class": kind, **attributes})
    if title is not None:
        ET.SubElement(made, "title").text = clean(title)
    return made


def rect(parent: ET.Element, at: Rect, radius: float, style: Mapping[str, str]) -> None:
    """A box with round corners."""
    place = {"x": at.left, "y": at.top, "width": at.width, "height": at.height, "rx": radius}
    ET.SubElement(parent, "rect", {**{key: number(value) for key, value in place.items()}, **style})


def text(
    parent: ET.Element,
    words: str,
    x: float,
    y: float,
    size: float,
    color: str,
    *,
    weight: str = "400",
    mono: bool = False,
) -> None:
    """One line of text around a point."""
    attributes = {
        "x": number(x),
        "y": number(y + size * 0.35),  # not every renderer knows dominant-baseline
        "text-anchor": "middle",
        "font-size": number(size),
        "font-weight": weight,
        "fill": color,
    }
    if mono:
        attributes["font-family"] = MONOSPACE
    ET.SubElement(parent, "text", attributes).text = clean(words)


def dot(parent: ET.Element, x: float, y: float, radius: float, color: str) -> None:
    """START: a filled circle."""
    ET.SubElement(parent, "circle", {"cx": number(x), "cy": number(y), "r": number(radius), "fill": color})


def ring(parent: ET.Element, x: float, y: float, radius: float, color: str) -> None:
    """END: a circle with a smaller one in it."""
    outer = {
        "cx": number(x),
        "cy": number(y),
        "r": number(radius),
        "fill": "#ffffff",
        "stroke": color,
        "stroke-width": "1.5",
    }
    ET.SubElement(parent, "circle", outer)
    dot(parent, x, y, radius * 0.5, color)


def arrow(parent: ET.Element, points: Sequence[Point], style: Mapping[str, str]) -> None:
    """A line along pairs of points, bent between the pairs, with a head at its end.

    The pieces inside the pairs are straight and vertical; a single pair may have any direction.
    """
    end = _head(parent, points[-2], points[-1], style)
    ET.SubElement(parent, "path", {"d": _curve([*points[:-1], end]), "fill": "none", **style})


def bow(parent: ET.Element, start: Point, end: Point, out: float, style: Mapping[str, str]) -> None:
    """An arrow from the side of a box out to the right, as far as `out`, and back."""
    stop = _head(parent, (end[0] + 1, end[1]), end, style)
    # A cubic goes three quarters of the way to its control points.
    bend = number(start[0] + (out - start[0]) / 0.75)
    path = f"M {number(start[0])} {number(start[1])} C {bend} {number(start[1])} {bend} {number(end[1])} "
    ET.SubElement(parent, "path", {"d": f"{path}{number(stop[0])} {number(stop[1])}", "fill": "none", **style})


def _head(parent: ET.Element, before: Point, tip: Point, style: Mapping[str, str]) -> Point:
    """Draw the head of an arrow. Returns where its line has to stop."""
    (before_x, before_y), (x, y) = before, tip
    length = max(((x - before_x) ** 2 + (y - before_y) ** 2) ** 0.5, 0.001)
    step = ((x - before_x) / length, (y - before_y) / length)
    side = (-step[1] * _HEAD * 0.42, step[0] * _HEAD * 0.42)
    base = (x - step[0] * _HEAD, y - step[1] * _HEAD)
    corners = [(x, y), (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])]
    head = {
        "d": "M " + " L ".join(f"{number(a)} {number(b)}" for a, b in corners) + " Z",
        "fill": style["stroke"],
    }
    if "stroke-opacity" in style:
        head["fill-opacity"] = style["stroke-opacity"]
    ET.SubElement(parent, "path", head)
    return x - step[0] * _HEAD * 0.8, y - step[1] * _HEAD * 0.8


def _curve(points: Sequence[Point]) -> str:
    pieces = [f"M {number(points[0][0])} {number(points[0][1])}"]
    for index, (one, two) in enumerate(pairwise(points)):
        to = f"{number(two[0])} {number(two[1])}"
        if index % 2 == 0 or one[0] == two[0]:
            pieces.append(f"L {to}")
        else:
            middle = number((one[1] + two[1]) / 2)
            pieces.append(f"C {number(one[0])} {middle} {number(two[0])} {middle} {to}")
    return " ".join(pieces)
