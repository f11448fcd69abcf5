"""The strict rule of the chat APIs: each tool call is answered by exactly one tool message, directly after it.

Everything that a model is shown, and everything that is remembered, passes `pair_safe`.
"""

from collections.abc import Iterable, Sequence

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage

__all__ = ["RUNNING", "keep_calls", "pair_safe", "placeholder"]

RUNNING = "The tool call is still in progress."
"""What a model is told of a call that has not ended yet. LiveKit's words for the same case."""


def placeholder(call_id: str, name: str, text: str = RUNNING) -> ToolMessage:
    """An answer for a call whose result is not there (yet). A real result with the same call id replaces it."""
    return ToolMessage(
        text,
        name=name,
        tool_call_id=call_id,
        id=f"result-{call_id}",
        additional_kwargs={"placeholder": True},
    )


def keep_calls(message: AIMessage, ids: Iterable[str]) -> AIMessage:
    """A copy of `message` with only these of its tool calls; its text stays.

    The provider's own data about calls (thought signatures, `tool_use` blocks) stays only when every call does:
    all or none, since half of it is refused by the providers that read it.
    """
    wanted = set(ids)
    calls = [call for call in message.tool_calls if call["id"] in wanted]
    if len(calls) == len(message.tool_calls):
        return message
    extra = {k: v for k, v in message.additional_kwargs.items() if k not in ("tool_calls", "function_call")}
    content = message.content
    if isinstance(content, list):
        kinds = ("tool_use", "tool_call", "function_call", "thinking", "reasoning", "redacted_thinking")
        content = [b for b in content if not (isinstance(b, dict) and b.get("type") in kinds)]
    return message.model_copy(
        update={
            "content": content,
            "tool_calls": calls,
            "invalid_tool_calls": [],
            "additional_kwargs": extra,
        }
    )


def pair_safe(messages: Sequence[BaseMessage]) -> list[AnyMessage]:
    """Repair a list so that every provider takes it, without touching its messages.

    A tool message without its call is dropped. A call whose answer is elsewhere gets it back directly behind it, in
    the calls' order; a call that has none is dropped, unless it is among the last message's calls (nothing came
    after it, so it is still running): then a placeholder answers it. An assistant message that is left with neither
    text nor calls is dropped. An id or an answer that comes twice counts once, the last one.
    """
    answers: dict[str, ToolMessage] = {}
    last_at: dict[str, int] = {}
    plain = True
    for index, message in enumerate(messages):
        if message.id is not None:
            if message.id in last_at:
                plain = False
            last_at[message.id] = index
        if isinstance(message, ToolMessage):
            plain = False
            known = answers.get(message.tool_call_id)
            if known is None or not message.additional_kwargs.get("placeholder"):
                answers[message.tool_call_id] = message
        elif isinstance(message, AIMessage) and (message.tool_calls or not message.content):
            plain = False
    if plain:
        return list(messages)  # type: ignore[arg-type]  # BaseMessage here is always one of AnyMessage

    result: list[AnyMessage] = []
    answered: set[str] = set()
    final = max((i for i, m in enumerate(messages) if not isinstance(m, ToolMessage)), default=-1)
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            continue
        if message.id is not None and last_at[message.id] != index:
            continue
        if not isinstance(message, AIMessage):
            result.append(message)  # type: ignore[arg-type]
            continue
        calls = {call["id"]: call for call in message.tool_calls if call["id"] and call["id"] not in answered}
        kept = [cid for cid in calls if cid in answers or index == final]
        if kept or message.content:
            result.append(keep_calls(message, [c for c in kept if c]))
            for call_id in kept:
                assert call_id is not None
                answered.add(call_id)
                result.append(answers.get(call_id) or placeholder(call_id, calls[call_id]["name"]))
    return result
