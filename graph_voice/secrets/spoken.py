"""Secrets that the caller says aloud: they are in the caller's words before any tool has taken them.

In a graph with a tool that takes a secret, numbers in the caller's words are redacted: what is stored, traced, carried
and shown has a mask in their place. Only the agent that was spoken to is shown the original words, if it takes secrets.
When such a tool has been called, its secrets are redacted for that agent as well, by their value.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage

from graph_voice.secrets.numbers import numbers_in
from graph_voice.secrets.values import MASK, SHORTEST, Redacted

__all__ = ["close", "open_words", "redact", "taken", "words_of"]

SHORT = 3
"""Digits of the shortest number that only an agent that takes secrets is shown: a card's security code."""
LONG = 13
"""Digits of the shortest number that is redacted whoever was spoken to: a card number."""

M = TypeVar("M", bound=BaseMessage)


@dataclass(frozen=True)
class _Said:
    """The original words, and the agents that may be shown them."""

    words: str
    agents: frozenset[str]


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
    return [_with_texts(m, lambda text: _open(text, agent)) if isinstance(m, HumanMessage) else m for m in messages]


def words_of(message: BaseMessage) -> str:
    """Everything that was said, for a tool that asked for it."""
    return _with_texts(message, lambda text: _open(text, None)).text


def taken(args: Any) -> list[str]:
    """The secrets among the arguments of a tool call, the longest first."""
    found = {str(value) for secret in _redacted_in(args) if (value := secret.get_secret_value()) not in (None, "")}
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
    return _masked(text, [(n.start, n.end) for n in numbers_in(text) if n.length >= shortest])


def _without(text: str, secrets: Sequence[str]) -> str:
    """A text without these secrets, as they are written and, for numbers, as they are said."""
    for secret in secrets:
        digits = re.sub(r"[\s/.,-]", "", secret)
        if digits.isdecimal() and len(digits) >= SHORT:
            groups = {group.lstrip("0") for group in re.findall(r"\d+", secret)}
            places = [
                (n.start, n.end)
                if n.length >= SHORT and len(groups) > 1 and groups.issuperset(p.digits.lstrip("0") for p in n.pieces)
                else n.find(digits, whole_pieces=len(digits) < SHORTEST)
                for n in numbers_in(text)
            ]
            text = _masked(text, [place for place in places if place is not None])
        if len(secret) >= SHORTEST:
            text = re.sub(re.escape(secret), MASK, text, flags=re.IGNORECASE)
    return text


def _masked(text: str, places: Sequence[tuple[int, int]]) -> str:
    for start, end in reversed(places):
        text = text[:start] + MASK + text[end:]
    return text


def _redacted_in(data: Any) -> Iterator[Any]:
    if isinstance(data, Redacted):
        yield data.secret
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _redacted_in(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _redacted_in(value)
