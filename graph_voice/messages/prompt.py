"""Prompts that the strictest provider accepts, built the way LiveKit's provider converters build them."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice.messages.pairs import pair_safe
from graph_voice.messages.tool_names import with_legal_names

__all__ = [
    "OPENER",
    "add_words",
    "build_prompt",
    "complete_prompt",
    "inline_instructions",
    "is_blank",
    "render_context",
]

OPENER = "(The caller is on the line and waits for you to speak.)"
"""A neutral user turn for a context that has none: some providers refuse a prompt without one."""

_INLINE = "<instructions>\n{}\n</instructions>"


def inline_instructions(text: str) -> HumanMessage:
    """Instructions in the middle of a conversation, as a user message.

    Follows LiveKit's `convert_mid_conversation_instructions`: Anthropic and Google accept only one leading system text.
    """
    return HumanMessage(_INLINE.format(text), additional_kwargs={"instructions": True})


def build_prompt(
    instructions: str, context: Sequence[AnyMessage], *, reply_instructions: str | None = None
) -> list[AnyMessage]:
    """The prompt for a model: one leading system message, the context, and the instructions for this reply at the end.

    Later system messages become inline instructions in place. There is at least one user turn, and the last message is
    the user's or a tool's: an assistant message at the end would be taken for a prefill. No message is blank, and no
    assistant message follows another one (Gemini accepts a tool call only after a user turn or a result).
    """
    return complete_prompt(instructions, render_context(context), reply_instructions=reply_instructions)


def render_context(context: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The context's part of a prompt. Adding words to the context only adds to the end of it, so it can be made before
    the caller has finished."""
    rendered: list[AnyMessage] = []
    for message in pair_safe(context):
        if isinstance(message, SystemMessage):
            if message.text.strip():
                rendered.append(inline_instructions(message.text))
        elif isinstance(message, AIMessage):
            _append_assistant(rendered, with_legal_names(message))
        elif isinstance(message, ToolMessage) or not is_blank(message):
            rendered.append(with_legal_names(message))
    return rendered


def complete_prompt(
    instructions: str, rendered: Sequence[AnyMessage], *, reply_instructions: str | None = None
) -> list[AnyMessage]:
    """The prompt for a context that is already rendered; see `build_prompt`."""
    prompt: list[AnyMessage] = [SystemMessage(instructions), *rendered]
    if reply_instructions and reply_instructions.strip():
        prompt.append(inline_instructions(reply_instructions))
    if not isinstance(prompt[-1], HumanMessage | ToolMessage):
        prompt.append(HumanMessage(OPENER))
    if not isinstance(prompt[1], HumanMessage):
        # A context that a policy cut may begin with the assistant.
        prompt.insert(1, HumanMessage(OPENER))
    return prompt


def is_blank(message: AnyMessage) -> bool:
    """Whether it contains only white space, which Anthropic refuses as a message and as a block."""
    if isinstance(message.content, str):
        return not message.content.strip()
    return all(_is_blank_block(block) for block in message.content)


def _is_blank_block(block: Any) -> bool:
    if isinstance(block, str):
        return not block.strip()
    return isinstance(block, dict) and block.get("type") == "text" and not str(block.get("text", "")).strip()


def add_words(message: AIMessage, words: str) -> AIMessage:
    """The message with more words after its own. A provider's blocks stay unchanged, and tool calls stay last."""
    if isinstance(message.content, str):
        text = " ".join(part for part in (message.content, words) if part)
        return message.model_copy(update={"content": text})
    blocks = list(message.content)
    spoken = ("text", "thinking", "redacted_thinking", "reasoning")
    at = next((i for i, b in enumerate(blocks) if isinstance(b, dict) and b.get("type") not in spoken), len(blocks))
    return message.model_copy(update={"content": [*blocks[:at], {"type": "text", "text": words}, *blocks[at:]]})


def _append_assistant(prompt: list[AnyMessage], message: AIMessage) -> None:
    if is_blank(message):
        if not message.tool_calls:
            return
        if message.content:
            message = message.model_copy(update={"content": ""})
    before = prompt[-1] if prompt else None
    if isinstance(before, AIMessage):
        prompt[-1] = _merged(before, message)
    else:
        prompt.append(message)


def _merged(first: AIMessage, second: AIMessage) -> AIMessage:
    """Two assistant messages as one. `first` has no tool calls, or their results would be between the two."""
    if isinstance(first.content, str) and isinstance(second.content, str):
        content: Any = "\n".join(text for text in (first.content, second.content) if text)
    else:
        # Only the provider itself understands its own blocks.
        differ = first.response_metadata.get("model_provider") != second.response_metadata.get("model_provider")
        earlier: Any = first.text if differ or isinstance(first.content, str) else first.content
        blocks = [{"type": "text", "text": earlier}] if isinstance(earlier, str) else list(earlier)
        later = [{"type": "text", "text": second.content}] if isinstance(second.content, str) else second.content
        content = [block for block in (*blocks, *later) if not _is_blank_block(block)]
    extra = {**first.additional_kwargs, **second.additional_kwargs}
    return second.model_copy(update={"content": content, "additional_kwargs": extra})
