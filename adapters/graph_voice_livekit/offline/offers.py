"""Offers: what a tool has listed, such as free times, and which of them a caller means.

"The second one", "Tuesday at ten", "the last one in the afternoon".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graph_voice_livekit.offline.slot_types import (
    DAYS,
    MONTHS,
    ORDINALS,
    SLOT_TYPES,
    any_of,
    spoken_integer,
)

__all__ = ["OFFER", "Offer", "chosen", "fitting", "offers_in", "spoken"]

MOST = 3
"""How many are said at once."""

_PLACES = {"earliest": 0, "soonest": 0, "latest": -1, "last": -1} | {word: n for n, word in enumerate(ORDINALS[:6])}
_NUMBERED = {"1st": 0, "2nd": 1, "3rd": 2, "4th": 3, "number one": 0, "number two": 1, "number three": 2}
_OF_TWO = {"earlier": 0, "later": 1}
_NAMED = any_of([*_PLACES, *_NUMBERED, *_OF_TWO])
_PLACE = rf"(?<!on\sthe\s)\b(?:{_NAMED})\b(?!\s+of\b)(?:\s+(?:one|time|slot|appointment)\b)?"
_TIME = SLOT_TYPES["time"].regex
_HOURS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_BARE = rf"\b(?:{any_of(_HOURS)}|[1-9]|1\d|2[0-3])(?:[\s-]+(?:fifteen|thirty|forty[\s-]five))?\b"
_PART = r"\b(?:morning|afternoon|evening)\b"
OFFER = rf"(?i:(?:{_PLACE}(?:\s+(?:on|at|in)\s+(?:the\s+)?(?:{_TIME}|{_PART}))?)|{_TIME}|{_BARE})"
"""What a caller says of one of them."""


@dataclass(frozen=True)
class Offer:
    """One of the things that were listed."""

    value: str
    """What the tool calls it."""
    words: str
    """What is said of it."""
    line: str
    """All that the tool has listed of it."""


def offers_in(listing: str, line: str, says: str) -> tuple[Offer, ...]:
    """The offers in a tool's result: each of its lines that the regex `line` matches. The group `id` is its value."""
    found = [match for text in listing.splitlines() if (match := re.search(line, text))]
    return tuple(Offer(one["id"], says.format(**one.groupdict()), one.string) for one in found)


def spoken(offers: Sequence[Offer]) -> str:
    """The first of them, to be said."""
    said = [offer.words for offer in offers[:MOST]]
    return " or ".join(["; ".join(said[:-1]), said[-1]] if said[1:] else said)


def fitting(offers: Sequence[Offer], words: str) -> tuple[Offer, ...]:
    """Those at the time that the words name; all, if they name none or there is none."""
    return tuple(offer for offer in offers if _fits(offer, words)) or tuple(offers)


def chosen(offers: Sequence[Offer], question: str, words: str) -> str | None:
    """The value of the one that a caller means; None if it is not plain.

    "The second one" is of those that the question named, and so is a day or an hour alone. A day with an hour may be
    any.
    """
    named = sorted((o for o in offers if o.words in question), key=lambda offer: question.index(offer.words))
    place = re.search(f"(?i){_PLACE}", words)
    if place and not re.fullmatch(f"(?i:{_TIME})", words):
        rest = words[place.end() :]
        there = [offer for offer in named if _fits(offer, rest)]
        key = re.sub(r"\s+(?:one|time|slot|appointment)$", "", place[0].lower())
        if key in _OF_TWO:
            return there[_OF_TWO[key]].value if len(there) == 2 else None
        at = (_PLACES | _NUMBERED)[key]
        return there[at].value if -len(there) <= at < len(there) else None
    there = [offer for offer in named if _fits(offer, words)]
    if not there and _day(words) and _clock(words):
        there = [offer for offer in offers if _fits(offer, words)]
    return there[0].value if len(there) == 1 and (_day(words) or _clock(words) or _part(words)) else None


