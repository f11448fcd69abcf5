"""Prompts for models that think before they call tools (Anthropic's extended thinking, Gemini 3).

Such a model accepts a tool call since the caller's last words only with the thinking that led to it. A tool call that
another model has made, or the same one without thinking, has none: the transfer that led to this agent, or one from
before the agent's model was changed. So the model is told of it in words.
"""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from graph_voice.messages.prompt import inline_instructions

__all__ = ["shown_to"]

_THINKING = ("thinking", "redacted_thinking", "reasoning_content", "reasoning")
_SIGNATURES = "__gemini_function_call_thought_signatures__"
"""Where LangChain keeps Gemini's signatures, by tool call id."""


def shown_to(model: Any, prompt: Sequence[AnyMessage]) -> Sequence[AnyMessage]:
    """The prompt as this model accepts it: the same one, unless the model thinks."""
    accepts = _accepts(model)
    if accepts is None:
        return prompt
    start = next((at for at in range(len(prompt) - 1, -1, -1) if isinstance(prompt[at], HumanMessage)), -1) + 1
    refused = {
        call["id"]: call["name"]
        for message in prompt[start:]
        if isinstance(message, AIMessage) and message.tool_calls and not accepts(message)
        for call in message.tool_calls
    }
    return [*prompt[:start], *_in_words(prompt[start:], refused)] if refused else prompt


def _in_words(messages: Sequence[AnyMessage], refused: dict[str | None, str]) -> list[AnyMessage]:
    told: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, AIMessage) and any(call["id"] in refused for call in message.tool_calls):
            if message.text.strip():
                told.append(AIMessage(message.text, id=message.id, name=message.name))
        elif isinstance(message, ToolMessage) and message.tool_call_id in refused:
            name = refused[message.tool_call_id]
            told.append(inline_instructions(f"{name} was called, and answered: {message.text}"))
        else:
            told.append(message)
    return told


def _accepts(model: Any) -> Callable[[AIMessage], bool] | None:
    """Whether the model accepts the tool calls of a message; None when it accepts those of every one."""
    thinking = getattr(model, "thinking", None)
    fields = getattr(model, "additional_model_request_fields", None)
    if thinking is None and isinstance(fields, dict):  # Bedrock
        thinking = fields.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"):
        return _begins_with_thinking
    name = str(getattr(model, "model", "")).removeprefix("models/")
    return _is_signed if name.startswith("gemini-3") else None


def _begins_with_thinking(message: AIMessage) -> bool:
    first = message.content[0] if isinstance(message.content, list) and message.content else None
    return isinstance(first, dict) and first.get("type") in _THINKING


def _is_signed(message: AIMessage) -> bool:
    signatures = message.additional_kwargs.get(_SIGNATURES) or {}
    return message.tool_calls[0]["id"] in signatures
