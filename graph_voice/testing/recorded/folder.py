"""A recorded call from a folder of `graph-voice demo`: its `state.json`."""

import json
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from graph_voice.testing.recorded.call import RecordedCall, RecordError, from_messages

__all__ = ["from_folder"]

FILE = "state.json"


def from_folder(folder: str | Path) -> RecordedCall:
    """The call of a folder that `graph-voice demo` wrote (`calls/restaurant-0`), or of a `state.json` itself.

    Raises `RecordError` when there is no such call.
    """
    where = Path(folder)
    file = where / FILE if where.is_dir() else where
    if not file.is_file():
        calls = sorted(found.parent for found in where.glob(f"*/{FILE}")) if where.is_dir() else []
        listed = f" Its calls: {', '.join(map(str, calls))}. Name one of them." if calls else ""
        raise RecordError(f"{where} is no call that `graph-voice demo` wrote: it has no {FILE}.{listed}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        messages = [_message(one) for one in found["messages"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{file} is no state of a call, as `graph-voice demo` writes it: {error!r}.") from error
    return from_messages(messages, name=file.parent.name or "call")


def _message(found: dict[str, Any]) -> BaseMessage:
    shared = {"id": found.get("id"), "name": found.get("name")}
    if found["type"] == "human":
        return HumanMessage(found["text"], **shared)
    if found["type"] == "tool":
        return ToolMessage(found["text"], tool_call_id=found["tool_call_id"], **shared)
    calls = [{**call, "type": "tool_call"} for call in found.get("tool_calls") or ()]
    extra = {"interrupted": True} if found.get("interrupted") else {}
    return AIMessage(found["text"], tool_calls=calls, additional_kwargs=extra, **shared)
