"""Slots in text: finding `{slot}` in a sentence, filling it, and taking its value from a caller's words."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["PLACEHOLDER", "SLOT_TYPES", "SlotValue"]
__all__ += ["compiled", "fill", "is_bare", "placeholders", "spoken_integer", "texts_in"]

SlotValue = str | int
PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_UNITS = [
    *[
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ],
    *["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
]
_TENS = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_NUMBER_WORD = "(?i:" + "|".join([*sorted(_UNITS, key=len, reverse=True), *_TENS, "hundred"]) + r")\b"
# Words that are not part of a name, although a transcript may capitalize them.
_NO_NAMES = """
    i my it and but or so the a not yes yeah yep no nope hello hi hiya hey okay ok all fine sure right well
    um uh sorry excuse pardon thanks thank please wait stop really exactly nothing nobody why what who how where
    help
"""
_NOT_A_NAME = rf"(?!(?i:(?:{'|'.join(_NO_NAMES.split())})\b|{_NUMBER_WORD}))"
_NAME_WORD = rf"{_NOT_A_NAME}[A-ZÀ-Þ][\w'’-]*"
_WORD = r"\w[\w'’-]*"
SLOT_TYPES = {
    "name": rf"{_NAME_WORD}(?:\s+{_NAME_WORD}){{0,2}}",
    "words": rf"(?!(?i:not|none|no|just|a|the|very)\b){_WORD}(?:\s+{_WORD}){{0,3}}?",
    "integer": rf"\d{{1,9}}\b|(?:a[\s-]+(?=hundred))?{_NUMBER_WORD}(?:[\s-]+(?:and[\s-]+)?{_NUMBER_WORD})*",
}
# Where free words and integers end: "I'm 34, ..." gives 34, "I'm 5 minutes late" gives nothing.
_END = r"(?=\s*(?:$|[.,!?;:]|(?i:and|but|or|so|now|years?|i|i['’]m|my)\b))"


def placeholders(text: str) -> frozenset[str]:
    """Return the names of the slots in `text`, as in "Hello {name}"."""
    return frozenset(match[1] for match in PLACEHOLDER.finditer(text))


def is_bare(pattern: str) -> bool:
    """Whether `pattern` is one slot and nothing else."""
    return PLACEHOLDER.fullmatch(pattern.strip()) is not None


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


def spoken_integer(text: str) -> int | None:
    """Return the integer that `text` is, in digits or (below 1000) in words: "34", "thirty-four".

    What is no single number ("five six", "nineteen eighty") gives None.
    """
    words = [word for word in re.split(r"[\s-]+", text.strip(" .,!?").lower()) if word not in ("and", "")]
    if len(words) == 1 and words[0].isdecimal():
        return int(words[0])
    total, room = 0, 1000  # `room`: what comes next must be less
    for place, word in enumerate(words):
        if word == "a" and place == 0 and words[1:2] == ["hundred"]:
            total, room = 1, 10
        elif word == "hundred" and 0 < total < 10:
            total, room = total * 100, 100
        elif word in _TENS and room >= 100:
            total, room = total + _TENS[word], 10
        elif word in _UNITS and _UNITS.index(word) < room and not (word == "zero" and total):
            total, room = total + _UNITS.index(word), 0
        else:
            return None
    return total if words else None


@lru_cache(maxsize=1024)
def compiled(pattern: str, slots: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Compile a pattern. `slots`: each slot's name, and its type or its own regex."""
    kinds, regex, position, pattern = dict(slots), "", 0, pattern.strip()
    for place in PLACEHOLDER.finditer(pattern):
        kind = place[2] or kinds[place[1]]
        regex += _literal(pattern[position : place.start()]) + f"(?P<{place[1]}>{SLOT_TYPES.get(kind, kind)})"
        position = place.end()
        if kind in ("words", "integer") and position == len(pattern):
            regex += _END
    return re.compile(regex + _literal(pattern[position:]))


def _literal(text: str) -> str:
    """Match the words of `text` in any case, whatever stands between them: spaces, a comma, a hyphen."""
    gap = r"[\s,-]+"
    words = [re.escape(word) for word in text.replace("’", "'").split()]
    words = [re.sub(r"'(m|s)$", lambda m: rf"(?:['’]{m[1]}|\s+{'am' if m[1] == 'm' else 'is'})", w) for w in words]
    before = gap if text[:1].isspace() else r"\b"
    after = gap if text[-1:].isspace() else r"\b"
    return f"{before}(?i:{gap.join(words)}){after}" if words else gap if text else ""
