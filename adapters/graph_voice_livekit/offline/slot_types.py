"""The types of slots: which of a caller's words a slot takes, and the value that they are.

A type takes what it knows and nothing else: no type takes any words.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

__all__ = [
    "ANSWERS",
    "DAYS",
    "END",
    "MONTHS",
    "NAME_IN_ANY_CASE",
    "ORDINALS",
    "SLOT_TYPES",
    "SlotType",
    "SlotValue",
    "any_of",
    "spoken_digits",
    "spoken_integer",
]

SlotValue = str | int | float


def _list(words: str) -> list[str]:
    return words.split()


_UNITS = _list("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""")
_TENS = dict(zip(_list("twenty thirty forty fifty sixty seventy eighty ninety"), range(20, 100, 10), strict=True))
ORDINALS = _list("""
    first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
    sixteenth seventeenth eighteenth nineteenth twentieth
""")
_DIGITS = {"oh": "0", "o": "0", **{word: str(place) for place, word in enumerate(_UNITS[:10])}}
_TIMES = {"double": 2, "triple": 3}
MONTHS = _list("january february march april may june july august september october november december")
DAYS = _list("monday tuesday wednesday thursday friday saturday sunday")


def any_of(words: object) -> str:
    """A regex for one of the words, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))  # type: ignore[call-overload]


_NUMBER_WORD = rf"(?:{any_of([*_UNITS, *_TENS, 'hundred'])})\b"
_INTEGER = rf"\b(?:\d{{1,9}}\b|(?:an?[\s-]+(?=hundred))?{_NUMBER_WORD}(?:[\s-]+(?:and[\s-]+)?{_NUMBER_WORD})*)"
# A number of one word, or of two that belong together ("twenty-five"): "two thirty" is two of them.
_SHORT = rf"(?:(?:{any_of(_TENS)})[\s-]+(?:{any_of(_UNITS[1:10])})\b|{_NUMBER_WORD})"
_COUNTS = {"a couple of": 2, "a pair of": 2, "half a dozen": 6, "a dozen": 12, "a": 1, "an": 1, "another": 1}
# Words that are not part of a name, although a transcript may capitalize them.
_NO_NAMES = _list(f"""
    i my it and but or so the a an not yes yeah yep no nope hello hi hiya hey okay ok all fine sure right well um uh
    sorry excuse pardon thanks thank please wait stop really exactly nothing nobody none why what who how where when
    which help good great perfect correct wrong here there this that these those is am are was were be been on in at
    to of for from with by about as if than too very just only also still now then again already maybe perhaps calling
    called looking trying going having interested afraid unsure busy done ready new private secret important hard easy
    spelled spelt misspelled different his her your our their mine me you he she we they one's someone somebody anyone
    guess later soon whatever whenever nevermind sometime skip pass wow cool nice true false back almost
    anybody something anything everything can could would will do does did have has had never ever hang hold give let
    american british canadian english french german italian spanish mexican dutch irish scottish polish chinese
    japanese indian australian {" ".join(MONTHS[:3] + MONTHS[6:])} {" ".join(DAYS)} today tomorrow tonight
