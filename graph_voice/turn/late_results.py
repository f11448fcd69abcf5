"""Results that came after the caller was answered without them, until an agent has spoken of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from langchain_core.messages import AnyMessage, ToolMessage

from graph_voice.turn.record import TurnRecord

__all__ = ["LateResult", "LateResults", "announcement"]

_ATTEMPTS = 3
"""Announcements of one result that may end without a word heard (its voice failed, noise cut in)."""


class Reply(Protocol):
    """A turn that may speak of a late result."""

    interrupted: bool

    @property
    def record(self) -> TurnRecord: ...

    @property
    def settled(self) -> bool: ...

    @property
    def has_spoken(self) -> bool: ...


@dataclass
class LateResult:
    """The result of a call whose turn was interrupted before it came."""

    agent: str
    """Who asked for it."""
    message: ToolMessage
    replies: list[tuple[Reply, str]] = field(default_factory=list)
    """Replies whose model was shown it: turn and message id."""
    announcements: list[Reply] = field(default_factory=list)
    """The turns that were started to speak of it."""

    @property
    def open(self) -> bool:
        """A reply that knows it is still being made or spoken."""
        return any(not turn.settled for turn in (*(turn for turn, _ in self.replies), *self.announcements))

    @property
    def told(self) -> bool:
        """The caller has heard of a reply that knew it, or an agent was asked to speak of it and had its chance."""
        for turn, message_id in self.replies:
            found = turn.record.spoken(message_id)
            if found is not None and found[1].heard:
                return True
        if any(turn.has_spoken for turn in self.announcements):
            return True
        over = [turn for turn in self.announcements if turn.settled]
        return len(over) >= _ATTEMPTS or any(not turn.interrupted for turn in over)


class LateResults:
    """The late results of one call that nobody has spoken of yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, LateResult] = {}

    def came(self, agent: str, message: ToolMessage) -> None:
        self._waiting[message.tool_call_id] = LateResult(agent, message)

    def shown(self, prompt: Iterable[AnyMessage], turn: Reply, message_id: str) -> None:
        """The model of this reply was given this prompt."""
        if not self._waiting:
            return
        for message in prompt:
            if isinstance(message, ToolMessage) and not message.additional_kwargs.get("placeholder"):
                late = self._waiting.get(message.tool_call_id)
                if late is not None:
                    late.replies.append((turn, message_id))

    def due(self) -> list[LateResult]:
        """Those that an agent should speak of by itself, in the order in which they came."""
        self._waiting = {call_id: late for call_id, late in self._waiting.items() if not late.told}
        return [late for late in self._waiting.values() if not late.open]


def announcement(results: Sequence[LateResult], context: Iterable[AnyMessage]) -> str:
    """Instructions for the reply that speaks of these results.

    Args:
        results: what has come.
        context: what the agent that has the floor is shown. It may know nothing of a call that another agent made.
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
