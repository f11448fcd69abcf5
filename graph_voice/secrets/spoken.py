"""Secrets that the caller says aloud: they are in the caller's words before any tool has taken them.

In a graph with a tool that takes a secret, numbers in the caller's words are redacted: what is stored, traced, carried
and shown has a mask in their place. Only the agent that was spoken to is shown the original words, if it takes secrets.
When such a tool has been called, its secrets are redacted for that agent as well, by their value.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage

from graph_voice.secrets.dates import dates_in, ways_to_write
from graph_voice.secrets.numbers import blunt_runs, head_of, numbers_in
from graph_voice.secrets.values import MASK, SHORTEST, Misplaced, Redacted, revealed_in, was_redacted

__all__ = [
    "close",
    "digits_said",
    "masked_places",
    "open_words",
    "redact",
    "redacted_digits",
    "taken",
    "texts_of",
    "words_of",
]

SHORT = 3
"""Digits of the shortest number that only an agent that takes secrets is shown: a card's security code."""
LONG = 13
"""Digits of the shortest number that is redacted whoever was spoken to: a card number."""

THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
"""Types of a provider's blocks that hold a model's reasoning."""

M = TypeVar("M", bound=BaseMessage)


@dataclass(frozen=True)
class _Said:
    """The original words, and the agents that may be shown them."""

    words: str
    agents: frozenset[str]

    @cached_property
    def digits(self) -> str:
        """The digits of the numbers in them that are redacted, one behind the other."""
        return digits_said(self.words)


def redact(message: M, agents: frozenset[str]) -> M:
    """The message with the numbers in its words redacted; the same object when there are none.

    Args:
        message: what the caller said.
        agents: the agents that were spoken to and take secrets. They are shown the original words.
    """

    def redacted(text: str) -> str:
        if isinstance(text, Redacted):
            return text
        shown = _without_numbers(text, SHORT if agents else LONG)
        if shown == text:
            return text
        return Redacted(_Said(text, agents), shown) if agents else shown

    return _with_texts(message, redacted)


def open_words(messages: Sequence[AnyMessage], agent: str) -> list[AnyMessage]:
    """Messages for this agent's prompt: with the original words that it may be shown."""
    return [
        _with_texts(m, lambda text: _open(text, agent))
        if isinstance(m, HumanMessage)
        else _with_own_thoughts(m)
        if isinstance(m, AIMessage) and m.name == agent
        else m
        for m in messages
    ]


def _with_own_thoughts(message: AIMessage) -> AIMessage:
    """An agent's message with its own reasoning as it was: providers refuse one that was changed."""
    if not isinstance(message.content, list):
        return message
    blocks = [
        {k: revealed_in(v) for k, v in block.items()}
        if isinstance(block, dict) and any(map(was_redacted, block.values())) and block.get("type") in THOUGHTS
        else block
        for block in message.content
    ]
    same = all(new is old for new, old in zip(blocks, message.content, strict=True))
    return message if same else message.model_copy(update={"content": blocks})


def words_of(message: BaseMessage) -> str:
    """Everything that was said, for a tool that asked for it."""
    return _with_texts(message, lambda text: _open(text, None)).text


def digits_said(text: str) -> str:
    """The digits of all numbers in a text that the caller may have meant as secrets, one behind the other."""
    head = head_of(text)
    found = [reading for n in numbers_in(text[:head]) if n.length >= SHORT for reading in n.readings[:1]]
    return "".join([*found, *(run for _, _, run in blunt_runs(text[head:], SHORT))])


def redacted_digits(message: BaseMessage) -> str:
    """The digits that are redacted in the caller's words, one behind the other, as far as this process knows them."""
    return "".join(
        text.secret.digits
        for text in texts_of(message)
        if isinstance(text, Redacted) and isinstance(text.secret, _Said)
    )


def texts_of(message: BaseMessage) -> list[str]:
    """The texts in a message's content."""
    blocks = [message.content] if isinstance(message.content, str) else message.content
    found = (block.get("text") if isinstance(block, Mapping) else block for block in blocks)
    return [text for text in found if isinstance(text, str)]


def taken(args: Any) -> list[str]:
    """The secrets among the arguments of a tool call, the longest first."""
    secrets = (secret for secret in _redacted_in(args) if not isinstance(secret, Misplaced))
    found = {str(value) for secret in secrets if (value := secret.get_secret_value()) not in (None, "")}
    return sorted(found, key=len, reverse=True)


