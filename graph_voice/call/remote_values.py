"""What comes from a LangGraph server as JSON, as LangGraph's own values; and what makes its messages the remembered
ones."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    RemoveMessage,
    ToolMessage,
    messages_from_dict,
)
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Interrupt

from graph_voice.history.reducers import merge_messages

__all__ = ["interrupts_of", "messages_of", "part_of", "reconciled", "update_to"]


def part_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """One part of a remote stream, as a local graph streams it."""
    data: Any = part["data"]
    namespace = tuple(part["ns"])
    if part["type"] == "messages":
        message, metadata = data
        data = (messages_of(message)[0], metadata)
        # The server streams each message once, without the namespace of its node.
        namespace = tuple(str(metadata.get("langgraph_checkpoint_ns", "")).split("|")[:-1])
    elif part["type"] == "updates":
        data = {node: _update(node, update) for node, update in data.items()}
    elif part["type"] == "tasks" and "interrupts" in data:
        data = {**data, "interrupts": list(data["interrupts"])}
    elif part["type"] == "values":
        data = _with_messages(data)
    return {"type": part["type"], "ns": namespace, "data": data, "interrupts": tuple(part.get("interrupts") or ())}


def _update(node: str, update: Any) -> Any:
    if node == "__interrupt__":
        return interrupts_of(update)
    if isinstance(update, list):
        return [_with_messages(one) for one in update]
    return _with_messages(update)


def _with_messages(values: Any) -> Any:
    if not isinstance(values, Mapping) or "messages" not in values:
        return values
    return {**values, "messages": messages_of(values["messages"])}


def interrupts_of(found: Any) -> tuple[Interrupt, ...]:
    """The questions of LangGraph's `interrupt()`."""
    return tuple(one if isinstance(one, Interrupt) else Interrupt(one.get("value"), id=one["id"]) for one in found)


def messages_of(found: Any) -> list[Any]:
    """Messages from their JSON; what is none stays as it is."""
    listed = found if isinstance(found, list) else [found]
    return [
        messages_from_dict([{"type": one["type"], "data": one}])[0]
        if isinstance(one, Mapping) and "type" in one and "content" in one
        else one
        for one in listed
    ]


def reconciled(
    held: Sequence[BaseMessage], remembered: Sequence[AnyMessage], spoken: Collection[str | None]
) -> list[BaseMessage]:
    """What a thread should hold: what is remembered, and what else its graph has written and nobody was to hear.

    Args:
        held: the messages that it holds.
        remembered: those of the call: as heard.
        spoken: ids of the messages that speaking nodes have written: one that is not remembered was not heard.
    """
    known = {message.id for message in remembered}
    answered = {message.tool_call_id for message in remembered if isinstance(message, ToolMessage)}
    for message in held:
        if isinstance(message, AIMessage) and message.id in spoken and message.id not in known:
            answered.update(str(call["id"]) for call in message.tool_calls)
    silent: dict[str | None, list[BaseMessage]] = {}
    before: str | None = None
    for message in held:
        if message.id in known:
            before = message.id
        elif isinstance(message, ToolMessage) and message.tool_call_id in answered:
            pass  # it is remembered with another result: the outcome was unknown when the run was cancelled
        elif message.id not in spoken:
            silent.setdefault(before, []).append(message)
    found = [*silent.get(None, ())]
    for remembers in remembered:
        found += [remembers, *silent.get(remembers.id, ())]
    return found


def update_to(held: Sequence[BaseMessage], wanted: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The update of `messages` that makes the first list the second one; empty if they are the same."""
    there = {message.id: message for message in held}
    before: list[Any] = [*held]
    ids = [message.id for message in wanted]
    update: list[Any] = [RemoveMessage(id=str(m.id)) for m in held if m.id not in set(ids)]
    update += [m for m in wanted if (known := there.get(m.id)) is None or not _same(known, m)]
    if not update and ids == [*there]:
        return []
    if [message.id for message in merge_messages(before, update)] == ids:
        return update
    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *wanted]


def _same(a: BaseMessage, b: BaseMessage) -> bool:
    return a.type == b.type and a.content == b.content and _calls(a) == _calls(b)


def _calls(message: BaseMessage) -> Any:
    if isinstance(message, AIMessage):
        return [(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    return getattr(message, "tool_call_id", None)
