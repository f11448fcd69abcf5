"""Dates in what people say: "the third of May, nineteen eighty", "May 3rd 1980", "December twenty seven"."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from graph_voice.secrets.numbers import NUMBER_WORDS, digits_of

__all__ = ["SpokenDate", "dates_in", "ways_to_write"]

_NAMES = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october"]
_NAMES += ["november", "december"]
_MONTHS = {word: i for i, name in enumerate(_NAMES, 1) for word in (name, name[:3])} | {"sept": 9}
_ORDINALS = {"first": "1", "second": "2", "third": "3", "fourth": "4", "fifth": "5", "sixth": "6", "seventh": "7"}
_ORDINALS |= {"eighth": "8", "ninth": "9", "tenth": "10", "eleventh": "11", "twelfth": "12", "thirteenth": "13"}
_ORDINALS |= {"fourteenth": "14", "fifteenth": "15", "sixteenth": "16", "seventeenth": "17", "eighteenth": "18"}
_ORDINALS |= {"nineteenth": "19", "twentieth": "20", "thirtieth": "30"}
_BETWEEN = frozenset({"of", "the", "in", "on", "and", "a", "day", "year", "month", "um", "uh", "er", "is", "was"})
_MOST_BETWEEN = 5
_WORD = re.compile(r"\d+|[^\W\d_]+")
_ENDINGS = frozenset({"st", "nd", "rd", "th"})
_TENS = frozenset(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"))


@dataclass(frozen=True)
class SpokenDate:
    """A date in a text, or a part of one: a month's name with a number, or ordinals that stand for day and month."""

    start: int
    end: int
    month: int | None
    """None: there is no name of a month in it."""
    digits: str
    """Its other numbers, one behind the other."""


@dataclass
class _Word:
    start: int
    end: int
    month: int | None = None
    digits: str = ""
    ordinal: bool = False


def dates_in(text: str) -> list[SpokenDate]:
    """The dates in a text, in order. Dates of digits alone ("3/5/1980") are numbers: see `numbers_in`."""
    found = []
    for run in _runs(text):
        months = [word.month for word in run if word.month is not None]
        numbers = [word for word in run if word.digits]
        ordinals = sum(word.ordinal for word in numbers)
        if (len(months) == 1 and numbers) or (not months and (ordinals > 1 or (ordinals == 1 and len(numbers) > 2))):
            digits = "".join(word.digits for word in numbers)
            found.append(SpokenDate(run[0].start, run[-1].end, months[0] if months else None, digits))
    return found


def _runs(text: str) -> Iterator[list[_Word]]:
    """Words of dates that stand together, without what may be said between them at their ends."""
    run: list[_Word] = []
    between = 0
    for word in _words(text):
        if word is not None and (word.month is not None or word.digits):
            run.append(word)
            between = 0
        elif run and (word is None or (between := between + 1) > _MOST_BETWEEN):
            yield run
            run, between = [], 0
    if run:
        yield run


def _words(text: str) -> Iterator[_Word | None]:
    """The words that may be part of a date; one without a meaning for what may be said between; None for any other."""
    words = [(m.start(), m.end(), m.group().lower()) for m in _WORD.finditer(text)]
    at = 0
    while at < len(words):
        start, end, word = words[at]
        following = words[at + 1][2] if at + 1 < len(words) else ""
        if word.isdecimal():
            ordinal = following in _ENDINGS and words[at + 1][0] == end
            if ordinal:
                at, end = at + 1, words[at + 1][1]
            yield _Word(start, end, digits=digits_of(word), ordinal=ordinal)
        elif word in _TENS and (following in _ORDINALS or len(NUMBER_WORDS.get(following, "")) == 1):
            at, end = at + 1, words[at + 1][1]
            unit = _ORDINALS.get(following) or NUMBER_WORDS[following]
            yield _Word(start, end, digits=NUMBER_WORDS[word][0] + unit, ordinal=following in _ORDINALS)
        elif word in _ORDINALS:
            yield _Word(start, end, digits=_ORDINALS[word], ordinal=True)
        elif word in NUMBER_WORDS:
            yield _Word(start, end, digits=NUMBER_WORDS[word])
        elif word in _MONTHS:
            yield _Word(start, end, month=_MONTHS[word])
        else:
            yield _Word(start, end) if word in _BETWEEN else None
        at += 1


# ---- a secret that is a date


def ways_to_write(secret: str) -> set[tuple[int | None, str]]:
    """How a date may be said: (month, if it is said by its name; all other digits, in any order of day, month and
    year). Empty if this is no date.

    Args:
        secret: a date as a model writes it: "1980-05-03", "05/03/1980", "May 3, 1980"; or an expiry, "12/27".
    """
    ways: set[tuple[int | None, str]] = set()
    for day, month, year in _readings(secret):
        days = {day, day.zfill(2)} if day else {""}
        months = {str(month), str(month).zfill(2)}
        for said in itertools.product(days, _years(year)):
            ways |= {(month, "".join(order)) for order in itertools.permutations(said)}
            for number in months:
                ways |= {(None, "".join(order)) for order in itertools.permutations((*said, number))}
        if day:
            ways |= {(month, d) for d in days}
    return ways


def _readings(secret: str) -> Iterator[tuple[str, int, str]]:
    """(day, month, year) that it may mean, without zeros in front. Day or year may be empty."""
    if named := dates_in(secret):
        for date in named[:1]:
            numbers = [digits_of(n).lstrip("0") for n in re.findall(r"\d+", secret[date.start : date.end])]
            years = [n for n in numbers if len(n) == 4] or numbers[1:2]
            days = [n for n in numbers if n not in years]
            if date.month is not None:
                yield (days or [""])[0], date.month, (years or [""])[0]
        return
    groups = [digits_of(group) for group in re.findall(r"\d+", secret)]
    if re.sub(r"[\d\s/.,-]", "", secret) or not all(len(group) in (1, 2, 4) for group in groups):
        return
    bare = [group.lstrip("0") or "0" for group in groups]
    if len(bare) == 2:
        if len(groups[1]) in (2, 4) and 1 <= int(groups[0]) <= 12:
            yield "", int(groups[0]), groups[1]
    elif len(bare) == 3:
        if len(groups[0]) == 4:
            orders = [(bare[2], bare[1], groups[0])]
        else:
            orders = [(bare[0], bare[1], groups[2]), (bare[1], bare[0], groups[2])]
        yield from ((day, int(month), year) for day, month, year in orders if 1 <= int(month) <= 12)


def _years(year: str) -> set[str]:
    if len(year) not in (2, 4):
        return {year}
    centuries = {year[:2]} if len(year) == 4 else {"19", "20"}
    short = year[-2:]
    ways = {short, short.lstrip("0")}
    for century in centuries:
        ways |= {century + short, f"{century}00{short}", f"{century}00{short.lstrip('0')}"}
        if century.endswith("0"):
            ways |= {f"{century[0]}000{short}", f"{century[0]}000{short.lstrip('0')}"}
    return ways - {""}
