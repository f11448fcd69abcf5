"""Aligns what was heard with what was generated.

LiveKit reports what was played as one text per reply. A reply may hold several messages of the graph, and the text may
differ from the generated one (aligned transcripts drop punctuation, a `transcription_node` edits), so it can't be cut
by length. It is cut where its words match the beginning of the next message.
"""

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["split_heard"]

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’][^\W_{_UNSPACED}]+)*|(?<!\S)[^\w\s]+(?!\S)")
"""A word; a character of a script without spaces between words; or a sign that stands alone, such as an emoji."""
_WINDOW = 48
"""How many words of each side are compared at a time where no unique word aligns them."""


class _Token(NamedTuple):
    key: str
    start: int
    end: int


def split_heard(generated: Sequence[tuple[str, str]], heard: str, *, interrupted: bool = True) -> dict[str, str]:
    """Message id -> what was heard of it.

    Args:
        generated: (message id, generated text), in the order in which they were spoken.
        heard: what was played of them.
        interrupted: whether the rest may have been cut off. False: everything was played, so a difference is an edit.

    A message of which nothing was heard gets "". No word is lost, and the messages get the words in order. The time
    needed grows with the length of the texts, however different they are.
    """
    if not generated:
        return {}
    parts = [heard]
    if len(generated) > 1:
        cuts = _cuts([text for _, text in generated], heard, interrupted)
        parts = [heard[start:end] for start, end in zip([0, *cuts], [*cuts, len(heard)], strict=True)]
    return {message_id: _own_spacing(text, part) for (message_id, text), part in zip(generated, parts, strict=True)}


def _cuts(texts: Sequence[str], heard: str, interrupted: bool) -> list[int]:
    """Where in `heard` each message but the first begins."""
    said: list[str] = []
    owner: list[int] = []
    for index, text in enumerate(texts):
        keys = [token.key for token in _tokens(text)]
        said += keys
        owner += [index] * len(keys)
    words = _tokens(heard)
    owners = _owners(said, owner, [w.key for w in words], interrupted)
    cuts: list[int] = []
    for index in range(1, len(texts)):
        first = bisect_left(owners, index)
        cuts.append(_begin(heard, words, first) if first < len(words) else len(heard))
    return cuts


def _begin(heard: str, words: Sequence[_Token], position: int) -> int:
    """Where this word begins, including a sign before it: an opening bracket belongs to it, a period does not."""
    start = words[position].start
    before = words[position - 1].end if position else 0
    return next((at for at in range(start, before, -1) if heard[at - 1].isspace()), start if position else 0)


def _tokens(text: str) -> list[_Token]:
    return [_Token(_key(found[0]), found.start(), found.end()) for found in _TOKEN.finditer(text)]


def _key(word: str) -> str:
    if word.isascii():
        return "".join(c for c in word.lower() if c.isalnum()) or word
    plain = "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if c.isalnum())
    return plain or word


def _owners(said: Sequence[str], owner: Sequence[int], words: Sequence[str], interrupted: bool) -> list[int]:
    """The index of the message of each word that was heard, in ascending order."""
    pairs = _matches(said, owner, words, interrupted)
    owners: list[int] = []
    before = -1
    # An edit replaces the words that were said at its place, one by one or in proportion.
    for s, w in [*pairs, (len(said), len(words))]:
        count, room = w - len(owners), s - before - 1
        whole = s < len(said) or not interrupted  # both ends of the gap are known
        for number in range(count):
            step = number * room // count if whole else min(number, room - 1)
            place = before + 1 + step if room > 0 else max(before, 0)
            owners.append(max(owner[place], owners[-1] if owners else 0) if owner else 0)
        if w < len(words):
            owners.append(owner[s])
            before = s
    return owners


