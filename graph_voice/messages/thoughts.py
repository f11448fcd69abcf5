"""A model's thoughts in its text, in tags such as `<think>...</think>`: they are neither spoken nor remembered.

Open models write them so (Qwen, DeepSeek, Mistral and others, behind Ollama, vLLM or Groq), and not every server takes
them out. LiveKit's OpenAI plugin does the same for its models, for `<think>` only.
"""

import re

__all__ = ["ThoughtFilter", "without_thoughts"]

_NAMES = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "analysis"),
    *("chain_of_thought", "inner_thought", "inner_thoughts", "internal_thought", "internal_thoughts"),
    *("inner_monologue", "internal_monologue", "antthinking", "antml:thinking", "seed:think"),
)
"""The names in angle brackets, with or without attributes."""
_PAIRS = {
    "[think]": "[/think]",  # Mistral
    "\u25c1think\u25b7": "\u25c1/think\u25b7",  # Kimi
    "<|start_thinking|>": "<|end_thinking|>",  # Cohere
    "<|begin_of_thought|>": "<|end_of_thought|>",  # OpenThinker, Sky-T1
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",  # gpt-oss
    "<|channel|>commentary<|message|>": "<|channel|>final<|message|>",
}
"""Other spellings, each with what closes it."""
_MARKS = (
    *("<|begin_of_solution|>", "<|end_of_solution|>", "<|start_response|>", "<|end_response|>"),
    *("<|start|>assistant", "<|end|>", "<|return|>"),
)
"""What stands around the words of such models. It is taken out, too."""
_ATTRIBUTES = r"(?:\s[^<>]{0,100})?"
_NAME = "|".join(sorted(map(re.escape, _NAMES), key=len, reverse=True))


def _any(*literal: str) -> str:
    return "|".join(map(re.escape, literal))


_MARK = re.compile(rf"<(?:{_NAME})(?:\s[^<>]{{0,100}})?/>|{_any(*_MARKS)}", re.IGNORECASE)
_OPEN = re.compile(rf"<\s?(?:{_NAME}){_ATTRIBUTES}(?<!/)>|{_any(*_PAIRS)}", re.IGNORECASE)
_CLOSE = re.compile(rf"<\s?/\s?(?:{_NAME})\s?>|{_any(*_PAIRS.values())}", re.IGNORECASE)
_EITHER = re.compile(f"{_OPEN.pattern}|{_CLOSE.pattern}|{_MARK.pattern}", re.IGNORECASE)
_TAGS = (
    *(f"{begin}{name}{end}" for name in _NAMES for begin, end in (("<", ">"), ("</", ">"), ("<", "/>"))),
    *(*_PAIRS, *_PAIRS.values(), *_MARKS),
)
_UNENDED = re.compile(rf"<\s?(?:{_NAME})\s[^<>]{{0,100}}", re.IGNORECASE)
"""A tag whose attributes have not ended."""
_SPACE = re.compile(r"(?<=[</])\s|\s(?=/)|\s$")
_LONGEST = max(map(len, _TAGS)) + 3
_STARTS = frozenset(tag[0] for tag in _TAGS)


class ThoughtFilter:
    """Takes the thoughts out of a text that comes in pieces, however the tags are torn.

    Args:
        begins_with_thoughts: whether the model is known to close a thought that it has not opened (its template has
            opened it). Then nothing is given out before the closing tag, or before the end when there is none.
    """

    def __init__(self, *, begins_with_thoughts: bool = False) -> None:
        self.found = False
        """Whether there was a tag."""
        self.closes_only = False
        """Whether a thought was closed that nobody had opened."""
        self._unsure = "" if begins_with_thoughts else None
        self._thinking = False
        self._held = ""
        """The end of what came, when it may be the beginning of a tag."""
        self._after_tag = False
        """Whether nothing but white space has come since the last tag."""

    def feed(self, piece: str) -> str:
        """The words among what has come, without those that may belong to a tag."""
        if not piece:
            return ""
        text, self._held = self._held + piece, ""
        if self._unsure is not None:
            text, self._unsure = self._unsure + text, None
            if _EITHER.search(text) is None:
                self._unsure = text
                return ""
        if _STARTS.isdisjoint(text) and not self._thinking and not self._after_tag:
            return text
        words = ""
        while text:
            tag = (_CLOSE if self._thinking else _EITHER).search(text)
            if tag is None:
                start = _torn(text)
                text, self._held = text[:start], text[start:]
                words += "" if self._thinking else self._spoken(text)
                break
            before, text = text[: tag.start()], text[tag.end() :]
            closes = _CLOSE.fullmatch(tag[0]) is not None
            if not self._thinking and not closes:
                words += self._spoken(before)
            if not closes and _MARK.fullmatch(tag[0]) is not None:
                self._after_tag, self.found = self._after_tag or not before.strip(), True
                continue
            # What came in one piece with a lone closing tag is a thought.
            self.closes_only = self.closes_only or (closes and not self._thinking)
            self._thinking, self._after_tag, self.found = not closes, True, True
        return words

    def end(self) -> str:
        """The rest: what looked like the beginning of a tag, and is none. An open thought says nothing."""
        held, self._held = (self._unsure or "") + self._held, ""
        self._unsure = None
        return "" if self._thinking else self._spoken(held)

    def _spoken(self, text: str) -> str:
        if self._after_tag:
            text = text.lstrip()
            self._after_tag = not text
        return text


def without_thoughts(text: str) -> str:
    """A whole text without the thoughts in it."""
    if _STARTS.isdisjoint(text):
        return text
    thoughts = ThoughtFilter()
    return thoughts.feed(text) + thoughts.end()


def _torn(text: str) -> int:
    """Where the end of this text begins that may be the beginning of a tag; its length when there is none."""
    if (at := text.rfind("<")) >= 0 and _UNENDED.fullmatch(text, at):
        return at
    for start in range(max(0, len(text) - _LONGEST + 1), len(text)):
        if text[start] in _STARTS:
            end = _SPACE.sub("", text[start:].lower())
            if any(tag.startswith(end) for tag in _TAGS):
                return start
    return len(text)
