"""A run that waits for an answer: LangGraph's `interrupt()`, kept until the caller has spoken."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from langgraph.types import Command, Interrupt

from graph_voice.storage.run_saver import RunSaver
from graph_voice.turn.record import ToolCallRecord

__all__ = ["Pending"]


@dataclass(frozen=True)
class Pending:
    """What an interrupted run left: its questions, its checkpoints, and the calls of the batch that asks."""

    interrupts: tuple[Interrupt, ...]
    """The first one is the one that was asked; the others come after its answer."""
    saver: RunSaver
    calls: Mapping[str, ToolCallRecord]
    asking: str | None
    """The id of the message whose calls wait; None when no call does."""
    stored: bool = False
    """Read from the durable copy, whose messages are those of the whole call: what came behind the batch is not the
    run's own."""

    def resume(self, text: str) -> Command[Any]:
        """The input that gives this answer to whoever asked, and to nobody else."""
        return Command(resume={self.interrupts[0].id: text})

    def own(self, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
        """The message whose calls wait, and what the run has behind it; nothing when no call waits.

        Args:
            messages: those of the run's last checkpoint.
        """
        found = list(itertools.dropwhile(lambda m: m.id != self.asking, messages))
        if self.stored:
            found = [*found[:1], *itertools.takewhile(lambda m: isinstance(m, ToolMessage), found[1:])]
        return found

    def again(self) -> "Pending":
        """A copy for one more run, which may be discarded."""
        return replace(self, calls={call_id: replace(call) for call_id, call in self.calls.items()})
