"""What was said and done in a call and no longer changes, in the order in which it happened."""

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage

from graph_voice.history.reducers import appended, merge_messages
from graph_voice.messages.pairs import pair_safe
from graph_voice.turn.record import Group, Place, Rewrite

__all__ = ["END", "Past"]

END: Place = (float("inf"), 0)
"""A place behind everything."""
_RECENT = 32
"""How many groups may still get others between them. What is dated back further comes in front of these."""


class Past:
    """The messages of a call, and its last groups of them, sorted by their places.

    A front end may backdate a message: LiveKit dates what the caller said to the moment when they had said it, however
    late it is answered. So a new group does not always go at the end. What is in front of the first new one is merged
    already, and is only copied.

    Args:
        messages: an earlier conversation to continue.
    """

    def __init__(self, messages: Sequence[AnyMessage]) -> None:
        self.messages: dict[str | None, AnyMessage] = {}
        """Id -> message, in order: as far as they are merged, which is up to the first group that may change what is in
        front of it."""
        self._groups: list[Group] = []
        self._starts: list[int] = [0]
        """How many messages are in front of each merged group, and at last how many there are."""
        self._ends: list[Place] = []
        """For each merged group, the last place in it or in any group in front of it."""
        self.begin_with(messages)

    def begin_with(self, messages: Sequence[AnyMessage]) -> None:
        """Put this earlier conversation in front of all groups, instead of the one before."""
        self._begin(merge_messages([], pair_safe(messages)))

    def _begin(self, messages: Sequence[AnyMessage]) -> None:
        self.messages = {message.id: message for message in messages}
        self._starts, self._ends = [len(messages)], []
        self._merge()

    def followed_by(self, groups: Sequence[Group]) -> list[AnyMessage]:
        """The messages, with those of these groups between and after them."""
        kept = self._in_front_of(groups)
        end = self._starts[kept]
        rest = in_order([*self._groups[kept:], *groups])
        messages = list(self.messages.values())
        del messages[end:]
        if (new := self._appended(rest, end)) is None:
            return _merged(messages, rest)
        messages += new
        return messages

    def add(self, groups: Sequence[Group]) -> None:
        """Add groups that no longer change, each at its place."""
        kept = self._in_front_of(groups)
        self._groups[kept:] = in_order([*self._groups[kept:], *groups])
        while len(self.messages) > self._starts[kept]:
            self.messages.popitem()
        del self._starts[kept + 1 :], self._ends[kept:]
        self._merge()

    def let_go(self, before: Place) -> None:
        """Forget which messages are of which group, but for the last groups and for what is behind this place.

        If something in front of it was replaced or removed, all there is forgotten: what is backdated later must not be
        removed by what knew nothing of it.
        """
        count = next((n for n, group in enumerate(self._groups) if group.end > before), len(self._groups))
        if (merged := len(self._ends)) < count:
            messages = _merged(list(self.messages.values()), self._groups[merged:count])
            del self._groups[:count]
            self._begin(messages)
            return
        count = min(count, max(0, len(self._groups) - _RECENT))
        while count and self._ends[count - 1] > self._groups[count].place:
            count -= 1
        del self._groups[:count], self._starts[:count], self._ends[:count]

    def _in_front_of(self, groups: Sequence[Group]) -> int:
        """How many of the merged groups are in front of all these, with all that is in them."""
        return bisect_left(self._ends, min((group.place for group in groups), default=END))

    def _merge(self) -> None:
        for group in self._groups[len(self._ends) :]:
            if (new := self._appended([group], len(self.messages))) is None:
                return
            self.messages |= {message.id: message for message in new}
            self._starts.append(len(self.messages))
            self._ends.append(max([group.end, *self._ends[-1:]]))

    def _appended(self, groups: Sequence[Group], end: int) -> list[AnyMessage] | None:
        """The messages of these groups, as they come after the first `end` ones. None when they change those."""
        if any(group.raw is not None or group.unpaired for group in groups):
            return None
        behind = set(itertools.islice(reversed(self.messages), len(self.messages) - end))
        return appended(
            [message for group in groups for message in group.messages],
            lambda message_id: message_id in self.messages and message_id not in behind,
        )


def in_order(groups: Sequence[Group]) -> list[Group]:
    """These groups by their places. A line that was heard behind something from elsewhere stands there, alone."""
    of = {line.alone: group for group in groups for line in group.lines}
    apart: set[Group] = set()
    last = other = (-END[0], -1)  # where the last thing stands, and the last one that is not of the same turn
    for piece in sorted([*groups, *of], key=_key) if of else ():
        if (group := of.get(piece)) is not None:
            if (last if last[1] != piece.order else other) < group.place:
                continue
            apart.add(piece)
        if last[1] != piece.order:
            other = last
        last = piece.place
    return sorted([*(group.without(apart) for group in groups), *apart], key=_key)


def _key(group: Group) -> tuple[Place, int]:
    return group.place, group.rank


def _merged(messages: list[AnyMessage], groups: Sequence[Group]) -> list[AnyMessage]:
    update = list[Any]()
    for group in groups:
        if isinstance(group.raw, Rewrite):
            messages, update = group.raw.apply(merge_messages(messages, update)), []
        else:
            update += group.messages if group.raw is None else group.raw
    merged = merge_messages(messages, update)
    # The turns' own messages are paired already. Messages from elsewhere may have separated a pair.
    return pair_safe(merged) if any(group.unpaired for group in groups) else merged
