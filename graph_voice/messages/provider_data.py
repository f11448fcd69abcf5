"""A provider's own data in an assistant message (reasoning, signatures, item ids), when the message was changed.

Data of tool calls that stay is kept: Gemini refuses a tool call without its thought signature, Anthropic one without
the thinking before it. Data of words or tool calls that changed is removed. So is everything that the provider accepts
only together with it: OpenAI's reasoning items, and the item ids that refer to them, are kept or removed as a whole.
"""

from collections.abc import Collection
from typing import Any

from langchain_core.messages import AIMessage

__all__ = ["with_calls", "with_words"]

_CALLS = ("tool_use", "tool_call", "function_call")
_THINKING = ("thinking", "redacted_thinking")
_OWN_KEYS = ("invalid_arguments",)
"""Additional keywords that are graph_voice's, not the provider's."""
_REASONING_KEYS = ("reasoning", "__openai_function_call_ids__")
"""Where LangChain keeps OpenAI's reasoning items outside the content, and the ids of the tool calls that refer to
them."""


def with_calls(message: AIMessage, ids: Collection[str]) -> dict[str, Any]:
    """The content and the additional keywords of this message with only these of its tool calls, in their order."""
    kept = [call["id"] for call in message.tool_calls if call["id"] in ids]
    gone = {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)} - set(kept)
    extra = {k: v for k, v in message.additional_kwargs.items() if k not in ("tool_calls", "function_call")}
    extra = {k: _without(v, gone) for k, v in extra.items()}
    content: Any = message.content
    if isinstance(content, list):
        content = [block for block in content if _call_id(block) not in gone]
        if not kept:
            content = [block for block in content if _type(block) not in (*_CALLS, *_THINKING, "reasoning")]
    changed = {"content": content, "additional_kwargs": extra}
    return changed if _company(message.content) == _company(content) else _alone(changed)


def with_words(message: AIMessage, words: str) -> dict[str, Any]:
    """The content and the other data of this message with these words in place of its own.

    With tool calls, all their data stays. Without, none does: providers refuse reasoning that led to other words.
    """
    if not message.tool_calls and not message.invalid_tool_calls:
        own = {k: v for k, v in message.additional_kwargs.items() if k in _OWN_KEYS}
        return {"content": words, "additional_kwargs": own, "response_metadata": {}}
    # The response's id stands for the original words.
    metadata = {k: v for k, v in message.response_metadata.items() if k != "id"}
    changed: dict[str, Any] = {"content": words, "additional_kwargs": message.additional_kwargs}
    if isinstance(message.content, list):
        changed["content"] = _blocks(message.content, words)
        if _company(message.content) != _company(changed["content"]):
            changed = _alone(changed)
    elif words != message.content:
        changed = _alone(changed)
    return {**changed, "response_metadata": metadata}


def _blocks(content: list[Any], words: str) -> list[Any]:
    said: list[Any] = [{"type": "text", "text": words}] if words.strip() else []
    blocks: list[Any] = []
    for block in content:
        if isinstance(block, str) or _type(block) in ("text", "output_text"):
            blocks, said = [*blocks, *said], []
        elif _type(block) in _CALLS:
            blocks, said = [*blocks, *said, block], []
        else:
            blocks.append(block)
    return [*blocks, *said]


def _company(content: Any) -> list[Any]:
    """OpenAI's reasoning items, each with the item that must follow it."""
    if not isinstance(content, list):
        return []
    return [(block, content[at + 1 : at + 2]) for at, block in enumerate(content) if _is_item(block)]


def _is_item(block: Any) -> bool:
    return _type(block) == "reasoning" and str(block.get("id") or "").startswith("rs_")


def _alone(changed: dict[str, Any]) -> dict[str, Any]:
    """Without OpenAI's reasoning, and without the item ids that require it."""
    content = changed["content"]
    if isinstance(content, list):
        content = [_nameless(block) for block in content if not _is_item(block)]
    extra = {k: v for k, v in changed["additional_kwargs"].items() if k not in _REASONING_KEYS}
    return {**changed, "content": content, "additional_kwargs": extra}


def _nameless(block: Any) -> Any:
    if _type(block) == "function_call":
        return {k: v for k, v in block.items() if k != "id"}
    extras = block.get("extras") if isinstance(block, dict) else None
    if _type(block) == "tool_call" and isinstance(extras, dict) and "item_id" in extras:
        return {**block, "extras": {k: v for k, v in extras.items() if k != "item_id"}}
    return block


def _without(value: Any, gone: Collection[str | None]) -> Any:
    """A provider's data by tool call id, such as Gemini's signatures, for the tool calls that stay."""
    return {k: v for k, v in value.items() if k not in gone} if isinstance(value, dict) else value


def _call_id(block: Any) -> Any:
    # OpenAI's Responses API has both; `call_id` is the one that names the tool call.
    return (block.get("call_id") or block.get("id")) if _type(block) in _CALLS else None


def _type(block: Any) -> str | None:
    return block.get("type") if isinstance(block, dict) else None
