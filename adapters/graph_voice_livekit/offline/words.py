"""The words of a sentence as the intent router weighs them: courtesy, content, negation, clauses."""

import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = [
    "asks_a_fact",
    "clauses",
    "content",
    "gist",
    "is_negated",
    "same_key",
    "says_more",
    "sentences",
    "vocabulary",
]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_YES = {"yes", "yeah", "yep", "yup", "sure", "okay", "ok", "alright", "absolutely", "definitely", "certainly"}
_NO = {"no", "nope", "nah"}
_COURTESY = _set("please thanks thank you uh um er hmm oh well so just actually then now sorry excuse me right kindly")
_AROUND_NAMES = _set(
    "hi hello hey good morning it it's is i i'm am my name name's the this that that's and here speaking"
)
# Words that say nothing about what is wanted.
_EMPTY = _set("""
    a an the i me my mine we us our you your it its this that these those he she they them his her their to of in on at
    for from with by about as is am are was were be been being do does did have has had having can could would will
    shall should may might must and or but so if then there here plus 'd 'll 've 're 'm 's i'm i'd i'll i've it's that's
    you're you've we're we'd we'll we've there's what's who's where's when's he's she's let's lets what when where who
    how why which really very also too some any one ones more lot like want wanted need get got give take taking make
    let go come put have gonna wanna guess think believe maybe perhaps um uh hmm er oh well okay ok yes yeah yep sure
    alright right please thanks thank actually just now hi hello hey sorry excuse fine good great perfect sounds works
    not no never don't doesn't didn't can't cannot won't isn't aren't wasn't haven't hasn't couldn't wouldn't
    work still again speaking already
""")
_NEGATION = re.compile(
    r"\b(?:not|never|cannot|neither|nor|without|nobody|nothing|none|stop|cancel|\w+n['’]t|(?:ca|do|wo|is|are|does|did)nt|hardly)\b|\bno\b(?!\s*[,.!]|\s*$)",
    re.IGNORECASE,
)
_WISH_NEGATION = re.compile(
    r"\b(?:do not|don['’]?t|never|not going to|no longer|won['’]?t|(?:would|rather|please|am|\w['’]m|['’]d)\s+not"
    r"|wouldn['’]?t|didn['’]?t|did not|haven['’]?t|have not|no need|without|instead of|stop|cancel)\b",
    re.IGNORECASE,
)
_ALREADY = re.compile(r"\balready\b", re.IGNORECASE)
_FACT_QUESTION = re.compile(
    r"(?:(?:and|but|so|oh|um|uh|well|sorry|wait|hello|hi|hey|okay|ok|please)[\s,]+)*"
    r"(?:is|are|was|were|does|did|isn['’]t|aren['’]t|why|who|whose|which|what(?!\s+about)(?:['’]s)?|how(?!\s+about)|when|where)\b",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(r"[,;:–—]+|\b(?:and|but|so|because|or|then|plus)\b", re.IGNORECASE)


def sentences(text: str) -> list[str]:
    """Split at the ends of sentences."""
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+", text.strip()) if sentence]


def clauses(sentence: str) -> list[str]:
    """Split at commas and conjunctions."""
    return [clause for clause in _CLAUSE_ENDS.split(sentence) if clause.strip()]


def gist(text: str) -> str:
    """Leave out sentences of one or two words ("Hello.", "Of course.") if there is a longer one."""
    found = sentences(text)
    return " ".join([sentence for sentence in found if len(sentence.split()) > 2] or found)


def _plain(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower().replace("’", "'"))


@lru_cache(maxsize=4096)
def same_key(text: str, *, courteous: bool = False) -> tuple[str, ...]:
    """Return the words without marks and case: what is the same sentence has the same key.

    With `courteous`, words of courtesy don't count, and one yes or no is as good as another.
    """
    words = _plain(text)
    if not courteous:
        return tuple(words)
    kept = ["yes" if word in _YES else "no" if word in _NO else word for word in words if word not in _COURTESY]
    return tuple(word for place, word in enumerate(kept) if kept[place - 1 : place] != [word])


@lru_cache(maxsize=4096)
def content(text: str) -> frozenset[str]:
    """Return the words that say what is wanted, without endings."""
    found = [word for word in _plain(text) if word not in _EMPTY and not word.isdecimal()]
    return frozenset(_stem(word) for word in found)


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """Return all content words of `texts`."""
    return frozenset().union(*map(content, texts))


def is_negated(text: str, like: str = "") -> bool:
    """Whether `text` says no to something, or that it is done, and `like`, which it resembles, does not."""
    if _ALREADY.search(text) and not _ALREADY.search(like):
        return True
    if _WISH_NEGATION.search(text):
        return not _WISH_NEGATION.search(like)
    return bool(_NEGATION.search(text)) and not _NEGATION.search(like)


def says_more(text: str) -> bool:
    """Whether there are other words than those that people say around their name."""
    return bool({word for word in _plain(text) if not word.isdecimal()} - _COURTESY - _YES - _AROUND_NAMES)


def asks_a_fact(sentence: str) -> bool:
    """Whether the sentence asks for something that is known ("Is it Friday?"), instead of saying or wishing it."""
    return bool(_FACT_QUESTION.match(sentence.strip())) and sentence.rstrip().endswith("?")


def _stem(word: str) -> str:
    return re.sub(r"(?<=\w{3})(?:'s|ings?|ed|es|s|e)$", "", word)
