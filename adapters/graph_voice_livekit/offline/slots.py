"""Slots in text: finding `{slot}` in a sentence, filling it, and taking its value from a caller's words."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from graph_voice_livekit.offline.slot_types import END, NAME_IN_ANY_CASE, SLOT_TYPES, SlotValue

__all__ = ["PLACEHOLDER", "compiled", "fill", "literal_words", "placeholders", "texts_in"]

PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")

_SAYS_NAME = re.compile(r"\b(?:name|names|called)\b", re.IGNORECASE)


def placeholders(text: str) -> frozenset[str]:
    """Return the names of the slots in `text`, as in "Hello {name}"."""
    return frozenset(match[1] for match in PLACEHOLDER.finditer(text))


def literal_words(pattern: str) -> str:
    """Return what stands in `pattern` beside its slots."""
    return PLACEHOLDER.sub(" ", pattern).strip()


def fill(value: Any, slots: Mapping[str, SlotValue]) -> Any:
    """Fill the slots of `value` in, at any depth. A text that is one slot becomes the slot's value, with its type."""
    if isinstance(value, Mapping):
        return {key: fill(item, slots) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, slots) for item in value]
    if not isinstance(value, str):
        return value
    if whole := PLACEHOLDER.fullmatch(value):
        return slots[whole[1]]
    return PLACEHOLDER.sub(lambda match: str(slots[match[1]]), value)


def texts_in(value: Any) -> Iterator[str]:
    """The texts of `value`, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(item)


@lru_cache(maxsize=1024)
def compiled(pattern: str, slots: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Compile a pattern. `slots`: each slot's name, and the name of its type or a regex."""
    kinds, regex, position, pattern = dict(slots), "", 0, pattern.strip()
    for place in PLACEHOLDER.finditer(pattern):
        kind = place[2] or kinds[place[1]]
        taken = SLOT_TYPES[kind].regex if kind in SLOT_TYPES else kind
        if kind == "name" and _SAYS_NAME.search(pattern[: place.start()]):
            taken = NAME_IN_ANY_CASE
        regex += _literal(pattern[position : place.start()]) + f"(?P<{place[1]}>{taken})"
        position = place.end()
        if kind in ("words", "integer") and position == len(pattern):
            regex += END
    return re.compile(regex + _literal(pattern[position:]))


def _literal(text: str) -> str:
    """Match the words of `text` in any case, whatever stands between them: spaces, a comma, a hyphen.

    The marks of `text` need not be there: a recognizer may leave them out.
    """
    gap = r"[\s,.-]+" if text.strip() else r"[\s,-]+"
    words = [re.escape(word) for part in text.replace("’", "'").split() if (word := part.strip(",.;:!?"))]
    if not words and text.strip(" ") and not text.strip(" ,.;:!?"):
        return gap
    text = re.sub(r"^[,.;:!?]+|[,.;:!?]+$", " ", text)
    words = [re.sub(r"'(m|s)$", lambda m: rf"(?:['’]{m[1]}|\s+{'am' if m[1] == 'm' else 'is'})", w) for w in words]
    before = gap if text[:1].isspace() else r"\b"
    after = gap if text[-1:].isspace() else r"\b"
    return f"{before}(?i:{gap.join(words)}){after}" if words else r"\s+" if text else ""
