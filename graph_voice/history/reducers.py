"""Reducers for channels that hold messages: LangGraph's `add_messages`, made batch-invariant, and with a policy.

A reducer here gives the same result whether updates come all at once or one by one, so it works in
`Annotated[list, reducer]` and in LangGraph's `DeltaChannel`, which replays updates in its own batches. It never changes
its inputs.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AnyMessage,
    BaseMessage,
    BaseMessageChunk,
    RemoveMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Overwrite

from graph_voice.errors import HistoryError, StateError
from graph_voice.history.operation import KINDS, Operation, from_dict, run_pure
from graph_voice.history.pure_operations import exceeds
from graph_voice.messages.pairs import paired

__all__ = ["appended", "merge_messages", "overwrite_in", "reducer"]

Messages = list[AnyMessage]

_ROLES = frozenset({"user", "human", "assistant", "ai", "tool", "system", "developer", "function"})
_NAMESPACE = uuid.UUID("7c1c3a52-93d4-4f0e-9c9f-6f2a6f6b1f35")
_OVERWRITE = "__overwrite__"
_MAPS = frozenset({"fresh", "full", "exclude_instructions", "exclude_tool_calls", "exclude_empty", "only_tools"})


def merge_messages(current: Messages | None, update: Any) -> Messages:
    """The reducer of `messages`: as LangGraph's `add_messages`, batch-invariant.

    It appends; the same id replaces in place; `RemoveMessage` removes; `REMOVE_ALL_MESSAGES` drops everything before
    it; `Overwrite` replaces the list. It differs from `add_messages` in three ways. Removing an unknown id is ignored
    (a message that was never heard is not there). Removing and adding an id in one update puts it at the end, as two
    updates would. A message without an id gets one derived from its content, and the object passed in stays unchanged.

    Args:
        current: the list so far.
        update: a message, or what `convert_to_messages` takes, or a list of those (or of such lists).

    Raises `HistoryError` for a history operation: policies shape `chat_ctx` only; `StateError` for what is no message.
    """
    current = _as_messages(current)
    items = list(_flat(update))
    if (found := next((i for i in items if isinstance(i, Operation)), None)) is not None:
        raise HistoryError(
            f"{found} shapes what the model is shown, not `messages`, which keeps everything. Write "
            '{"chat_ctx": ...} instead, or give your own channel history.reducer().'
        )
    try:
        return _merge(current, _messages(items))
    except NotImplementedError as error:  # LangChain's
        raise StateError(
            f'messages={update!r:.80}: write messages, {{"messages": [{{"role": "user", "content": "..."}}]}}.'
        ) from error


def appended(new: Sequence[BaseMessage], is_taken: Callable[[str], bool]) -> Messages | None:
    """These messages as `merge_messages` would append them to a list, without reading that list.

    Args:
        new: the messages.
        is_taken: whether a message of the list has this id.

    Returns None when one of them is not appended: it replaces another one, or removes it.
    """
    found: dict[str, AnyMessage] = {}

    def is_known(message_id: str) -> bool:
        return message_id in found or is_taken(message_id)

    for message in _messages(new):
        if message.id is None:
            message = message.model_copy(update={"id": _new_id(message, is_known)})
        message_id = str(message.id)
        if isinstance(message, RemoveMessage) or is_known(message_id):
            return None
        found[message_id] = cast(AnyMessage, message)
    return list(found.values())


def reducer(policy: Operation | None = None) -> Callable[[Messages | None, Any], Messages]:
    """A reducer that applies a policy to your own channel: `Annotated[list[AnyMessage], history.reducer(policy)]`.

    It takes the updates that `merge_messages` takes, and pure operations among them. A tool call that waits for its
    result stays; a result is dropped when the policy dropped its tool call.

    Args:
        policy: pure operations, applied after each message. None: only what updates ask for.

    Raises `HistoryError` for an operation that needs more than the messages. The error says where it belongs.
    """
    if policy is not None:
        _check_pure(policy)
    steps = [step["op"] for step in policy.steps] if policy is not None else []
    # Filters, then at most one cut from the front: applied once to many new messages, the result is the same as when
    # applied after each. Any other policy is applied after each, so that the result does not depend on the batches.
    in_bulk = all(name in _MAPS for name in steps[:-1]) and "when" not in steps

    def keep(current: Messages | None, update: Any) -> Messages:
        messages = _as_messages(current)
        for part in _parts(list(_flat(update)), messages, in_bulk):
            if isinstance(part, Operation):
                _check_pure(part)
                messages = _apply(part, messages)
            else:
                messages = _merge(messages, part)
            if policy is not None:
                messages = _apply(policy, messages)
        return messages

    return keep


def _check_pure(policy: Operation) -> None:
    if not policy.is_pure:
        names = ", ".join(sorted({s["op"] for s in policy.flat() if KINDS[s["op"]].pure is None}))
        raise HistoryError(
            f"history.reducer: {names} needs more than the messages, and a reducer has nothing else. Declare it on a "
            'Handoff(history=...), return it from a node as {"chat_ctx": ...}, or write '
            "`await history.apply(op, messages, userdata=..., model=...)` in a node of your own."
        )


def _apply(policy: Operation, messages: Messages) -> Messages:
    messages = paired(messages)
    for step in policy.steps:
        if step["op"] == "when":
            limits = {k: v for k, v in step.items() if k not in ("op", "then")}
            messages = _apply(Operation(step["then"]), messages) if exceeds(messages, **limits) else messages
            continue
        messages = paired(run_pure(messages, step))
    return messages


def _parts(items: list[Any], current: Messages, in_bulk: bool) -> Iterator[Operation | list[BaseMessage]]:
    """The update in pieces, after each of which the policy is applied. Appended messages go together where the result
    is the same. Whatever depends on the list so far is alone: a replacement, a removal, a message without an id."""
    seen = {m.id for m in current}
    run: list[BaseMessage] = []
    for item in items:
        if isinstance(item, Operation):
            alone: Operation | list[BaseMessage] = item
        else:
            (message,) = _messages([item])
            new = message.id is not None and message.id not in seen
            seen.add(message.id)
            if in_bulk and new and not isinstance(message, RemoveMessage):
                run.append(message)
                continue
            alone = [message]
        if run:
            yield run
            run = []
        yield alone
    if run:
        yield run


def _flat(update: Any, nested: bool = False) -> Iterator[Any]:
    """The single messages and operations of an update, in order."""
    if update is None:
        return
    if isinstance(update, list):
        if nested and len(update) == 2 and isinstance(update[0], str) and update[0] in _ROLES:
            yield tuple(update)  # a (role, text) pair that went through JSON
            return
        for item in update:
            yield from _flat(item, nested=True)
    elif (overwrite := overwrite_in(update)) is not None:
        yield from _overwritten(overwrite.value)
    elif isinstance(update, dict) and set(update) == {"steps"}:
        yield from_dict(update)
    else:
        yield update


def overwrite_in(update: Any) -> Overwrite | None:
    """The `Overwrite` that this update is, in any of LangGraph's three spellings; None when it is none."""
    if isinstance(update, Overwrite):
        return update
    if isinstance(update, dict) and set(update) == {_OVERWRITE}:
        return Overwrite(update[_OVERWRITE])
    if isinstance(update, dict) and update.get("type") == _OVERWRITE:
        return Overwrite(update.get("value"))
    return None


