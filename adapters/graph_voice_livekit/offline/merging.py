"""From what a caller wants to tool calls: what belongs to one call becomes one call."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from graph_voice_livekit.offline.slots import fill
from graph_voice_livekit.offline.wishes import Wish

__all__ = ["Call", "calls_of"]

Call = tuple[str, dict[str, Any]]

_MOST_TIMES = 20
_ADDS = re.compile(r"\b(?:more|another|also|too|add|extra|plus|additional|on top|as well)\b", re.IGNORECASE)


def calls_of(
    wishes: Sequence[Wish], tools: Collection[str], words: str, earlier: Mapping[str, Mapping[str, Any]]
) -> list[Call]:
    """Return the tool calls that the wishes are.

    Two wishes for one tool are one call with the arguments of both; lists are put together. If they contradict each
    other, there is none: nothing says which of them is meant.

    Args:
        wishes: what the caller wants.
        tools: the tools that may be called.
        words: the caller's words.
        earlier: the arguments of each tool's last call.
    """
    calls: list[Call] = []
    for tool in dict.fromkeys(wish.intent.tool for wish in wishes):
        if tool is not None and tool in tools:
            calls += _calls([wish for wish in wishes if wish.intent.tool == tool], tool, words, earlier)
    return calls


def _calls(wishes: Sequence[Wish], tool: str, words: str, earlier: Mapping[str, Mapping[str, Any]]) -> list[Call]:
    found = [(wish, args) for wish in wishes if (args := wish.intent.call_args(wish.slots)) is not None]
    if not found:
        return []
    if all(wish.intent.several for wish, _ in found):
        return [(tool, dict(args)) for wish, args in found for _ in range(_times(wish))]
    merged = _merged([args for _, args in found])
    if merged is not None and _ADDS.search(words) and any(wish.intent.adds for wish, _ in found):
        merged = _added(earlier.get(tool), merged)
    return [] if merged is None else [(tool, merged)]


def _times(wish: Wish) -> int:
    times = fill(wish.intent.times, wish.slots) if wish.intent.times else 1
    return min(int(times), _MOST_TIMES)


def _merged(several: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The arguments of all; None if they contradict each other."""
    merged: dict[str, Any] = {}
    for args in several:
        for key, value in args.items():
            before = merged.get(key, value)
            if isinstance(value, list) and isinstance(before, list) and key in merged:
                merged[key] = [*before, *value]
            elif before == value or (isinstance(value, str) and isinstance(before, str) and before in value):
                merged[key] = value
            elif not (isinstance(value, str) and isinstance(before, str) and value in before):
                return None
    return merged


def _added(last: Mapping[str, Any] | None, args: dict[str, Any]) -> dict[str, Any] | None:
    """The lists of `args` behind those of the last call. None if that is not known: they would replace it."""
    if last is None:
        return None
    return {key: [*last.get(key, []), *value] if isinstance(value, list) else value for key, value in args.items()}
