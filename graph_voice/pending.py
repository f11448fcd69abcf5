"""A run that waits for an answer: LangGraph's `interrupt()`, kept until the caller has spoken."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from langgraph.types import Command, Interrupt

from graph_voice.fork import ForkSaver
from graph_voice.memory import Call

__all__ = ["Pending"]


@dataclass(frozen=True)
class Pending:
    """What an interrupted run left: its questions, its checkpoints, and the calls of the batch that asks."""

    interrupts: tuple[Interrupt, ...]
    """The first one is the one that was asked; the others come after its answer."""
    saver: ForkSaver
    calls: Mapping[str, Call]
    asking: str | None
    """The id of the message whose calls wait; None when no call does."""

    def resume(self, text: str) -> Command[Any]:
        """The input that gives this answer to whoever asked, and to nobody else."""
        return Command(resume={self.interrupts[0].id: text})

    def again(self) -> "Pending":
        """A copy for one more run, which may be discarded."""
        return replace(self, calls={call_id: replace(call) for call_id, call in self.calls.items()})
