"""Late tool results: they came after the caller was answered without them. Each is kept until an agent reports it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from langchain_core.messages import AnyMessage, ToolMessage

from graph_voice.turn.record import TurnRecord

__all__ = ["LateResult", "LateResults", "announcement"]

_ATTEMPTS = 3
"""How many announcements of one result may go unheard (a failed voice, an interruption by noise)."""


class Reply(Protocol):
    """A turn that may report a late result."""

    @property
    def interrupted(self) -> bool: ...

    @property
    def record(self) -> TurnRecord: ...

    @property
    def settled(self) -> bool: ...

    @property
    def has_spoken(self) -> bool: ...


@dataclass
class LateResult:
    """The result of a tool call whose turn was interrupted before the result came."""

    agent: str
    """The agent that made the tool call."""
    message: ToolMessage
    replies: list[tuple[Reply, str]] = field(default_factory=list)
    """Replies whose model was shown the result: turn and message id."""
    announcements: list[Reply] = field(default_factory=list)
    """The turns that were started to report it."""

    @property
    def open(self) -> bool:
        """Whether a reply that knows the result is still being generated or spoken."""
        return any(not turn.settled for turn in (*(turn for turn, _ in self.replies), *self.announcements))

    @property
    def told(self) -> bool:
        """Whether the caller heard part of a reply that knew the result, or an agent had its chance to report it."""
        for turn, message_id in self.replies:
            found = turn.record.spoken(message_id)
            if found is not None and found[1].heard:
                return True
        if any(turn.has_spoken for turn in self.announcements):
            return True
        over = [turn for turn in self.announcements if turn.settled]
        return len(over) >= _ATTEMPTS or any(not turn.interrupted for turn in over)


class LateResults:
    """The late results of one call that no agent has reported yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, LateResult] = {}

    def came(self, agent: str, message: ToolMessage) -> None:
        self._waiting[message.tool_call_id] = LateResult(agent, message)

    def shown(self, prompt: Iterable[AnyMessage], turn: Reply, message_id: str) -> None:
        """Note that the model of this reply was given this prompt."""
        if not self._waiting:
            return
        for message in prompt:
            if isinstance(message, ToolMessage) and not message.additional_kwargs.get("placeholder"):
                late = self._waiting.get(message.tool_call_id)
                if late is not None:
                    late.replies.append((turn, message_id))

    def due(self) -> list[LateResult]:
        """The results that an agent should report unasked, in the order in which they came."""
        self._waiting = {call_id: late for call_id, late in self._waiting.items() if not late.told}
        return [late for late in self._waiting.values() if not late.open]


def announcement(results: Sequence[LateResult], context: Iterable[AnyMessage]) -> str:
    """Instructions for the reply that reports these results.

    Args:
        results: the late results.
        context: what the active agent is shown. It may not include a tool call that another agent made.
    """
    known = {m.tool_call_id for m in context if isinstance(m, ToolMessage)}
    lines = []
    for late in results:
        name, message = late.message.name, late.message
        if message.tool_call_id in known:
            lines.append(
                f"The call of `{name}` that was still running has ended: its result is in the conversation now."
            )
        else:
            lines.append(f"The call of `{name}` that {late.agent} made has ended. Its result: {message.text}")
    lines.append("Tell the caller what came of it, briefly and in a natural way, and repeat nothing you said already.")
    return "\n".join(lines)