def _matches(
    said: Sequence[str], owner: Sequence[int], words: Sequence[str], interrupted: bool
) -> list[tuple[int, int]]:
    """Pairs of places with the same word, ascending on both sides."""
    head = 0
    while head < len(said) and head < len(words) and said[head] == words[head]:
        head += 1
    s, w = len(said), len(words)
    if not interrupted:
        while s > head and w > head and said[s - 1] == words[w - 1]:
            s, w = s - 1, w - 1
    pairs = [(i, i) for i in range(head)]
    before = (head - 1, head - 1)
    for after in [*_anchors(said, words, head, s, w), (s, w)]:
        start, end = (before[0] + 1, before[1] + 1), after
        # Within one message a gap need not be aligned.
        if (
            start[0] < end[0]
            and start[1] < end[1]
            and owner[max(start[0] - 1, 0)] != owner[min(end[0], len(owner) - 1)]
        ):
            pairs += _align(said, words, start, end)
        if after != (s, w):
            pairs.append(after)
        before = after
    return pairs + [(s + i, w + i) for i in range(len(said) - s)] if not interrupted else pairs


def _anchors(said: Sequence[str], words: Sequence[str], head: int, s: int, w: int) -> list[tuple[int, int]]:
    """Words that occur once on each side: the longest sequence with the same order on both."""
    theirs, ours = Counter(said[head:s]), Counter(words[head:w])
    places = {key: at for at, key in enumerate(words[head:w], head) if ours[key] == 1}
    found = [(at, places[key]) for at, key in enumerate(said[head:s], head) if key in places and theirs[key] == 1]
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for index, (_, place) in enumerate(found):
        at = bisect_left(tails, place)
        previous.append(ends[at - 1] if at else -1)
        tails[at : at + 1] = [place]
        ends[at : at + 1] = [index]
    chain: list[tuple[int, int]] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(found[index])
        index = previous[index]
    return chain[::-1]


def _align(
    said: Sequence[str], words: Sequence[str], start: tuple[int, int], end: tuple[int, int]
) -> list[tuple[int, int]]:
    """The most pairs of equal words between two places; of equally many, the earliest."""
    (i, j), (rows, columns) = start, end
    pairs: list[tuple[int, int]] = []
    while True:
        while i < rows and j < columns and said[i] == words[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        height, width = min(rows - i, _WINDOW), min(columns - j, _WINDOW)
        found = _most(said[i : i + height], words[j : j + width])
        if height < rows - i or width < columns - j:
            # The next window may find a better pair for what is near the end of this one.
            found = [(a, b) for a, b in found if a < _WINDOW // 2 and b < _WINDOW // 2] or found[:1]
        if not found:
            return pairs
        pairs += [(i + a, j + b) for a, b in found]
        i, j = pairs[-1][0] + 1, pairs[-1][1] + 1


def _most(said: Sequence[str], words: Sequence[str]) -> list[tuple[int, int]]:
    best = [[0] * (len(words) + 1) for _ in range(len(said) + 1)]
    for a in range(len(said) - 1, -1, -1):
        row, below, key = best[a], best[a + 1], said[a]
        for b in range(len(words) - 1, -1, -1):
            row[b] = below[b + 1] + 1 if key == words[b] else max(below[b], row[b + 1])
    pairs = []
    a = b = 0
    while best[a][b]:
        if said[a] == words[b]:
            pairs.append((a, b))
            a, b = a + 1, b + 1
        elif best[a][b + 1] == best[a][b]:
            b += 1
        else:
            a += 1
    return pairs


def _own_spacing(text: str, heard: str) -> str:
    """What was heard, with the white space of the text if the text begins with it otherwise."""
    if text.split() == heard.split():
        return text
    letters = re.sub(r"\s", "", heard)
    end = count = 0
    for end, letter in enumerate(text):
        if count == len(letters):
            return text[:end]
        if letter.isspace():
            continue
        if letter != letters[count]:
            return heard.strip()
        count += 1
    return text if count == len(letters) else heard.strip()
