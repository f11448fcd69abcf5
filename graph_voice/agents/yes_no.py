"""Yes and no, as callers say them: the plain cases, and what a model is asked about the others."""

import re
from typing import Literal

__all__ = ["READING", "Answer", "agrees", "plain_answer", "read_answer"]

Answer = Literal["yes", "no", "other"]
"""What the caller's words answer. "other": a change, a question, or something else altogether."""

_YES = "yes yeah yep yup sure ok okay correct right exactly absolutely definitely fine good agreed approve approved"
_NO = "no nope nah not never don't dont stop cancel"
_POLITE = "please thanks thank you that that's thats it it's its is do go ahead of course on all i agree and so the"
_AGREES, _DECLINES, _FILLS = frozenset(_YES.split()), frozenset(_NO.split()), frozenset(_POLITE.split())
_PHRASES = ("go ahead", "of course", "do it", "do that", "i agree", "please do", "go on")

READING = (
    "A caller on the phone was asked a question that takes yes or no. Read what they answered, and write one word. "
    "yes: they agree to exactly what was asked. no: they refuse it. other: anything else, such as a condition, a "
    "change, a question, or another subject. If in doubt, write other."
)
"""What a model is told that reads an answer which is not plain."""


def agrees(text: str) -> bool:
    """Whether these words say yes, and nothing more: "yes, but tomorrow" is another request."""
    said, plain = _words(text)
    found = bool(_AGREES & said) or any(re.search(rf"\b{phrase}\b", plain) for phrase in _PHRASES)
    return found and said <= _AGREES | _FILLS


def plain_answer(text: str) -> Answer | None:
    """Yes, or no, when these words say that and nothing more. None: it takes a model to read them."""
    if agrees(text):
        return "yes"
    said, plain = _words(text)
    mixed = any(re.search(rf"(?<!don't )(?<!dont )(?<!not )\b{phrase}\b", plain) for phrase in _PHRASES)
    return "no" if _DECLINES & said and said <= _DECLINES | _FILLS and not mixed else None


def read_answer(written: str) -> Answer:
    """What a model that was told `READING` has written."""
    found = re.fullmatch(r"\W*(yes|no)\W*", written.casefold())
    return "other" if found is None else "yes" if found[1] == "yes" else "no"


def _words(text: str) -> tuple[set[str], str]:
    said = re.findall(r"[\w']+", text.casefold().replace("\u2019", "'"))
    return {*said}, " ".join(said)
