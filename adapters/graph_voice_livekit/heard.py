"""What was heard, aligned with what was generated.

LiveKit reports what was played as one text per reply. A reply may hold several messages of the graph, and the text may
differ from the generated one (aligned transcripts drop punctuation, a `transcription_node` edits), so it can't be
sliced by length.
"""

from difflib import SequenceMatcher

__all__ = ["split_heard"]


def split_heard(generated: list[tuple[str, str]], heard: str) -> dict[str, str]:
    """Message id -> what was heard of it.

    Args:
        generated: (message id, generated text), in the order in which they were spoken.
        heard: what was played of all of them.

    A message that nothing was heard of gets "".
    """
    if len(generated) == 1:
        return {generated[0][0]: heard}
    said: list[str] = []
    owner: list[int] = []
    for index, (_, text) in enumerate(generated):
        words = text.split()
        said += words
        owner += [index] * len(words)
    words = heard.split()
    matcher = SequenceMatcher(None, [_key(w) for w in said], [_key(w) for w in words], autojunk=False)
    belongs: list[int | None] = [None] * len(words)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            belongs[block.b + offset] = owner[block.a + offset]
    # A word that matches nothing (an edit) belongs to the message of the word before it.
    last = 0
    parts: list[list[str]] = [[] for _ in generated]
    for word, found in zip(words, belongs, strict=True):
        last = last if found is None else max(last, found)
        parts[last].append(word)
    result = {}
    for (message_id, text), part in zip(generated, parts, strict=True):
        # Whole messages keep their own white space.
        result[message_id] = text if part == text.split() else " ".join(part)
    return result


def _key(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum()) or word