""")
_NOT_A_NAME = rf"(?!(?i:(?:{'|'.join(_NO_NAMES)})\b|{_NUMBER_WORD}))"
_NAME_WORD = rf"{_NOT_A_NAME}[A-ZÀ-Þ][\w'’-]*"
_PLAIN_NAME = rf"{_NOT_A_NAME}[a-zà-ÿ][\w'’-]*"
_WORD = r"\w[\w'’-]*"
# Where free words and integers end: "I'm 34, ..." gives 34, "I'm 5 minutes late" gives nothing.
END = r"(?=\s*(?:$|[.,!?;:]|(?i:and|but|or|so|now|years?|i|i['’]m|my)\b))"

_ORDINAL = rf"(?:\d{{1,2}}(?:st|nd|rd|th)?|(?:(?:twenty|thirty)[\s-]+)?(?:{any_of([*ORDINALS, 'thirtieth'])}))\b"
_MONTH = rf"(?:{any_of([*MONTHS, *(month[:3] + chr(92) + '.?' for month in MONTHS)])})"
_DAY_OF_MONTH = rf"(?:(?:the\s+)?{_ORDINAL}\s+(?:of\s+)?{_MONTH}\b|{_MONTH}\s+(?:the\s+)?{_ORDINAL})"
_YEAR_WORD = rf"(?:{any_of([*_UNITS[1:], *_TENS, 'thousand', 'hundred', 'oh'])})\b"
_YEAR = (
    rf"(?:[12]\d{{3}}\b|(?:nineteen|twenty|two\s+thousand)(?:[\s-]+(?:and\s+)?{_YEAR_WORD}){{1,3}}|two\s+thousand\b)"
)
_DATE = rf"(?:\b\d{{4}}-\d{{2}}-\d{{2}}\b|\b\d{{1,2}}/\d{{1,2}}/\d{{4}}\b|\b{_DAY_OF_MONTH},?\s+{_YEAR})"
_PART = r"(?:morning|afternoon|evening|night|noon)\b"
_DAY = (
    rf"(?:\b(?:(?:this|next|coming)\s+)?(?:{any_of(DAYS)})(?:\s+(?:morning|afternoon|evening|night))?\b"
    rf"|\b(?:today|tonight|tomorrow|the\s+day\s+after\s+tomorrow)(?:\s+{_PART})?"
    rf"|\bthis\s+{_PART}|{_DATE}|\b{_DAY_OF_MONTH})"
)
_HOUR = rf"(?:\d{{1,2}}|(?:{any_of(_UNITS[1:13])})\b)"
_MERIDIEM = r"(?:\s*[ap]\.?m\b\.?)"
_MARKED = (
    rf"(?:\b\d{{1,2}}[:.]\d{{2}}\b{_MERIDIEM}?|\b{_HOUR}(?:[\s-]+(?:fifteen|thirty|forty[\s-]five))?{_MERIDIEM}"
    rf"|\b{_HOUR}\s+o['’]?\s?clock|\b(?:half|(?:a\s+)?quarter|{_SHORT})\s+(?:past|to)\s+{_HOUR}"
    r"|\bnoon\b|\bmidday\b|\bmidnight\b)(?:\s+(?:in\s+the\s+(?:morning|afternoon|evening)|at\s+night))?"
)
_PLAIN = (
    rf"\b{_HOUR}(?:[\s-]+(?:fifteen|thirty|forty[\s-]five))?(?:\s+(?:in\s+the\s+(?:morning|afternoon|evening)"
    r"|at\s+night|sharp))?\b(?!\s*(?:people|persons|guests|of\s+us|dollars|years))"
)
_AT = r"(?:,?\s+(?:at|around|about|by)\s+|,?\s+)"
_CLOCK = rf"(?:{_MARKED}|(?<=at\s){_PLAIN}|\b{_HOUR}\s+in\s+the\s+(?:morning|afternoon|evening))"
_TIME = rf"(?:{_DAY}{_AT}(?:{_MARKED}|{_PLAIN})|(?:{_MARKED}|{_PLAIN})(?:\s+on\s+|,?\s+){_DAY}|{_CLOCK}|{_DAY})"

_DIGIT = rf"(?:\d|\b(?:(?:{any_of(_TIMES)})\s+)?(?:{any_of(_DIGITS)})\b)"
_RUN = rf"(?:\+\s?)?\(?{_DIGIT}(?:[\s,.()/-]*{_DIGIT})+"
_EMAIL_PART = r"[\w+-]+"
_DOT = r"(?:\s*\.\s*|\s+dot\s+)"
_JOIN = rf"(?:{_DOT}|\s+(?:underscore|dash|hyphen|plus)\s+)"
_EMAIL = (
    rf"\b(?!(?i:it|its|is|my|the|at|address|email|to)\b){_EMAIL_PART}(?:{_JOIN}{_EMAIL_PART})*(?:\s*@\s*|\s+at\s+){_EMAIL_PART}(?:(?:{_DOT}|\s+(?:dash|hyphen)\s+){_EMAIL_PART})*"
    rf"{_DOT}[a-z]{{2,24}}\b"
)
_AMOUNT = (
    rf"(?:[$€£]\s?\d{{1,6}}(?:[.,]\d{{2}})?\b|\b\d{{1,6}}[.]\d{{2}}\b|{_INTEGER})"
    rf"(?:\s+(?:dollars?|euros?|pounds?|bucks)\b(?:\s+(?:and\s+)?{_INTEGER}\s+cents?\b)?)?"
)


def spoken_integer(text: str) -> int | None:
    """Return the integer that `text` is, in digits or (below 1000) in words: "34", "thirty-four".

    What is no single number ("five six", "nineteen eighty") gives None.
    """
    words = [word for word in re.split(r"[\s-]+", text.strip(" .,!?").lower()) if word not in ("and", "")]
    if len(words) == 1 and words[0].isdecimal():
        return int(words[0])
    total, room = 0, 1000  # `room`: what comes next must be less
    for place, word in enumerate(words):
        if word in ("a", "an") and place == 0 and words[1:2] == ["hundred"]:
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


def spoken_digits(text: str) -> str:
    """Return the digits of `text`, one by one: "oh five, double two" is "0522"."""
    found, times = "+" if text.strip().startswith("+") else "", 1
    for word in re.findall(r"\d|[a-z]+", text.lower()):
        if word in _TIMES:
            times = _TIMES[word]
        elif digit := word if word.isdecimal() else _DIGITS.get(word):
            found, times = found + digit * times, 1
    return found


def _count(text: str) -> int | None:
    return _COUNTS.get(" ".join(text.lower().split())) or spoken_integer(text)


def _amount(text: str) -> int | float | None:
    if figures := re.search(r"\d+(?:[.,]\d{2})?(?!\d)", text):
        number = float(figures[0].replace(",", "."))
        return int(number) if number.is_integer() else number
    whole, _, cents = re.sub(r"\s*cents?$", "", text.lower()).partition("dollar")
    dollars, part = spoken_integer(whole), spoken_integer(cents.lstrip("s"))
    return dollars if dollars is None or part is None else dollars + part / 100


def _year(text: str) -> str | None:
    words = re.split(r"[\s-]+", text.replace("oh", "zero"))
    if words[0].isdecimal():
        return text
    if words[:2] == ["two", "thousand"]:
        return str(2000 + (spoken_integer(" ".join(words[2:])) or 0))
    century, rest = spoken_integer(words[0]), [word for word in words[1:] if word not in ("hundred", "and")]
    years = spoken_integer(" ".join(rest)) if rest[:1] != ["zero"] else spoken_integer(" ".join(rest[1:]))
    return f"{century}{years or 0:02}" if century in (19, 20) and (years or 0) < 100 else None


def _date(text: str) -> str | None:
    """Return a day of the calendar as 1980-05-03."""
    text = re.sub(r"\b(?:the|of)\b|[,.]", " ", text.lower())
    found = re.search(rf"\s({_YEAR})\s*$", text)
    if found and not found[1].isdecimal():
        text = f"{text[: found.start()]} {_year(found[1])}"
    for place, word in enumerate(ORDINALS, 1):
        for tens, more in (("twenty", 20), ("thirty", 30)):
            text = re.sub(rf"\b{tens}[\s-]+{word}\b", str(place + more), text)
        text = re.sub(rf"\b{word}\b", str(place), text)
    text = re.sub(r"\bthirtieth\b", "30", re.sub(r"\b(\d{1,2})(?:st|nd|rd|th)\b", r"\1", text))
    for form in ("%Y-%m-%d", "%B %d %Y", "%d %B %Y", "%b %d %Y", "%d %b %Y", "%m/%d/%Y"):
        with suppress(ValueError):
            return datetime.strptime(" ".join(text.split()), form).date().isoformat()
    return None


def _email(text: str) -> str:
    for spoken, sign in (("dot", "."), ("at", "@"), ("underscore", "_"), ("dash|hyphen", "-"), ("plus", "+")):
        text = re.sub(rf"(?i)\s+(?:{spoken})\s+", sign, text)
    return re.sub(r"\s*([.@])\s*", r"\1", text).lower()


def _name(text: str) -> str:
    return " ".join(word.capitalize() for word in text.split()) if text.islower() else text


def _words(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class SlotType:
    """Which words a slot of this type takes, and what they are."""

    regex: str
    value: Callable[[str], SlotValue | None]


SLOT_TYPES = {
    "name": SlotType(rf"\b{_NAME_WORD}(?:\s+{_NAME_WORD}){{0,2}}", _name),
    "words": SlotType(rf"(?!(?i:not|none|no|just|a|the|very)\b){_WORD}(?:\s+{_WORD}){{0,3}}?", _words),
    "integer": SlotType(f"(?i:{_INTEGER})", spoken_integer),
    "count": SlotType(rf"(?i:\b(?:{any_of(_COUNTS)})\b|{_INTEGER})", _count),
    "amount": SlotType(f"(?i:{_AMOUNT})", _amount),
    "time": SlotType(f"(?i:{_TIME})", _words),
    "date": SlotType(f"(?i:{_DATE})", _date),
    "email": SlotType(f"(?i:{_EMAIL})", _email),
    "digits": SlotType(f"(?i:{_RUN})", spoken_digits),
    "phone": SlotType(f"(?i:{_RUN})", spoken_digits),
}
NAME_IN_ANY_CASE = rf"\b(?:{_NAME_WORD}(?:\s+{_NAME_WORD}){{0,2}}|{_PLAIN_NAME}(?:\s+{_PLAIN_NAME}){{0,2}}{END})"
"""A name where the words before it say that it is one: "my name is ann"."""
ANSWERS = frozenset({"time", "date", "email", "phone", "choice", "regex", "listed"})
"""Types whose words say by themselves what they are: they need no question before them."""
