"""One color per agent, the same in the graph's drawing, the timeline of a call, the terminal and the page."""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["GREY", "HUES", "Hue", "hues"]


class Hue(NamedTuple):
    """The colors of an agent, as #rrggbb."""

    line: str
    """Lines and text on a light ground."""
    card: str
    box: str
    bright: str
    """Lines and text on a dark ground."""


HUES = (
    Hue("#4338ca", "#f3f4ff", "#e3e5ff", "#818cf8"),
    Hue("#0f766e", "#eefaf7", "#d3f2ea", "#2dd4bf"),
    Hue("#b4540a", "#fff7ec", "#fde8cb", "#fb923c"),
    Hue("#be1850", "#fff2f6", "#fcdde7", "#fb7185"),
    Hue("#0369a1", "#eff8fe", "#d7edfb", "#38bdf8"),
    Hue("#7e22ce", "#f9f3ff", "#eeddfd", "#c084fc"),
    Hue("#3f7d12", "#f4faec", "#e1f1cd", "#84cc16"),
    Hue("#86198f", "#fdf2fe", "#f8dcfb", "#e879f9"),
)
GREY = Hue("#475467", "#f8fafc", "#ffffff", "#a9b0b9")
"""What belongs to no agent."""


def hues(agents: Iterable[str]) -> dict[str, Hue]:
    """The color of each agent, by its place.

    Args:
        agents: in the order of the graph (`graph_voice.drawing.agents_of`), which is the same in every call.
    """
    return {name: HUES[place % len(HUES)] for place, name in enumerate(dict.fromkeys(agents))}
