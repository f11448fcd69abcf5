"""A model that declines to answer. Its own words of refusal are spoken; a refusal by its provider is an error.

OpenAI's models decline in words of their own, which come beside the content (`additional_kwargs["refusal"]`) or as a
block of it. They are spoken, and stored as text, so that every provider accepts the message later. Anthropic and Gemini
end the response instead: there are no words then, and LangChain reports the refusal in `content_blocks`.
"""

from typing import Any, TypeVar, cast

from langchain_core.exceptions import ModelRefusalError
from langchain_core.messages import AIMessage
from langchain_core.messages.content import RefusalContentBlock

__all__ = ["refusal_of", "spoken_words", "with_refusal_as_words"]

Message = TypeVar("Message", bound=AIMessage)
_KEY = "refusal"
_USUAL_ENDS = frozenset(
    {"none", "stop", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call", "length"}
)
"""Finish reasons that are not refusals, so that most messages need no closer look."""


def spoken_words(message: AIMessage) -> str:
    """The words of a message or a chunk: its text, and the model's words of refusal. Reasoning is not spoken."""
    words = message.content if isinstance(message.content, str) else _words(message.content)
    return words + _beside(message)


def with_refusal_as_words(message: Message) -> Message:
    """The message with the model's own words of refusal as text; others as they are."""
    beside = _beside(message)
    blocks = message.content
    if isinstance(blocks, str):
        if not beside:
            return message
        content: Any = blocks + beside
    else:
        if not beside and not any(_is_refusal(block) for block in blocks):
            return message
        content = [_as_text(block) for block in blocks]
        if beside:
            content.append({"type": "text", "text": beside})
    extra = {k: v for k, v in message.additional_kwargs.items() if k != _KEY}
    return message.model_copy(update={"content": content, "additional_kwargs": extra})


def refusal_of(message: AIMessage) -> ModelRefusalError | None:
    """The error for a response that its provider ended as refused (Anthropic's `stop_reason`, Gemini's finish reason),
    else None. The model's own words of refusal are an answer, not an error."""
    metadata = message.response_metadata
    reason = metadata.get("stop_reason") or metadata.get("finish_reason")
    if str(reason).lower() in _USUAL_ENDS and "prompt_feedback" not in metadata:
        return None
    found = next((block for block in message.content_blocks if block["type"] == _KEY), None)
    if found is None:
        return None
    return ModelRefusalError.from_refusal(cast(RefusalContentBlock, found), raw_message=message)


def _beside(message: AIMessage) -> str:
    words = message.additional_kwargs.get(_KEY)
    return words if isinstance(words, str) else ""


def _words(blocks: list[Any]) -> str:
    return "".join(block if isinstance(block, str) else _text_of(block) for block in blocks)


def _text_of(block: dict[str, Any]) -> str:
    if block.get("type") == "text":
        return block.get("text") or ""
    return (block.get(_KEY) or "") if _is_refusal(block) else ""


def _is_refusal(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == _KEY


def _as_text(block: Any) -> Any:
    if not _is_refusal(block):
        return block
    kept = {k: v for k, v in block.items() if k in ("id", "index", "annotations", "phase")}
    return {**kept, "type": "text", "text": block.get(_KEY) or ""}