def close(messages: Iterable[AnyMessage], secrets: Sequence[str]) -> list[AnyMessage]:
    """The messages whose words contain one of these secrets, with it redacted for every agent.

    Args:
        messages: the conversation. Of the agents' words, only those before the caller's last words are searched.
        secrets: those of `taken`.
    """
    found = list(messages)
    last = max((i for i, m in enumerate(found) if isinstance(m, HumanMessage)), default=-1)
    closed = []
    for index, message in enumerate(found):
        if isinstance(message, HumanMessage):
            made: AnyMessage = _with_texts(message, lambda text: _closed(text, secrets))
        elif isinstance(message, AIMessage) and index < last:
            long = [s for s in secrets if len(s) >= SHORTEST]
            made = _with_texts(message, lambda text, long=long: _closed(text, long))  # type: ignore[misc]
        else:
            continue
        if made is not message:
            closed.append(made)
    return closed


# ---- texts


def _with_texts(message: M, change: Callable[[str], str]) -> M:
    content = message.content
    if isinstance(content, str):
        made: Any = change(content)
        return message if made is content else message.model_copy(update={"content": made})
    blocks: list[Any] = [_with_text(block, change) for block in content]
    same = all(new is old for new, old in zip(blocks, content, strict=True))
    return message if same else message.model_copy(update={"content": blocks})


def _with_text(block: Any, change: Callable[[str], str]) -> Any:
    if isinstance(block, str):
        return change(block)
    text = block.get("text") if isinstance(block, Mapping) else None
    if not isinstance(text, str) or (made := change(text)) is text:
        return block
    return {**block, "text": made}


def _open(text: str, agent: str | None) -> str:
    if isinstance(text, Redacted) and isinstance(text.secret, _Said) and (agent is None or agent in text.secret.agents):
        return text.secret.words
    return text


def _closed(text: str, secrets: Sequence[str]) -> str:
    if not (isinstance(text, Redacted) and isinstance(text.secret, _Said)):
        made = _without(text, secrets)
        return text if made == text else made
    said = text.secret
    words, shown = _without(said.words, secrets), _without(str.__str__(text), secrets)
    if words == said.words:
        return text
    if _without_numbers(words, SHORT) == words:
        return shown  # nothing else is redacted
    return Redacted(_Said(words, said.agents), shown)


def _without_numbers(text: str, shortest: int) -> str:
    """A text without its numbers of so many digits, and without dates if short numbers are meant."""
    head = head_of(text)
    shown = text[:head]
    places = [(n.start, n.end) for n in numbers_in(shown) if n.length >= shortest]
    if shortest < LONG:
        places += [(date.start, date.end) for date in dates_in(shown)]
    places += [(head + start, head + end) for start, end, _ in blunt_runs(text[head:], shortest)]
    return masked_places(text, places)


def _without(text: str, secrets: Sequence[str]) -> str:
    """A text without these secrets, as they are written and, for numbers and dates, as they are said."""
    for secret in secrets:
        text = masked_places(text, list(_places(text, secret)))
        if len(secret) >= SHORTEST:
            text = re.sub(re.escape(secret), MASK, text, flags=re.IGNORECASE)
    return text


def _places(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Where a secret that is a number, or a date, is said."""
    digits = re.sub(r"[\s/.,-]", "", secret)
    is_number = digits.isdecimal() and len(digits) >= SHORT
    ways = ways_to_write(secret)
    if not is_number and not ways:
        return
    head = head_of(text)
    shown = text[:head]
    groups = {group.lstrip("0") for group in re.findall(r"\d+", secret)}
    for number in numbers_in(shown):
        if any((None, reading) in ways for reading in number.readings):
            yield number.start, number.end
        elif not is_number:
            continue
        elif (
            number.length >= SHORT
            and len(groups) > 1
            and groups.issuperset(p.digits.lstrip("0") for p in number.pieces)
        ):
            yield number.start, number.end
        elif (found := number.find(digits, whole_pieces=len(digits) < SHORTEST)) is not None:
            yield found
    yield from ((date.start, date.end) for date in dates_in(shown) if (date.month, date.digits) in ways)
    for start, end, run in blunt_runs(text[head:], SHORT):
        if not run or digits in run or run in digits:
            yield head + start, head + end


def masked_places(text: str, places: Sequence[tuple[int, int]]) -> str:
    """A text with a mask in these places, which may overlap."""
    parts, at = list[str](), 0
    for start, end in sorted(places):
        if start >= at:
            parts += [text[at:start], MASK]
        at = max(at, end)
    return "".join([*parts, text[at:]]) if parts else text


def _redacted_in(data: Any) -> Iterator[Any]:
    if isinstance(data, Redacted):
        yield data.secret
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _redacted_in(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _redacted_in(value)
