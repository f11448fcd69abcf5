"""A turn as the page shows it, of a call that is only told: a stored one, or one that goes on elsewhere."""

import copy
import time
from dataclasses import dataclass, field
from typing import Any

from graph_voice_livekit.page.protocol import ToPage

__all__ = ["ToldTurn"]


@dataclass
class ToldTurn:
    """One turn as far as it has been told.

    Args:
        source: where it comes from; its id begins with it.
        number: counted from 1.
        user: what the caller said. None: the agent began.
        began: seconds, on the clock of its call.
    """

    source: str
    number: int
    user: str | None = None
    began: float = field(default_factory=time.time)
    steps: list[dict[str, Any]] = field(default_factory=list)
    handoffs: list[dict[str, Any]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)

    def view(self) -> ToPage:
        """As `TurnSeen.view` has it, as it is now. What nobody tells of is empty."""
        shown = {
            "type": "turn",
            "id": f"{self.source}-{self.number}",
            "number": self.number,
            "state": "closed",
            "began": self.began,
            "user": self.user,
            "interrupted": False,
            "failed": [],
            "steps": self.steps,
            "handoffs": self.handoffs,
            "prompts": [],
            "written": [],
            "spans": self.spans,
        }
        return copy.deepcopy(shown)

    def span(self, kind: str, label: str, start: float, end: float) -> None:
        """Where time went, in seconds. Nothing if it took none."""
        if end > start:
            self.spans.append({"kind": kind, "label": label, "start": start, "end": end})
