"""A run that waits in LangGraph's `interrupt()`, kept until the caller has answered."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from langgraph.types import Command, Interrupt

from graph_voice.events import ToolCall
from graph_voice.storage.run_saver import RunSaver
from graph_voice.turn.record import ToolCallRecord

__all__ = ["Pending"]


@dataclass(frozen=True)
class Pending:
    """What an interrupted run left: its questions, its checkpoints, and the tool calls of the batch that asks."""

    interrupts: tuple[Interrupt, ...]
    """The first one has been asked; the others come after its answer."""
    saver: RunSaver
    calls: Mapping[str, ToolCallRecord]
    asking: str | None
    """The id of the message whose tool calls wait; None when none does."""
    asked: bool = True
    """Whether the first question has been asked: one that came while another was open is asked after its answer."""
    shown: Mapping[str, tuple[str, ToolCall] | None] = field(default_factory=dict)
    """The tool calls of custom nodes that the front end was told of, and who has made them; None when it was told the
    result too."""
    stored: bool = False
    """Read from the durable copy, which has the messages of the whole call: what comes after the batch is not the run's
    own."""

    def resume(self, answer: Any) -> Command[Any]:
        """The input that gives this answer to the interrupt that asked, and to no other."""
        return Command(resume={self.interrupts[0].id: answer})

    def own(self, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
        """The message whose tool calls wait, and the run's messages after it; nothing when no tool call waits.

        Args:
            messages: the messages of the run's last checkpoint.
        """
        if self.asking is None:
            return []
        found = list(itertools.dropwhile(lambda m: m.id != self.asking, messages))
        if self.stored:
            found = [*found[:1], *itertools.takewhile(lambda m: isinstance(m, ToolMessage), found[1:])]
        return found

    def again(self) -> "Pending":
        """A copy for one more run, which may be discarded."""
        return replace(self, calls={call_id: replace(call) for call_id, call in self.calls.items()})
