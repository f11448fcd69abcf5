"""LangChain messages as LiveKit chat items, so that turn detectors and judges read what the graph remembers."""

import json
from collections.abc import Iterable

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from livekit.agents import llm

__all__ = ["to_chat_context"]


def to_chat_context(messages: Iterable[BaseMessage]) -> llm.ChatContext:
    """The same conversation as LiveKit's `ChatContext`: same ids; a call and its result become items of their own."""
    items: list[llm.ChatItem] = []
    names: dict[str, str] = {}
    at = 0.0
    for message in messages:
        at += 1e-6  # LiveKit sorts by time; these are earlier than anything of the call that runs
        if isinstance(message, ToolMessage):
            items.append(
                llm.FunctionCallOutput(
                    id=message.id or message.tool_call_id,
                    call_id=message.tool_call_id,
                    name=names.get(message.tool_call_id, message.name or ""),
                    output=message.text,
                    is_error=message.status == "error",
                    created_at=at,
                )
            )
            continue
        if isinstance(message, AIMessage):
            if message.text:
                items.append(_message(message, "assistant", at))
            for call in message.tool_calls:
                call_id = call["id"] or ""
                names[call_id] = call["name"]
                items.append(
                    llm.FunctionCall(
                        id=f"{message.id}/{call_id}",
                        call_id=call_id,
                        name=call["name"],
                        arguments=json.dumps(call["args"]),
                        created_at=at,
                    )
                )
        elif isinstance(message, HumanMessage):
            items.append(_message(message, "user", at))
        elif isinstance(message, SystemMessage):
            items.append(_message(message, "system", at))
    return llm.ChatContext(items)


def _message(message: BaseMessage, role: llm.ChatRole, at: float) -> llm.ChatMessage:
    made = llm.ChatMessage(
        role=role,
        content=[message.text],
        interrupted=bool(message.additional_kwargs.get("interrupted")),
        created_at=at,
    )
    return made.model_copy(update={"id": message.id}) if message.id else made
