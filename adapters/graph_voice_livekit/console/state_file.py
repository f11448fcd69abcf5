"""What the graph remembers of a call, as a JSON file."""

import json
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from graph_voice import Conversation
from graph_voice.userdata.channel import public_fields

__all__ = ["describe_state", "write_state"]


def describe_state(conversation: Conversation[Any]) -> dict[str, Any]:
    """The remembered state as JSON data. Secret fields of the userdata are left out."""
    return {
        "thread_id": conversation.thread_id,
        "active_agent": conversation.active_agent,
        "userdata": public_fields(conversation.state.get("userdata")),
        "handoffs": conversation.handoffs,
        "messages": [_message(m) for m in conversation.messages],
        "chat_ctx": [m.id for m in conversation.chat_ctx],
    }


def write_state(conversation: Conversation[Any], path: Path) -> Path:
    """Write `describe_state` to a file."""
    text = json.dumps(describe_state(conversation), indent=2, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _message(message: AnyMessage) -> dict[str, Any]:
    found: dict[str, Any] = {"id": message.id, "type": message.type, "text": message.text}
    if message.name:
        found["name"] = message.name
    if isinstance(message, AIMessage):
        if message.tool_calls:
            found["tool_calls"] = [{k: c[k] for k in ("id", "name", "args")} for c in message.tool_calls]
        if message.additional_kwargs.get("interrupted"):
            found["interrupted"] = True
    if isinstance(message, ToolMessage):
        found["tool_call_id"] = message.tool_call_id
        if message.status == "error":
            found["status"] = "error"
    return found