def _fits(offer: Offer, words: str) -> bool:
    """Whether an offer is on the day and at the hour that the words name, as far as they name any."""
    of_offer = _day(offer.words)
    for kind, wanted in _day(words).items():
        if kind == "from now":
            if not re.search(rf"\b{wanted}\b", offer.line):
                return False
        elif of_offer.get(kind) != wanted:
            return False
    clock, at = _clock(words), _clock(offer.words)
    if at is None:
        return clock is None
    hour, minute = at
    if clock and (clock[1] != minute or clock[0] % 12 != hour % 12 or (clock[0] > 12 and clock[0] != hour)):
        return False
    part = _part(words)
    return part is None or part == ("morning" if hour < 12 else "afternoon" if hour < 17 else "evening")


def _day(words: str) -> dict[str, str | int]:
    """The day that is named, by what it is named: its weekday, its month and number, how far away it is."""
    words, found = words.lower(), dict[str, str | int]()
    if day := re.search(rf"\b(?:{any_of(DAYS)})\b", words):
        found["weekday"] = day[0]
    if "day after tomorrow" in words:
        found["from now"] = "in 2 days"
    elif near := re.search(r"\b(?:today|tonight|tomorrow)\b", words):
        found["from now"] = near[0].replace("tonight", "today")
    if month := re.search(rf"\b(?:{any_of(MONTHS)})\b", words):
        found["month"] = month[0]
    if number := re.search(rf"\b(?:{any_of(MONTHS)})\s+(?:the\s+)?(\d{{1,2}}|{_ordinal()})", words) or re.search(
        rf"\b(\d{{1,2}}(?=st\b|nd\b|rd\b|th\b)|{_ordinal()})", words
    ):
        found["number"] = _number(number[1])
    return found


def _ordinal() -> str:
    return rf"(?:(?:twenty|thirty)[\s-]+)?(?:{any_of([*ORDINALS, 'thirtieth'])})\b"


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    *tens, last = re.split(r"[\s-]+", text)
    unit = 30 if last == "thirtieth" else ORDINALS.index(last) + 1
    return unit + (spoken_integer(tens[0]) or 0 if tens else 0)


def _clock(words: str) -> tuple[int, int] | None:
    """The hour and the minute that are named. Up to twelve, the hour may be of the morning or of the afternoon."""
    words = re.sub(rf"\b(?:{any_of(MONTHS)})\s+(?:the\s+)?\d{{1,2}}(?:st|nd|rd|th)?\b", " ", words.lower())
    words = re.sub(r"\b\d{1,2}(?:st|nd|rd|th)\b|\b(?:19|20)\d\d\b", " ", words)
    hour = rf"(\d{{1,2}}|one|{any_of(_HOURS)})"
    if exact := re.search(r"\b(\d{1,2})[:.](\d{2})\b", words):
        return int(exact[1]), int(exact[2])
    if near := re.search(rf"\b(half|(?:a\s+)?quarter)\s+(past|to)\s+{hour}\b", words):
        past = 30 if near[1] == "half" else 15
        of = spoken_integer(near[3]) or 0
        return (of, past) if near[2] == "past" else (of - 1 or 12, 60 - past)
    words = re.sub(r"(?<!at\s)\bone\b(?!\s+(?:fifteen|thirty|forty|o['’]?\s?clock))", " ", words)  # "the last one"
    if plain := re.search(rf"\b{hour}(?:[\s-]+(fifteen|thirty|forty[\s-]five))?\b", words):
        minutes = spoken_integer(plain[2]) if plain[2] else 0
        return spoken_integer(plain[1]) or 0, minutes or 0
    return (12, 0) if re.search(r"\b(?:noon|midday)\b", words) else None


def _part(words: str) -> str | None:
    """The part of the day that is named."""
    found = re.search(r"(?i)\b(morning|afternoon|evening)\b|(\ba\.?m\b)|(\bp\.?m\b)", words)
    return None if found is None or found[3] else "morning" if found[2] else found[1].lower()
