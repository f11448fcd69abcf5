"""Corrections: where a caller takes back what they have just said, and what they say instead.

"Saturday at eight, no wait, Sunday at eight", "A burger? Actually, no."
"""

import re
from dataclasses import dataclass

__all__ = ["Correction", "correction", "without_hesitation"]

_HESITATION = re.compile(r"(?i)(?<![\w'’-])(?:u+h+|u+m+|e+r+m*|h+m+|m+h+m+)(?![\w'’-])(?!-)\s*,?")
_BREAK = r"(?:[\s,.;:!?…–—-]+)"
_PAUSE = r"(?:\s*[,.;:!?…–—]+\s*|\s+[-–—]+\s+)"
_BEFORE = rf"(?:(?:oh|ah|well|and|but|or|so|sorry|hang\s+on|hold\s+on|hey|actually|no|wait){_BREAK})*"
# Said anywhere, these take something back. The others do it only between pauses: "there is no signal".
_ANYWHERE = rf"""
    no{_BREAK}(?:wait|hold\s+on|actually|sorry|no|scratch\s+that)(?:{_BREAK}(?:no|wait|sorry|actually)\b)*
    | wait{_BREAK}(?:no|actually)(?:{_BREAK}(?:no|wait|sorry|actually)\b)*
    | actually{_BREAK}(?:no|not|wait|never\s*mind)
    | scratch\s+that | strike\s+that | never\s*mind(?:\s+that)? | forget\s+(?:about\s+)?(?:it|that)
    | on\s+second\s+thoughts? | (?:i(?:['’]ve)?\s+)?changed\s+my\s+mind
    | i\s+(?:mean|meant)(?:\s+to\s+say)? | make\s+(?:that|it) | let\s+me\s+rephrase(?:\s+that)?
    | correction | or\s+rather
"""
_BETWEEN_PAUSES = r"no | nope | nah | wait | hold\s+on | hang\s+on | sorry | not | actually"
_TAKES_BACK = re.compile(
    rf"(?ix) {_BREAK} {_BEFORE}"
    rf"(?: (?:{_ANYWHERE})\b | (?<=[,.;:!?…–—\s]) (?:{_BETWEEN_PAUSES})(?=\s*[,.;:!?…–—]|\s*$) )"
    rf"(?:{_BREAK}(?:please|thanks|thank\s+you)\b)? "
)
_AFTER_A_PAUSE = re.compile(rf"(?ix) {_PAUSE} {_BEFORE} actually\b (?!\s*$)")
_AS_WELL = re.compile(r"(?i)^\W*(?:and|also|plus|add|with)\b|\b(?:also|too|as well|another|more)\b")


@dataclass(frozen=True)
class Correction:
    """What was said first, and what instead."""

    first: str
    instead: str

    @property
    def adds(self) -> bool:
        """Whether the second is said to come on top of the first: "no wait, and a coffee"."""
        return bool(_AS_WELL.search(self.instead))


def without_hesitation(text: str) -> str:
    """Leave out sounds that are no words: "Friday at, uh, seven"."""
    text = _HESITATION.sub("", text)
    return re.sub(r",(?=\s*,)", "", re.sub(r"\s+", " ", text)).strip(" ,")


def correction(text: str) -> Correction | None:
    """Split at the last place where something is taken back; None if nothing is.

    Words at the beginning take back nothing: "No, wait, I want ...".
    """
    found = [*_TAKES_BACK.finditer(text), *_AFTER_A_PAUSE.finditer(text)]
    places = [one for one in found if re.search(r"\w", text[: one.start()])]
    if not places:
        return None
    last = max(places, key=lambda one: one.end())
    return Correction(text[: last.start()].strip(), text[last.end() :].strip(" ,.;:!?…–—-"))
