"""The `chat_ctx` channel: which part of the conversation the active agent's model is shown, as plain data.

It holds references (`{"id": ...}`) to messages of `messages`, the few messages that a history operation made itself,
and since which message everything is shown. So a message is stored once, an edit of an old one is seen wherever it is
referenced, and what a policy dropped does not come back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, message_to_dict, messages_from_dict

from graph_voice.history import Operation, apply, from_dict
from graph_voice.pairs import keep_calls, pair_safe

__all__ = ["carry", "earlier_context", "merge_chat_ctx", "resolve", "view"]

ChatContext = dict[str, Any]
"""`{"carried": [...], "since": id | None, "after": n, "pending": [...], "entering": bool}`; all keys are optional."""


def merge_chat_ctx(current: ChatContext | None, update: Any) -> ChatContext:
    """The channel's reducer: an operation (or a list of them) waits for the next agent step; a dict replaces.

    Pure and batch-invariant, so that LangGraph's `DeltaChannel` can replay it.
    """
    current = current or {}
    if update is None:
        return current
    if isinstance(update, Operation):
        return {**current, "pending": [*current.get("pending", ()), update.to_dict()]}
    if isinstance(update, Sequence) and not isinstance(update, str):
        for item in update:
            current = merge_chat_ctx(current, item)
        return current
    if "steps" in update:
        return {**current, "pending": [*current.get("pending", ()), from_dict(update).to_dict()]}
    return dict(update)


def view(state: Mapping[str, Any]) -> list[AnyMessage]:
    """What the active agent's model is shown: the carried part, then every later message. LiveKit's `agent.chat_ctx`.

    Pending operations are not applied yet; see `resolve`. The result satisfies the pairing rule.
    """
    messages: list[AnyMessage] = state.get("messages") or []
    ctx: ChatContext = state.get("chat_ctx") or {}
    carried = ctx.get("carried") or ()
    start = _start(messages, ctx)
    if not carried:
        return pair_safe(messages[start:] if start else messages)
    by_id = {m.id: m for m in messages[:start]}
    shown: list[AnyMessage] = []
    for item in carried:
        if "message" in item:
            shown.extend(cast(list[AnyMessage], messages_from_dict([item["message"]])))
        elif (found := by_id.get(item["id"])) is not None:
            if "calls" in item and isinstance(found, AIMessage):
                found = cast(AnyMessage, keep_calls(found, item["calls"]))
            shown.append(found)
    return pair_safe([*shown, *messages[start:]])


def earlier_context(state: Mapping[str, Any], agent: str) -> list[AnyMessage]:
    """What this agent was shown when it last left the floor; empty when it never had it."""
    ctx: ChatContext | None = (state.get("contexts") or {}).get(agent)
    if ctx is None:
        return []
    messages: list[AnyMessage] = state.get("messages") or []
    return view({"messages": messages[: _start(messages, ctx)], "chat_ctx": ctx})


def _start(messages: Sequence[AnyMessage], ctx: ChatContext) -> int:
    since = ctx.get("since")
    if since is None:
        return 0
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].id == since:
            return index + 1
    # The boundary was removed by hand. Its place is the next best thing: showing everything would bring back what a
    # policy dropped.
    return min(int(ctx.get("after") or 0), len(messages))


def carry(shown: Sequence[AnyMessage], messages: Sequence[AnyMessage]) -> ChatContext:
    """The `chat_ctx` that shows `shown` now, and every message that comes after the last of `messages`."""
    by_id = {m.id: m for m in messages}
    carried: list[dict[str, Any]] = []
    for message in shown:
        original = by_id.get(message.id)
        if original is not None and _same(original, message):
            carried.append({"id": message.id})
        elif isinstance(message, AIMessage) and isinstance(original, AIMessage) and _fewer_calls(original, message):
            carried.append({"id": message.id, "calls": [c["id"] for c in message.tool_calls]})
        else:
            carried.append({"message": message_to_dict(message)})
    return {
        "carried": carried,
        "since": messages[-1].id if messages else None,
        "after": len(messages),
    }


def _same(a: AnyMessage, b: AnyMessage) -> bool:
    return a is b or (
        type(a) is type(b)
        and a.content == b.content
        and getattr(a, "tool_calls", None) == getattr(b, "tool_calls", None)
    )


def _fewer_calls(original: AIMessage, message: AIMessage) -> bool:
    ids = {c["id"] for c in original.tool_calls}
    return message.text == original.text and all(c["id"] in ids for c in message.tool_calls)


async def resolve(
    state: Mapping[str, Any],
    *,
    model: BaseChatModel | None = None,
    operation: Operation | None = None,
    earlier: Sequence[AnyMessage] = (),
) -> ChatContext | None:
    """Apply the pending operations (or `operation`) to the view of this moment. None when there is nothing to do.

    `earlier` is the context that the agent had when it last left the floor, for `history.resume()`.
    """
    ctx: ChatContext = state.get("chat_ctx") or {}
    pending = [operation] if operation is not None else [from_dict(p) for p in ctx.get("pending", ())]
    if not pending:
        return None
    shown = view(state)
    for op in pending:
        shown = await apply(op, shown, userdata=state.get("userdata"), model=model, earlier=earlier)
    rest = {k: v for k, v in ctx.items() if k == "entering"}
    return {**carry(shown, state.get("messages") or []), **rest}
