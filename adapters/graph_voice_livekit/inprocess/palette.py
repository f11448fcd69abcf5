"""The colors of a call, which are the same on the terminal and in the picture."""

from collections.abc import Sequence

from graph_voice_livekit.inprocess.entries import CALLER

__all__ = ["STAGES", "colors"]

_CALLER = "#5b6472"
_AGENTS = ("#2563a8", "#c2571a", "#2e7d4f", "#8a4fb0", "#b0304f", "#0f8a8a", "#8f6b00", "#4c55c9")

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


def colors(agents: Sequence[str]) -> dict[str, str]:
    """A color for the caller and for each agent, in order of appearance."""
    named = {agent: _AGENTS[index % len(_AGENTS)] for index, agent in enumerate(agents)}
    return {CALLER: _CALLER, **named}
