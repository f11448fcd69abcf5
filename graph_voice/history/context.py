"""The `chat_ctx` channel: which part of the conversation the active agent's model is shown, as plain data.

It holds references (`{"id": ...}`) to messages in `messages`, the few messages that a history operation made itself,
and the message after which everything is shown. So a message is stored once, an edit of an old one is seen wherever it
is referenced, and what a policy dropped does not come back.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, message_to_dict, messages_from_dict
from langchain_core.runnables import RunnableConfig

from graph_voice.errors import HistoryError
from graph_voice.history.apply import apply, run
from graph_voice.history.operation import Operation, from_dict
from graph_voice.history.summaries import summarized_or_kept
from graph_voice.messages.pairs import calls_of, keep_calls, pair_safe

__all__ = ["carry", "divided", "earlier_context", "merge_chat_ctx", "resolve", "shortened", "view"]

ChatContext = dict[str, Any]
"""`{"carried": [...], "since": [ids], "pending": [...], "entering": bool}`; all keys are optional.

Every message after the first id of `since` that still exists is shown.
"""
_TRAIL = 16
"""Ids kept of the messages before the boundary, newest first."""


def merge_chat_ctx(current: ChatContext | None, update: Any) -> ChatContext:
    """The channel's reducer: an operation (or a list of them) waits for the next agent step; a dict replaces the value.

    The result of `resolve` replaces everything except operations that came while it was made: they stay pending. Pure
    and batch-invariant, so that LangGraph's `DeltaChannel` can replay it. Raises `HistoryError` for anything else.
    """
    current = current or {}
    if update is None:
        return current
    if isinstance(update, list | tuple):
        for item in update:
            current = merge_chat_ctx(current, item)
        return current
    if not isinstance(update, dict):
        raise HistoryError(
            f'chat_ctx takes history operations, not {update!r}: write {{"chat_ctx": history.truncate(max_items=6)}}. '
            "Messages belong to `messages`."
        )
    if "steps" in update:
        return {**current, "pending": [*current.get("pending", ()), from_dict(update).to_dict()]}
    if "resolved" not in update:
        return dict(update)
    made = {k: v for k, v in update.items() if k != "resolved"}
    waiting = list(current.get("pending", ()))[update["resolved"] :]
    return {**made, "pending": waiting} if waiting else made


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
    """What this agent was shown when it was last active; empty if it never was."""
    ctx: ChatContext | None = (state.get("contexts") or {}).get(agent)
    if ctx is None:
        return []
    messages: list[AnyMessage] = state.get("messages") or []
    return view({"messages": messages[: _start(messages, ctx)], "chat_ctx": ctx})


def divided(state: Mapping[str, Any], ctx: ChatContext) -> tuple[list[AnyMessage], list[AnyMessage]]:
    """What this `chat_ctx`, which `carry` made earlier, showed then, and the messages that have come since."""
    messages: list[AnyMessage] = state.get("messages") or []
    start = _start(messages, ctx)
    return view({"messages": messages[:start], "chat_ctx": ctx}), messages[start:]


def _start(messages: Sequence[AnyMessage], ctx: ChatContext) -> int:
    since = ctx.get("since")
    if not since:
        return 0
    place = {m.id: i for i, m in enumerate(messages)}
    # A message may be gone (never heard, or removed by hand): then the one before it marks the same boundary. When
    # all are gone, the conversation was started over, and everything in it came later.
    return next((place[message_id] + 1 for message_id in since if message_id in place), 0)


def carry(shown: Sequence[AnyMessage], messages: Sequence[AnyMessage]) -> ChatContext:
    """The `chat_ctx` that shows `shown` now, and later also every message that comes after the last of `messages`."""
    by_id = {m.id: m for m in messages}
    carried: list[dict[str, Any]] = []
    for message in shown:
        original = by_id.get(message.id)
        if original is not None and _same(original, message):
            carried.append({"id": message.id})
        elif isinstance(message, AIMessage) and isinstance(original, AIMessage) and _fewer_calls(original, message):
            carried.append({"id": message.id, "calls": [c.id for c in calls_of(message)]})
        else:
            carried.append({"message": message_to_dict(message)})
    return {
        "carried": carried,
        "since": [m.id for m in messages[: -_TRAIL - 1 : -1]],
    }


def _same(a: AnyMessage, b: AnyMessage) -> bool:
    return a is b or a == b


def _fewer_calls(original: AIMessage, message: AIMessage) -> bool:
    return message == keep_calls(original, [c.id for c in calls_of(message)])


async def shortened(
    state: Mapping[str, Any],
    policy: Operation,
    *,
    agent: str,
    model: BaseChatModel | None,
    config: RunnableConfig | None = None,
) -> ChatContext | None:
    """An update of `chat_ctx` that shows the result of the policy (`Agent(context=...)`). None: it changes nothing.

    Operations that wait for the next agent step stay pending. The unchanged messages at the end of the result are not
    carried; they are shown like later messages.

    Args:
        state: the graph's state.
        policy: the agent's.
        agent: its name.
        model: its model, for a `summarize` that names none.
        config: for the model's run.

    If the model fails, nothing changes. Raises what a `custom` function raises.
    """
    shown = view(state)
    result = await run(
        policy,
        shown,
        userdata=state.get("userdata"),
        model=model,
        earlier=earlier_context(state, agent),
        summarize=functools.partial(summarized_or_kept, config=config),
    )
    if result == shown:
        return None
    messages: list[AnyMessage] = state.get("messages") or []
    same = (_same(a, b) for a, b in zip(reversed(result), reversed(messages), strict=False))
    tail = sum(1 for _ in itertools.takewhile(bool, same))
    head = carry(result[: len(result) - tail], messages[: len(messages) - tail])
    kept = {k: v for k, v in (state.get("chat_ctx") or {}).items() if k in ("entering", "resolved")}
    return {"resolved": 0, **head, **kept}


async def resolve(
    state: Mapping[str, Any],
    *,
    model: Callable[[], BaseChatModel | None] = lambda: None,
    operation: Operation | None = None,
    agent: str | None = None,
) -> ChatContext | None:
    """Apply the pending operations, then `operation`, to the current view. None when there is nothing to do.

    Args:
        state: the graph's state.
        model: returns the active agent's model, for operations that need a model and name none.
        operation: a handoff's policy.
        agent: the agent whose earlier context `history.resume()` restores. Default: the active agent.

    Raises what a `custom` function raises.
    """
    ctx: ChatContext = state.get("chat_ctx") or {}
    waiting = [from_dict(p) for p in ctx.get("pending", ())]
    operations = waiting if operation is None else [*waiting, operation]
    if not operations:
        return None
    shown = view(state)
    earlier = earlier_context(state, agent or state.get("active_agent") or "")
    asked = model() if any(op.asks_model for op in operations) else None
    for op in operations:
        shown = await apply(op, shown, userdata=state.get("userdata"), model=asked, earlier=earlier)
    kept = {k: v for k, v in ctx.items() if k == "entering"}
    return {**carry(shown, state.get("messages") or []), **kept, "resolved": len(waiting)}
