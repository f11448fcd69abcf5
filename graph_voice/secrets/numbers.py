"""Numbers in what people say: in digits, as speech recognition writes them, or in English words, digit by digit or
not."""

import re
import string
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

__all__ = ["NUMBER_WORDS", "Number", "Piece", "blunt_runs", "digits_of", "head_of", "numbers_in"]

_UNITS = {"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7"}
_UNITS |= {"eight": "8", "nine": "9", "oh": "0", "nought": "0", "niner": "9"}
_TEENS = {"ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15"}
_TEENS |= {"sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19"}
_TENS = {"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80"}
_TENS |= {"ninety": "90"}
_ROUND = {"hundred": "00", "thousand": "000"}
NUMBER_WORDS = {**_UNITS, **_TEENS, **_TENS, **_ROUND}
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_NO_LETTERS = re.compile(r"\d(?:[\d\W_]*\d)?")
_ANY_WORD = "|".join(NUMBER_WORDS)
_TIMES = {"double": 2, "triple": 3, "treble": 3}
_SOUNDS_LIKE = {"to": "2", "too": "2", "for": "4", "fore": "4", "won": "1", "ate": "8", "o": "0"}
"""Words that speech recognition may have written for a digit. They count as digits only between digits."""
_BETWEEN = frozenset({"and", "then", "um", "uh", "er", "dash", "minus", "space", "slash", "comma", "point", "stroke"})
"""What is said between the groups of one number."""
_MOST_BETWEEN = 2
ALIKE = 4
"""The number of shared digits in a row from which one number counts as an attempt to say another."""
LOOKED_AT = 20_000
"""Characters of a text that are read word by word, which takes about 10 ms. The rest is searched by `blunt_runs`:
nobody says that much in a turn, but it may be pasted, or come from a tool."""
_WORD = re.compile(r"\d+|[^\W\d_]+")


class Piece(NamedTuple):
    """One word of a number, or one group of digits."""

    start: int
    end: int
    digits: str
    sounds_like: str
    """As `digits`, but a word that only sounds like a digit counts as one."""


@dataclass(frozen=True)
class Number:
    """A run of digits in a text, however they are said."""

    pieces: tuple[Piece, ...]

    @property
    def start(self) -> int:
        return self.pieces[0].start

    @property
    def end(self) -> int:
        return self.pieces[-1].end

    @property
    def length(self) -> int:
        """The largest possible number of digits, counting words that only sound like one."""
        return sum(len(piece.sounds_like) for piece in self.pieces)

    @cached_property
    def readings(self) -> tuple[str, ...]:
        """The digits, and what they are when words that only sound like one count: once if that is the same."""
        sure, possible = "".join(p.digits for p in self.pieces), "".join(p.sounds_like for p in self.pieces)
        return (sure,) if sure == possible else (sure, possible)

    def find(self, digits: str, *, whole_pieces: bool) -> tuple[int, int] | None:
        """Where in the text these digits are said; None when they are not.

        A part of them also counts if it has at least 3 digits: people pause between groups.

        Args:
            digits: the digits to look for.
            whole_pieces: only accept a match that begins and ends with a word or a group of digits.
        """
        for said in ([p.digits for p in self.pieces], [p.sounds_like for p in self.pieces]):
            joined = "".join(said)
            if len(joined) >= 3 and joined in digits and not (whole_pieces and joined != digits):
                return self.start, self.end
            edges = [0]
            for piece in said:
                edges.append(edges[-1] + len(piece))
            at = joined.find(digits)
            while at >= 0:
                first = bisect_right(edges, at, 0, len(said)) - 1
                last = bisect_left(edges, at + len(digits), 1) - 1
                if not whole_pieces or (edges[first] == at and edges[last + 1] == at + len(digits)):
                    return self.pieces[first].start, self.pieces[last].end
                at = joined.find(digits, at + 1)
            if not whole_pieces and any(joined[i : i + ALIKE] in digits for i in range(len(joined) - ALIKE + 1)):
                return self.start, self.end  # an attempt that was broken off, or corrected
        return None


def numbers_in(text: str) -> list[Number]:
    """The numbers in a text, in order. Punctuation, and up to two words such as "and" or "dash", do not end one."""
    found: list[Number] = []
    run: list[Piece] = []
    between: list[Piece] = []

    def end() -> None:
        if run:
            found.append(Number(tuple(run)))
        run.clear()
        between.clear()

    for piece in _pieces(text):
        if piece is None:
            end()
        elif piece.digits:
            run += [*between, piece]
            between.clear()
        elif run:
            between.append(piece)
            if len(between) > _MOST_BETWEEN:
                end()
    end()
    return found


def _pieces(text: str) -> Iterator[Piece | None]:
    """The words that may be part of a number; None for any other."""
    words = [(m.start(), m.end(), m.group().lower()) for m in _WORD.finditer(text)]
    at = 0
    while at < len(words):
        start, end, word = words[at]
        digits = _digits(word)
        if word in _TIMES and at + 1 < len(words) and (unit := _digits(words[at + 1][2])):
            at, end = at + 1, words[at + 1][1]
            digits = unit[0] * _TIMES[word] + unit[1:] if words[at][2].isdecimal() else unit * _TIMES[word]
        elif word in _TENS and at + 1 < len(words) and words[at + 1][2] in _UNITS and words[at + 1][2] != "zero":
            at, end = at + 1, words[at + 1][1]
            digits = _TENS[word][0] + _UNITS[words[at][2]]  # "forty", "one": 41
        if digits:
            yield Piece(start, end, digits, digits)
        elif word in _SOUNDS_LIKE or word in _BETWEEN:
            yield Piece(start, end, "", _SOUNDS_LIKE.get(word, ""))
        else:
            yield None
        at += 1


def _digits(word: str) -> str:
    return digits_of(word) if word.isdecimal() else NUMBER_WORDS.get(word, "")


def digits_of(text: str) -> str:
    """The digits in a text, of any script, as `0` to `9`."""
    if text.isascii():
        return text if text.isdecimal() else text.encode().translate(None, _NO_DIGITS).decode()
    return "".join(str(unicodedata.decimal(c)) for c in text if c.isdecimal())


def blunt_runs(text: str, shortest: int) -> Iterator[tuple[int, int, str]]:
    """Start, end and digits of what may be numbers of so many digits or more, in text too long to be read word by word.

    They are runs of digits with no letter between them, and runs of so many words for digits. The digits of the latter
    are not read: "".
    """
    if not text:
        return
    for run in _NO_LETTERS.finditer(text):
        if len(run.group()) >= shortest and len(digits := digits_of(run.group())) >= shortest:
            yield run.start(), run.end(), digits
    spelled = rf"(?:{_ANY_WORD})(?:[^a-z0-9]+(?:{_ANY_WORD})){{{shortest - 1},}}"
    for run in re.finditer(spelled, text.translate(_LOWER)):  # faster than `re.IGNORECASE`; `lower` may change places
        yield run.start(), run.end(), ""


def head_of(text: str) -> int:
    """The length of the part of a text that is read word by word: all of it, unless it is very long."""
    if len(text) <= LOOKED_AT:
        return len(text)
    space = text.rfind(" ", 0, LOOKED_AT)
    return space if space > 0 else LOOKED_AT
