"""The colors of a call, which are the same on the terminal, in the picture, and in the drawing of its graph."""

from collections.abc import Sequence

from graph_voice.palette import GREY, hues
from graph_voice_livekit.inprocess.entries import CALLER

__all__ = ["STAGES", "colors"]

STAGES = {
    "silence": "#dfe3e8",
    "speech to text": "#8fb8de",
    "end of turn": "#a9b0b9",
    "earlier reply": "#c9a8d8",
    "tools": "#f3d9a4",
    "model": "#e2a33b",
    "text to speech": "#7bb661",
}
"""What the time between the caller's last word and the answer was spent on."""


def colors(agents: Sequence[str], *, dark: bool = False) -> dict[str, str]:
    """A color for the caller and for each agent, by its place.

    Args:
        agents: in the order of the graph; those that the graph does not have, behind it.
        dark: on a dark ground, such as most terminals'.
    """
    of = {CALLER: GREY, **hues(agents)}
    return {name: hue.bright if dark else hue.line for name, hue in of.items()}
