"""The part of a call that no longer changes."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.types import Overwrite

from graph_voice.graph.state import merge_messages
from graph_voice.messages.pairs import pair_safe
from graph_voice.turn.record import BEFORE_ALL, Group, Place, TurnRecord, in_order

__all__ = ["Past"]

_RECENT = 32
"""How many groups of messages at the end of the past may still have backdated messages inserted between them."""


class Past:
    """Messages, in the order in which they happened.

    A front end may backdate a message: LiveKit dates what the caller said to the moment when they had said it, however
    late it is answered. So a new message does not always go at the end of the past.

    Args:
        messages: an earlier conversation to continue.
    """

    def __init__(self, messages: Sequence[AnyMessage]) -> None:
        self.messages: list[AnyMessage] = pair_safe(messages)
        self._start = len(self.messages)
        """The index at which the messages of the last turns begin."""
        self._records: list[TurnRecord] = []
        self._asides: list[Group] = []
        self._until = BEFORE_ALL
        """Where the last of them was heard, or happened."""

    def followed_by(self, records: Sequence[TurnRecord], asides: Sequence[Group]) -> list[AnyMessage]:
        """The messages, with those of these turns and those from outside turns after or between them."""
        groups = in_order(records, asides)
        if not groups or groups[0].place > self._until:
            return _merged(self.messages, groups)
        together = in_order([*self._records, *records], [*self._asides, *asides])
        return _merged(self.messages[: self._start], together)

    def add(self, records: Sequence[TurnRecord], asides: Sequence[Group]) -> None:
        """Add these turns, and what happened outside turns, to the past."""
        self.messages = self.followed_by(records, asides)
        self._records += records
        self._asides += asides
        together = in_order(self._records, self._asides)
        if any(group.raw is not None for group in together) or self._length_without(together) != self._start:
            # Something was replaced or removed: who knows which messages are whose.
            self._records, self._asides, self._start, self._until = [], [], len(self.messages), BEFORE_ALL
            return
        self._until = max([self._until, *(g.place for g in together), *(record.last_heard for record in records)])
        if len(together) > _RECENT:
            self._let_go(together[-_RECENT].place)

    def _length_without(self, groups: Sequence[Group]) -> int:
        return len(self.messages) - sum(len(group.messages) for group in groups)

    def _let_go(self, until: Place) -> None:
        """Of what was over before this place, unless some of it is mixed with what came later."""
        records, asides = list[TurnRecord](), [group for group in self._asides if group.place >= until]
        for record in self._records:
            places = [group.place for group in record.groups()]
            if not places or min(places) >= until:
                records.append(record)
            elif max(*places, record.last_heard) > until:
                return
        self._records, self._asides = records, asides
        self._start = self._length_without(in_order(records, asides))


def _merged(messages: list[AnyMessage], groups: Sequence[Group]) -> list[AnyMessage]:
    update = list[Any]()
    for group in groups:
        if isinstance(group.raw, Overwrite):
            messages, update = [], list(group.raw.value or ())
        else:
            update += group.messages if group.raw is None else group.raw
    merged = merge_messages(messages, update)
    # The turns' own messages are paired already. Messages from elsewhere may have separated a pair.
    return pair_safe(merged) if any(group.unpaired for group in groups) else merged
