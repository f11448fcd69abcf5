"""What a chat model may be given, by the rules of the strictest provider."""

from collections import Counter
from collections.abc import Collection, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice.errors import GraphVoiceError
from graph_voice.messages.tool_names import is_legal_name

__all__ = ["RULES", "PromptError", "check_prompt", "render_prompt"]

RULES: dict[str, str] = {
    "later_system": "a system message is only the first of the prompt; later instructions are a human turn "
    "(Anthropic, Google, Bedrock)",
    "opens_with_assistant": "the first turn is the human's (Bedrock, and Anthropic for long)",
    "ends_with_assistant": "the last message is the human's or a tool's (Google, Anthropic since Claude 4.6)",
}
"""The rules that only some providers have. `allow=` of `check_prompt` names those that may be broken."""

USUAL = frozenset({"opens_with_assistant", "ends_with_assistant"})


class PromptError(GraphVoiceError, AssertionError):
    """A chat model was given a prompt that some provider refuses. The error message shows the prompt."""


def check_prompt(messages: Sequence[BaseMessage], *, allow: Collection[str] = USUAL) -> None:
    """Refuse a prompt that the strictest provider would refuse.

    Always checked: each tool call (parsed or not) is answered by exactly one `ToolMessage` directly after
    its `AIMessage`; no `ToolMessage` without its tool call; no duplicate id of a tool call or a message; at least
    one human message; no empty human or assistant message; at most one leading system message; each name of a tool
    consists of at most 64 letters, digits, `_` and `-`.

    Args:
        messages: the prompt, as the model gets it.
        allow: names of `RULES` that may be broken. `()` checks everything. The default allows what
            LiveKit's converters correct for the providers in question.

    Raises:
        PromptError: with everything that is wrong, and the prompt.
        ValueError: `allow` names an unknown rule.
    """
    if unknown := set(allow) - set(RULES):
        raise ValueError(f"Unknown prompt rules {sorted(unknown)}: choose from {sorted(RULES)}.")
    problems = [
        *_system(messages, allow),
        *_turns(messages, allow),
        *_tool_calls(messages),
        *_names(messages),
        *_ids(messages),
    ]
    if problems:
        wrong = "\n".join(f"- {problem}" for problem in problems)
        shown = render_prompt(messages)
        raise PromptError(f"A strict provider refuses this prompt:\n{wrong}\nThe prompt:\n{shown}")


def render_prompt(messages: Sequence[BaseMessage], *, last: int | None = None) -> str:
    """Return one readable line per message, with its position. `last` limits it to that many messages."""
    lines = []
    for position, message in enumerate(messages):
        parts = [f"{position:>3} {message.type:<9} {message.text!r}"]
        if isinstance(message, AIMessage):
            parts += [f"{call['name']}({call['args']}) id={call['id']}" for call in message.tool_calls]
            parts += [
                f"{call['name']}({call['args']!r}) id={call['id']} INVALID" for call in message.invalid_tool_calls
            ]
        if isinstance(message, ToolMessage):
            parts.append(f"answers {message.tool_call_id}")
        lines.append("  ".join(parts))
    if last is not None and len(lines) > last:
        lines = [f"    ... {len(lines) - last} earlier messages", *lines[-last:]]
    return "\n".join(lines) or "    (no messages)"


def _system(messages: Sequence[BaseMessage], allow: Collection[str]) -> list[str]:
    later = [at for at, message in enumerate(messages) if at and isinstance(message, SystemMessage)]
    if not later or "later_system" in allow:
        return []
    return [f"messages {later} are system messages after the first message: {RULES['later_system']}"]


def _turns(messages: Sequence[BaseMessage], allow: Collection[str]) -> list[str]:
    problems = []
    turns = [message for message in messages if not isinstance(message, SystemMessage)]
    if not any(isinstance(message, HumanMessage) for message in turns):
        problems.append("there is no human message")
    for position, message in enumerate(messages):
        if isinstance(message, HumanMessage) and not message.content:
            problems.append(f"message {position} is an empty human message")
        if isinstance(message, AIMessage) and not message.content and not _call_ids(message):
            problems.append(f"message {position} is an assistant message without text or tool calls")
    if turns and not isinstance(turns[0], HumanMessage) and "opens_with_assistant" not in allow:
        problems.append(f"the first turn is of type {turns[0].type!r}: {RULES['opens_with_assistant']}")
    if turns and isinstance(turns[-1], AIMessage) and "ends_with_assistant" not in allow:
        problems.append(f"the last message is the assistant's: {RULES['ends_with_assistant']}")
    return problems


def _names(messages: Sequence[BaseMessage]) -> list[str]:
    called = ((at, call["name"]) for at, m in enumerate(messages) if isinstance(m, AIMessage) for call in m.tool_calls)
    return [
        f"message {at} calls {str(name)[:80]!r}, which no provider accepts as the name of a tool"
        for at, name in called
        if not is_legal_name(name)
    ]


def _tool_calls(messages: Sequence[BaseMessage]) -> list[str]:
    problems = []
    open_ids: list[str] = []
    asked_at = 0
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id in open_ids:
                open_ids.remove(message.tool_call_id)
            else:
                problems.append(
                    f"message {position} answers {message.tool_call_id!r}, which the assistant message "
                    "before it did not call, or which is answered already"
                )
            continue
        if open_ids:
            problems.append(
                f"the tool calls {open_ids} of message {asked_at} are not answered before message {position}"
            )
        open_ids, asked_at = (_call_ids(message) if isinstance(message, AIMessage) else []), position
    if open_ids:
        problems.append(f"the tool calls {open_ids} of message {asked_at} are never answered")
    return problems


def _ids(messages: Sequence[BaseMessage]) -> list[str]:
    asked = [message for message in messages if isinstance(message, AIMessage)]
    calls = Counter(call for message in asked for call in _call_ids(message))
    ids = Counter(message.id for message in messages if message.id)
    return [
        *(f"the tool call id {call!r} is used {count} times" for call, count in calls.items() if count > 1),
        *(f"the message id {name!r} is used {count} times" for name, count in ids.items() if count > 1),
    ]


def _call_ids(message: AIMessage) -> list[str]:
    # Tool calls whose arguments couldn't be parsed are sent to the provider too, so they also need an answer.
    return [call["id"] or "" for call in (*message.tool_calls, *message.invalid_tool_calls)]