def _overwritten(value: Any) -> Iterator[Any]:
    yield RemoveMessage(REMOVE_ALL_MESSAGES)
    yield from _flat(value)


def _as_messages(current: Messages | None) -> Messages:
    """The list so far. `Overwrite` may have put anything there: LangGraph writes it past the reducer."""
    try:
        if None not in [m.id for m in current or ()]:  # a plain comprehension: this runs over every message, each step
            return current or []
    except AttributeError:
        pass  # tuples, dicts, strings: not messages yet
    return _merge([], _messages(list(_flat(current))))


def _messages(items: Sequence[Any]) -> list[BaseMessage]:
    if not all(isinstance(i, BaseMessage) for i in items):
        items = convert_to_messages(items)
    return [message_chunk_to_message(m) if isinstance(m, BaseMessageChunk) else m for m in items]


def _merge(current: Messages, new: Sequence[BaseMessage]) -> Messages:
    if not new:
        return current
    merged: dict[str | None, AnyMessage] = {m.id: m for m in current}
    for message in new:
        if isinstance(message, RemoveMessage):
            if message.id == REMOVE_ALL_MESSAGES:
                merged.clear()
            else:
                merged.pop(message.id, None)
            continue
        if message.id is None:
            message = message.model_copy(update={"id": _new_id(message, merged.__contains__)})
        merged[message.id] = cast(AnyMessage, message)
    return list(merged.values())


def _new_id(message: BaseMessage, is_taken: Callable[[str], bool]) -> str:
    """An id that a replay of the same updates gives again. Messages with the same content get different ids."""
    fields = (getattr(message, name, None) for name in ("type", "content", "name", "tool_call_id", "tool_calls"))
    said = repr(tuple(fields))
    number = 0
    while is_taken(found := str(uuid.uuid5(_NAMESPACE, f"{number}:{said}"))):
        number += 1
    return found
