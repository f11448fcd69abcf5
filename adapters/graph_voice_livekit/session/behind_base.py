"""What stands in place of LiveKit's `Agent` behind the classes from which a graph's agent inherits."""

from typing import Any

from livekit.agents import Agent, AgentTask

from graph_voice_livekit.convert.voices import ARGUMENTS
from graph_voice_livekit.session.handoff import LiveHandoff

__all__ = ["BehindBase", "TaskAgent"]


class BehindBase(Agent):
    """Stands where a class of `bases`, or LiveKit's `AgentTask`, expects `Agent`, and makes it as the graph says."""

    _arguments: dict[str, Any]

    def __init__(self, **theirs: Any) -> None:
        kept = {name: value for name, value in theirs.items() if name in ARGUMENTS}
        Agent.__init__(self, **{**kept, **self._arguments})


class TaskAgent(AgentTask[Any], BehindBase):
    """What makes the LiveKit agent of a graph's task LiveKit's own task as well: the mirror of the tool call that waits
    awaits it."""

    handoff: LiveHandoff | None
    """The handoff by which it takes over, until it has entered."""
    gives_back: LiveHandoff | None = None
    """The handoff by which it has given the floor back; None if it has not."""

    def __init__(self, **theirs: Any) -> None:
        kept = {name: value for name, value in theirs.items() if name in ARGUMENTS}
        self._arguments = {**kept, **self._arguments}
        AgentTask.__init__(self, instructions="")
