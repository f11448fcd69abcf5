"""Prompts that the strictest provider accepts, built the way LiveKit's provider converters build them."""

from collections.abc import Sequence

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice.pairs import pair_safe

__all__ = ["OPENER", "build_prompt", "inline_instructions"]

OPENER = "(The caller is on the line and waits for you to speak.)"
"""A neutral user turn for a context that has none: some providers refuse a prompt without one."""

_INLINE = "<instructions>\n{}\n</instructions>"


def inline_instructions(text: str) -> HumanMessage:
    """Instructions in the middle of a conversation, as a user message.

    Follows LiveKit's `convert_mid_conversation_instructions`: Anthropic and Google take one leading system text only.
    """
    return HumanMessage(_INLINE.format(text), additional_kwargs={"instructions": True})


def build_prompt(
    instructions: str, context: Sequence[AnyMessage], *, reply_instructions: str | None = None
) -> list[AnyMessage]:
    """What a model gets: one leading system message, the context, the instructions for this reply last.

    Later system messages become inline instructions where they stand. There is at least one user turn, and the last
    message is the user's or a tool's: an assistant message at the end would be taken for a prefill.
    """
    prompt: list[AnyMessage] = [SystemMessage(instructions)]
    for message in pair_safe(context):
        if isinstance(message, SystemMessage):
            if message.text.strip():
                prompt.append(inline_instructions(message.text))
        else:
            prompt.append(message)
    if reply_instructions:
        prompt.append(inline_instructions(reply_instructions))
    if not isinstance(prompt[-1], HumanMessage | ToolMessage):
        prompt.append(HumanMessage(OPENER))
    if not isinstance(prompt[1], HumanMessage):
        # A context that begins in the middle (a policy cut it) would begin with the assistant.
        prompt.insert(1, HumanMessage(OPENER))
    return prompt
