"""Chat history operations: what a handoff carries, as small values that compose with `|`.

`history.exclude_instructions() | history.truncate(max_items=6)` is data: it is declared on a `Handoff`, returned by a
node as an update of `chat_ctx`, kept as a plain dict in checkpoints, and shown in LangGraph Studio. An *item* is one
LangChain message. Each operation follows the method of LiveKit's `ChatContext` with the same name, and differs from
it in one thing: its result always satisfies the chat APIs' pairing rule (see `graph_voice.pairs`).
"""

import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.utils import count_tokens_approximately

from graph_voice import userdata as _userdata
from graph_voice.errors import HistoryError
from graph_voice.pairs import keep_calls, pair_safe

__all__ = [
    "Operation",
    "apply",
    "custom",
    "exclude_empty",
    "exclude_instructions",
    "exclude_tool_calls",
    "fresh",
    "from_dict",
    "full",
    "is_made",
    "last_turns",
    "only_tools",
    "resume",
    "trim_tokens",
    "truncate",
    "userdata_summary",
]

MADE = "made_by_history"
"""Marks a message that an operation made (a summary), in its `additional_kwargs`. A newer one replaces the older."""


@dataclass(frozen=True)
class Operation:
    """One history operation, or several in order. Made by this module's functions, not by hand."""

    steps: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]

    def __or__(self, other: "Operation") -> "Operation":
        return Operation(self.steps + other.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as checkpoints and traces show it: `{"steps": [{"op": "truncate", "max_items": 6}]}`."""
        return {"steps": [{"op": name, **{k: _plain(v) for k, v in args}} for name, args in self.steps]}

    @property
    def is_pure(self) -> bool:
        """Whether it needs nothing but the messages, so that it can run in a reducer."""
        return all(name in _PURE for name, _ in self.steps)

    def __str__(self) -> str:
        return " | ".join(
            f"{name}({', '.join(f'{k}={v!r}' for k, v in args if v is not None)})" for name, args in self.steps
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _op(name: str, **args: Any) -> Operation:
    return Operation(((name, tuple(args.items())),))


def from_dict(data: dict[str, Any]) -> Operation:
    """The operation that `Operation.to_dict` gave this dict. Raises `HistoryError` when it is none."""
    try:
        steps = []
        for step in data["steps"]:
            args = {k: tuple(v) if isinstance(v, list) else v for k, v in step.items() if k != "op"}
            if step["op"] not in _PURE and step["op"] not in _IMPURE:
                raise KeyError(step["op"])
            steps.append((step["op"], tuple(args.items())))
        return Operation(tuple(steps))
    except (KeyError, TypeError) as error:
        raise HistoryError(f"This is not a history operation: {data!r} ({error}).") from error


def fresh() -> Operation:
    """Nothing carried: the new agent sees only its own instructions. The default of a handoff, as in LiveKit."""
    return _op("fresh")


def full() -> Operation:
    """All of the previous agent's context. LiveKit: `chat_ctx=self.chat_ctx`."""
    return _op("full")


def exclude_instructions() -> Operation:
    """Without system and developer messages. LiveKit: `copy(exclude_instructions=True)`."""
    return _op("exclude_instructions")


def exclude_tool_calls() -> Operation:
    """Without tool calls and results; text stays. LiveKit: `copy(exclude_function_call=True)`."""
    return _op("exclude_tool_calls")


def exclude_empty() -> Operation:
    """Without messages that have neither content nor calls. LiveKit: `copy(exclude_empty_message=True)`."""
    return _op("exclude_empty")


def only_tools(*names: str) -> Operation:
    """Calls and results of these tools only; what is not a tool item stays. LiveKit: `copy(tools=[...])`."""
    return _op("only_tools", names=tuple(names))


def truncate(*, max_items: int) -> Operation:
    """The last `max_items` messages, plus the first system message. LiveKit: `truncate(max_items=...)`.

    Raises `HistoryError` when `max_items` is negative.
    """
    if max_items < 0:
        raise HistoryError(f"truncate(max_items={max_items}): the number of messages can't be negative.")
    return _op("truncate", max_items=max_items)


def last_turns(n: int) -> Operation:
    """The last `n` user turns, each with all that followed it. Raises `HistoryError` when `n` is negative."""
    if n < 0:
        raise HistoryError(f"last_turns({n}): the number of turns can't be negative.")
    return _op("last_turns", n=n)


def trim_tokens(max_tokens: int) -> Operation:
    """The newest messages that fit `max_tokens` (LangChain's approximate count). Raises `HistoryError` below 1."""
    if max_tokens < 1:
        raise HistoryError(f"trim_tokens({max_tokens}): the budget must be at least one token.")
    return _op("trim_tokens", max_tokens=max_tokens)


def userdata_summary(
    format: Literal["yaml", "json"] = "yaml",
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Operation:
    """One system message with the userdata's set fields, in front. Secret fields are never in it."""
    if format not in ("yaml", "json"):
        raise HistoryError(f'userdata_summary(format={format!r}): write "yaml" or "json".')
    return _op(
        "userdata_summary",
        format=format,
        include=tuple(include) if include is not None else None,
        exclude=tuple(exclude),
    )


Custom = Callable[[list[AnyMessage], Any], list[AnyMessage] | Awaitable[list[AnyMessage]]]


def custom(fn: Custom) -> Operation:
    """`fn(messages, userdata) -> messages`, sync or async, named by its import path (so a function of a module).

    Raises `HistoryError` for a lambda or a nested function: a checkpoint could not name it.
    """
    name = getattr(fn, "__qualname__", "")
    if not name or "<" in name:
        raise HistoryError(
            f"custom({fn!r}): a checkpoint names the function by its import path, so write it as a function at the "
            "top level of a module."
        )
    return _op("custom", fn=f"{fn.__module__}:{name}")


def resume() -> Operation:
    """The target agent's own earlier context first, then the rest of the policy's result, each message once."""
    return _op("resume")


def is_made(message: BaseMessage) -> bool:
    """Whether a history operation made this message (a summary): such a message is not speech."""
    return MADE in message.additional_kwargs or bool(message.additional_kwargs.get("is_summary"))


def _is_instruction(message: BaseMessage) -> bool:
    return isinstance(message, SystemMessage) and not is_made(message)


def _without_instructions(messages: list[AnyMessage]) -> list[AnyMessage]:
    return [m for m in messages if not _is_instruction(m)]


def _without_tools(messages: list[AnyMessage]) -> list[AnyMessage]:
    kept: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, AIMessage) and message.tool_calls:
            message = cast(AnyMessage, keep_calls(message, ()))
            if not message.content:
                continue
        if not isinstance(message, ToolMessage):
            kept.append(message)
    return kept


def _without_empty(messages: list[AnyMessage]) -> list[AnyMessage]:
    return [m for m in messages if m.content or isinstance(m, ToolMessage) or getattr(m, "tool_calls", None)]


def _only_tools(messages: list[AnyMessage], names: Sequence[str]) -> list[AnyMessage]:
    wanted = {c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls if c["name"] in names}
    kept: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id in wanted:
                kept.append(message)
        elif isinstance(message, AIMessage) and message.tool_calls:
            rest = keep_calls(message, [c["id"] for c in message.tool_calls if c["id"] in wanted])  # type: ignore[misc]
            if rest.tool_calls or rest.content:
                kept.append(cast(AnyMessage, rest))
        else:
            kept.append(message)
    return kept


def _truncate(messages: list[AnyMessage], max_items: int) -> list[AnyMessage]:
    if len(messages) <= max_items:
        return messages
    tail = messages[len(messages) - max_items :] if max_items else []
    calls = {c["id"] for m in tail if isinstance(m, AIMessage) for c in m.tool_calls}
    answers = {m.tool_call_id for m in tail if isinstance(m, ToolMessage)}
    kept: list[AnyMessage] = []
    for message in tail:
        if isinstance(message, ToolMessage) and message.tool_call_id not in calls:
            continue
        if isinstance(message, AIMessage) and message.tool_calls:
            # A call whose answer fell off would be filled with a placeholder, one item more than asked for.
            message = cast(AnyMessage, keep_calls(message, [c["id"] for c in message.tool_calls if c["id"] in answers]))
            if not message.tool_calls and not message.content:  # type: ignore[union-attr]
                continue
        kept.append(message)
    system = next((m for m in messages if isinstance(m, SystemMessage)), None)
    if system is not None and all(m is not system for m in kept):
        kept.insert(0, system)
    return kept


def _last_turns(messages: list[AnyMessage], n: int) -> list[AnyMessage]:
    starts = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage)]
    if n == 0:
        return []
    return messages[starts[-n] :] if len(starts) > n else messages


