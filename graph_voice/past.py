"""The part of a call that nothing changes any more."""

import math
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.types import Overwrite

from graph_voice.memory import Group
from graph_voice.pairs import pair_safe
from graph_voice.state import merge_messages

__all__ = ["Past"]

_RECENT = 16
"""Groups of the past between which something may still come that happened before them."""


class Past:
    """Messages, in the order in which they happened.

    A front end may date something back to when it happened (LiveKit files what the caller said under the moment in
    which they had said it, however late it is answered), so the end of the past is not always the place of what comes.

    Args:
        messages: of a conversation that went before.
    """

    def __init__(self, messages: Sequence[AnyMessage]) -> None:
        self.messages: list[AnyMessage] = pair_safe(messages)
        self._recent: list[Group] = []
        """The last groups, which are the end of `messages`."""

    def followed_by(self, groups: Sequence[Group]) -> list[AnyMessage]:
        """The messages with these groups, which are in order, behind or between them."""
        began = groups[0].at if groups else math.inf
        moved = [group for group in self._recent if group.at > began]
        if not moved:
            return _merged(self.messages, groups)
        start = len(self.messages) - sum(len(group.messages) for group in moved)
        return _merged(self.messages[:start], sorted([*moved, *groups], key=lambda group: group.at))

    def add(self, groups: Sequence[Group]) -> None:
        """Make these groups, which are in order, a part of it."""
        before, self.messages = len(self.messages), self.followed_by(groups)
        appended = sum(len(group.messages) for group in groups)
        if any(group.raw is not None for group in groups) or len(self.messages) != before + appended:
            self._recent = []  # something was replaced or removed: who knows which messages are whose
        else:
            self._recent = sorted([*self._recent, *groups], key=lambda group: group.at)[-_RECENT:]


def _merged(messages: list[AnyMessage], groups: Sequence[Group]) -> list[AnyMessage]:
    update = list[Any]()
    for group in groups:
        if isinstance(group.raw, Overwrite):
            messages, update = [], list(group.raw.value or ())
        else:
            update += group.messages if group.raw is None else group.raw
    merged = merge_messages(messages, update)
    # Ours are paired as they are; what came from elsewhere may have torn a pair apart.
    return pair_safe(merged) if any(group.foreign for group in groups) else merged
