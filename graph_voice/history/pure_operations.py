"""What the history operations do that need only the messages.

Each gets a list in which results follow their tool calls, and returns a new list; no message is changed. A cut may
separate a tool call from its result: whoever applies an operation repairs the result, with `pair_safe` or `paired`.
"""

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages import ChatMessage as RoleMessage
from langchain_core.messages.utils import count_tokens_approximately, trim_messages

from graph_voice.history.functions import registered
from graph_voice.messages.pairs import calls_of, keep_calls

__all__ = [
    "MADE",
    "exceeds",
    "is_made",
    "of_last_turns",
    "of_tools",
    "trimmed",
    "truncated",
    "without_empty",
    "without_instructions",
    "without_tools",
]

MADE = "made_by_history"
"""Marks a message that an operation made, and which kind ("summary", "userdata"), in its `additional_kwargs`."""


def is_made(message: BaseMessage) -> bool:
    """Whether a history operation made this message (a summary): such a message is not speech."""
    return MADE in message.additional_kwargs or bool(message.additional_kwargs.get("is_summary"))


def _is_instruction(message: BaseMessage) -> bool:
    if isinstance(message, RoleMessage):
        return message.role in ("system", "developer")
    return isinstance(message, SystemMessage) and not is_made(message)


def without_instructions(messages: list[AnyMessage]) -> list[AnyMessage]:
    return [m for m in messages if not _is_instruction(m)]


def without_tools(messages: list[AnyMessage]) -> list[AnyMessage]:
    kept: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, AIMessage) and calls_of(message):
            message = keep_calls(message, ())
            if not message.content:
                continue
        if not isinstance(message, ToolMessage):
            kept.append(message)
    return kept


def without_empty(messages: list[AnyMessage]) -> list[AnyMessage]:
    return [
        m for m in messages if m.content or isinstance(m, ToolMessage) or (isinstance(m, AIMessage) and calls_of(m))
    ]


def of_tools(messages: list[AnyMessage], names: Sequence[str]) -> list[AnyMessage]:
    wanted: set[str] = set()
    kept: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id in wanted:
                kept.append(message)
        elif isinstance(message, AIMessage) and (calls := calls_of(message)):
            chosen = [c.id for c in calls if c.name in names]
            wanted.update(chosen)
            rest = keep_calls(message, chosen)
            if chosen or rest.content:
                kept.append(rest)
        else:
            kept.append(message)
    return kept


def truncated(messages: list[AnyMessage], max_items: int) -> list[AnyMessage]:
    if len(messages) <= max_items:
        return messages
    kept = messages[len(messages) - max_items :] if max_items else []
    system = next((m for m in messages if isinstance(m, SystemMessage)), None)
    if system is not None and all(m is not system for m in kept):
        kept.insert(0, system)
    return kept


def of_last_turns(messages: list[AnyMessage], n: int) -> list[AnyMessage]:
    starts = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage)]
    if n == 0:
        return []
    return messages[starts[-n] :] if len(starts) > n else messages


def trimmed(messages: list[AnyMessage], max_tokens: int, counter: str | None = None) -> list[AnyMessage]:
    kept = trim_messages(messages, max_tokens=max_tokens, token_counter=_counter(counter), strategy="last")
    return cast(list[AnyMessage], kept)


def _counter(path: str | None) -> Any:
    return count_tokens_approximately if path is None else registered(path)


def exceeds(
    messages: Sequence[BaseMessage],
    max_items: int | None = None,
    max_tokens: int | None = None,
    counter: str | None = None,
) -> bool:
    """Whether a context is longer than a limit of `history.when`."""
    if max_items is not None and len(messages) > max_items:
        return True
    return max_tokens is not None and _counter(counter)(list(messages)) > max_tokens