def _trim_tokens(messages: list[AnyMessage], max_tokens: int) -> list[AnyMessage]:
    """Newest first, whole groups (a call with its answers), so that the budget is not spent on halves."""
    groups: list[list[AnyMessage]] = []
    for message in messages:
        if isinstance(message, ToolMessage) and groups:
            groups[-1].append(message)
        else:
            groups.append([message])
    kept: list[list[AnyMessage]] = []
    left = max_tokens
    for group in reversed(groups):
        left -= count_tokens_approximately(group)
        if left < 0:
            break
        kept.append(group)
    return [m for group in reversed(kept) for m in group]


_PURE: dict[str, Callable[..., list[AnyMessage]]] = {
    "fresh": lambda messages: [],
    "full": lambda messages: messages,
    "exclude_instructions": _without_instructions,
    "exclude_tool_calls": _without_tools,
    "exclude_empty": _without_empty,
    "only_tools": _only_tools,
    "truncate": _truncate,
    "last_turns": _last_turns,
    "trim_tokens": _trim_tokens,
}
_IMPURE = ("userdata_summary", "custom", "resume")


async def apply(
    op: Operation,
    messages: Sequence[AnyMessage],
    *,
    userdata: Any = None,
    model: BaseChatModel | None = None,
    earlier: Sequence[AnyMessage] = (),
) -> list[AnyMessage]:
    """The result of an operation, for one's own nodes.

    Args:
        op: the operation.
        messages: the context it is applied to; neither the list nor its messages are changed.
        userdata: for `userdata_summary` and `custom`.
        model: for operations that ask a model.
        earlier: the target agent's own earlier context, for `resume`.

    The result satisfies the pairing rule. Raises what a `custom` function raises.
    """
    result = pair_safe(messages)
    for name, raw in op.steps:
        args = dict(raw)
        if name in _PURE:
            result = pair_safe(_PURE[name](result, **args))
        elif name == "userdata_summary":
            result = _put_first(result, _summary_of_userdata(userdata, **args))
        elif name == "resume":
            known = {m.id for m in earlier}
            result = pair_safe([*earlier, *(m for m in result if m.id not in known)])
        elif name == "custom":
            made = _import(args["fn"])(list(result), userdata)
            result = pair_safe(await made if inspect.isawaitable(made) else made)
    return result


def _put_first(messages: list[AnyMessage], summary: SystemMessage | None) -> list[AnyMessage]:
    kind = None if summary is None else summary.additional_kwargs[MADE]
    rest = [m for m in messages if kind is None or m.additional_kwargs.get(MADE) != kind]
    return rest if summary is None else [summary, *rest]


def _summary_of_userdata(
    userdata: Any, format: str, include: Sequence[str] | None, exclude: Sequence[str]
) -> SystemMessage | None:
    fields = _userdata.public_fields(userdata, include=include, exclude=exclude)
    if not fields:
        return None
    if format == "json":
        import json

        text = json.dumps(fields, ensure_ascii=False, default=str)
    else:
        import yaml

        text = yaml.safe_dump(fields, allow_unicode=True, sort_keys=False).strip()
    return SystemMessage(f"What is known so far:\n{text}", id="userdata-summary", additional_kwargs={MADE: "userdata"})


def _import(path: str) -> Custom:
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise HistoryError(f"custom: the function {path} can't be imported ({error}).") from error
    return cast(Custom, found)
