"""The colours of a call: the same for the terminal and the picture."""

from collections.abc import Sequence

from graph_voice_livekit.inprocess.entries import CALLER

__all__ = ["STAGES", "colours"]

_CALLER = "#5b6472"
_AGENTS = ("#2563a8", "#c2571a", "#2e7d4f", "#8a4fb0", "#b0304f", "#0f8a8a", "#8f6b00", "#4c55c9")

STAGES = {
    "silence": "#dfe3e8",
    "speech to text": "#8fb8de",
    "end of turn": "#a9b0b9",
    "model": "#e2a33b",
    "text to speech": "#7bb661",
}
"""Where the time between the caller and the answer went."""


def colours(agents: Sequence[str]) -> dict[str, str]:
    """A colour for the caller and for each agent, in order of appearance."""
    named = {agent: _AGENTS[index % len(_AGENTS)] for index, agent in enumerate(agents)}
    return {CALLER: _CALLER, **named}
