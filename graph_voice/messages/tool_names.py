"""Names of tools as every provider accepts them in a prompt: letters, digits, `_` and `-`, at most 64 of them.

A model may make up others ("functions.look_up", "look up"). A provider accepts its own mistake once, and refuses every
later prompt in which it stands.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

__all__ = ["is_legal_name", "legal_name", "with_legal_names", "with_names"]

M = TypeVar("M", bound=BaseMessage)
_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BLOCKS = ("tool_use", "tool_call", "tool_call_chunk", "function_call")


def is_legal_name(name: str | None) -> bool:
    """Whether every provider accepts this name."""
    return _LEGAL.fullmatch(name or "") is not None


def legal_name(name: str | None, known: Collection[str] = ()) -> str:
    """The name itself, or a legal one that is like it and is none of `known`: nothing runs because of a guess."""
    if name and is_legal_name(name):
        return name
    made = re.sub(r"[^a-zA-Z0-9_-]+", "_", name or "unknown")[:64].strip("_") or "unknown"
    while made in known:
        made = f"{made[:63]}_"
    return made


def with_legal_names(message: M) -> M:
    """A message whose tool calls all have legal names: the same one, or a copy."""
    if isinstance(message, ToolMessage):
        return message if message.name is None or is_legal_name(message.name) else _named(message, message.name)
    if not isinstance(message, AIMessage):
        return message
    calls = (*message.tool_calls, *message.invalid_tool_calls)
    names = {call["name"]: legal_name(call["name"]) for call in calls if not is_legal_name(call["name"])}
    return with_names(message, names) if names else message


def with_names(message: Any, names: Mapping[str | None, str]) -> Any:
    """An assistant message with these names of tools (old -> new), in its tool calls and in the provider's blocks."""
    content = message.content
    if isinstance(content, list):
        content = [
            {**block, "name": names[block["name"]]}
            if isinstance(block, dict) and block.get("type") in _BLOCKS and block.get("name") in names
            else block
            for block in content
        ]
    extra = {k: v for k, v in message.additional_kwargs.items() if k not in ("tool_calls", "function_call")}
    return message.model_copy(
        update={
            "content": content,
            "tool_calls": [{**call, "name": names.get(call["name"], call["name"])} for call in message.tool_calls],
            "invalid_tool_calls": [
                {**call, "name": names.get(call["name"], call["name"])} for call in message.invalid_tool_calls
            ],
            "additional_kwargs": extra,
        }
    )


def _named(message: Any, name: str) -> Any:
    return message.model_copy(update={"name": legal_name(name)})
