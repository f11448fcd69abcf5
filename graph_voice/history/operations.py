"""The history operations: each is defined here, together with how it runs.

To add one, write a function with `@operation(...)` here, and export it from `graph_voice.history`.
"""

import copy
import inspect
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, cast
from weakref import WeakValueDictionary

import yaml
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, BaseMessage, SystemMessage, convert_to_messages

from graph_voice.errors import HistoryError
from graph_voice.history.functions import register, registered
from graph_voice.history.operation import Operation, Setting, from_dict, operation
from graph_voice.history.pure_operations import (
    MADE,
    of_last_turns,
    of_tools,
    trimmed,
    truncated,
    without_empty,
    without_instructions,
    without_tools,
)
from graph_voice.models import checked
from graph_voice.userdata import channel as _userdata

__all__ = [
    "DEADLINE",
    "custom",
    "exclude_empty",
    "exclude_instructions",
    "exclude_tool_calls",
    "fresh",
    "full",
    "last_turns",
    "model_of",
    "only_tools",
    "resume",
    "summarize",
    "trim_tokens",
    "truncate",
    "userdata_summary",
    "when",
]

DEADLINE = 1.0
"""Seconds that a handoff waits for a summary, unless `summarize(deadline=...)` says otherwise."""

_models: WeakValueDictionary[str, BaseChatModel] = WeakValueDictionary()
"""Model instances that operations name; an operation keeps its own alive."""


# ---- running the operations that need more than the messages


async def _summarized(messages: list[AnyMessage], setting: Setting, **step: Any) -> list[AnyMessage]:
    return await setting.summarize(messages, step, model=setting.model)


async def _resumed(result: Sequence[AnyMessage], setting: Setting) -> list[AnyMessage]:
    earlier = setting.earlier
    newer = {m.additional_kwargs[MADE] for m in result if MADE in m.additional_kwargs}
    known = [m for m in earlier if m.additional_kwargs.get(MADE) not in newer]
    ids = {m.id for m in known if m.id is not None}
    return [*known, *(m for m in result if m.id not in ids)]


async def _custom(messages: list[AnyMessage], setting: Setting, fn: str) -> list[AnyMessage]:
    made = registered(fn)([_own_copy(m) for m in messages], copy.deepcopy(setting.userdata))
    return cast(list[AnyMessage], convert_to_messages(await made if inspect.isawaitable(made) else made))


def _own_copy(message: AnyMessage) -> AnyMessage:
    """A copy that a user's function may change. An artifact is shared: it may be anything, even a connection."""
    own = message.model_copy()
    for name, value in message.__dict__.items():
        if isinstance(value, list | dict) and name != "artifact":
            own.__dict__[name] = _own_data(value)
    return own


def _own_data(value: Any) -> Any:
    """As `copy.deepcopy`, at a fraction of its cost for the usual types of a message's fields."""
    kind = type(value)
    if kind is dict:
        return {k: _own_data(v) for k, v in value.items()} if value else {}
    if kind is list:
        return [_own_data(v) for v in value]
    return value if kind in (str, int, float, bool, type(None)) else copy.deepcopy(value)


async def _with_userdata(messages: list[AnyMessage], setting: Setting, **options: Any) -> list[AnyMessage]:
    rest = [m for m in messages if m.additional_kwargs.get(MADE) != "userdata"]
    summary = _summary_of_userdata(setting.userdata, **options)
    return rest if summary is None else [summary, *rest]


def _summary_of_userdata(
    userdata: Any, format: str = "yaml", include: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> SystemMessage | None:
    fields = _userdata.public_fields(userdata, include=include, exclude=exclude)
    if not fields:
        return None
    if format == "json":
        text = json.dumps(fields, ensure_ascii=False, default=str)
    else:
        text = yaml.safe_dump(fields, allow_unicode=True, sort_keys=False).strip()
    return SystemMessage(f"What is known so far:\n{text}", id="userdata-summary", additional_kwargs={MADE: "userdata"})


# ---- building operations


def _op(name: str, models: Sequence[BaseChatModel] = (), **args: Any) -> Operation:
    return Operation([{"op": name, **{k: v for k, v in args.items() if v is not None}}], models)


# ---- the operations


@operation(pure=lambda messages: [])
def fresh() -> Operation:
    """Nothing carried: the new agent sees only its own instructions. The default of a handoff, as in LiveKit."""
    return _op("fresh")


@operation(pure=lambda messages: messages)
def full() -> Operation:
    """All of the previous agent's context. LiveKit: `chat_ctx=self.chat_ctx`."""
    return _op("full")


@operation(pure=without_instructions)
def exclude_instructions() -> Operation:
    """Without system and developer messages; summaries stay. LiveKit: `copy(exclude_instructions=True)`."""
    return _op("exclude_instructions")


@operation(pure=without_tools)
def exclude_tool_calls() -> Operation:
    """Without tool calls and results; text stays. LiveKit: `copy(exclude_function_call=True)`."""
    return _op("exclude_tool_calls")


@operation(pure=without_empty)
def exclude_empty() -> Operation:
    """Without messages that have neither content nor tool calls. LiveKit: `copy(exclude_empty_message=True)`."""
    return _op("exclude_empty")


@operation(pure=of_tools, build=lambda names=(): _op("only_tools", names=list(names)))
def only_tools(*names: str) -> Operation:
    """Calls and results of these tools only; all other messages stay. LiveKit: `copy(tools=[...])`."""
    return _op("only_tools", names=list(names))


@operation(pure=truncated)
def truncate(*, max_items: int) -> Operation:
    """The last `max_items` messages, plus the first system message. LiveKit: `truncate(max_items=...)`.

    Raises `HistoryError` (a `ValueError`) when `max_items` is negative.
    """
    if max_items < 0:
        raise HistoryError(f"truncate(max_items={max_items}): the number of messages can't be negative.")
    return _op("truncate", max_items=max_items)


@operation(pure=of_last_turns)
def last_turns(n: int) -> Operation:
    """The last `n` user turns, each with all that followed it. Raises `HistoryError` when `n` is negative."""
    if n < 0:
        raise HistoryError(f"last_turns({n}): the number of turns can't be negative.")
    return _op("last_turns", n=n)


Counter = Callable[[list[BaseMessage]], int]


def _counter(where: str, counter: Counter | str | None) -> str | None:
    return None if counter is None else register(where, counter)


@operation(pure=trimmed, function="counter")
def trim_tokens(max_tokens: int, *, counter: Counter | str | None = None) -> Operation:
    """The newest messages that fit a budget. LangChain: `trim_messages(strategy="last")`.

    Args:
        max_tokens: the budget, in tokens.
        counter: a module-level function, `count(messages) -> tokens`, or its import path ("package.module:count").
            This registers it: data may name it. Default: LangChain's approximate count.

    Raises `HistoryError` for a budget below 1, and for a counter that has no import path.
    """
    if max_tokens < 1:
        raise HistoryError(f"trim_tokens({max_tokens}): the budget must be at least one token.")
    return _op("trim_tokens", max_tokens=max_tokens, counter=_counter("trim_tokens(counter=...)", counter))


def _summarize(
    *,
    model: BaseChatModel | str | None = None,
    keep_last_turns: int = 0,
    prompt: str | None = None,
    deadline: float | None = None,
) -> Operation:
    """The operation from its arguments in plain data, whose model was checked when it was written."""
    if keep_last_turns < 0:
        raise HistoryError(f"summarize(keep_last_turns={keep_last_turns}): the number of turns can't be negative.")
    if deadline is not None and deadline < 0:
        raise HistoryError(f"summarize(deadline={deadline}): seconds can't be negative.")
    name = model
    if isinstance(model, BaseChatModel):
        known = (n for n, m in _models.items() if m is model)
        name = next(known, None) or f"instance:{type(model).__name__}:{uuid.uuid4().hex[:8]}"
        _models[name] = model
    return _op(
        "summarize",
        [model] if isinstance(model, BaseChatModel) else (),
        model=name,
        keep_last_turns=keep_last_turns,
        prompt=prompt,
        deadline=deadline,
    )


@operation(run=_summarized, build=_summarize)
def summarize(
    *,
    model: BaseChatModel | str | None = None,
    keep_last_turns: int = 0,
    prompt: str | None = None,
    deadline: float | None = None,
) -> Operation:
    """Replace older turns with one message, "Prior conversation summary: ...".

    When a handoff declares it, the summary is prepared in the background, so that the caller does not wait for it
    (see `graph_voice.history.summaries`).

    Args:
        model: a chat model, or a string such as "openai:gpt-4.1-mini". Default: the active agent's. An instance is
            known only in its own process: use a string where checkpoints move between processes.
        keep_last_turns: user turns at the end that stay as they are, with all that followed each.
        prompt: the instructions for the model, in place of the default ones.
        deadline: seconds that a handoff waits for a summary that is not ready. After that, or when the model fails,
            `exclude_instructions() | truncate(max_items=6)` is used instead. Default: 1.

    Raises `HistoryError` when `keep_last_turns` or `deadline` is negative, and `ModelError` for a string that names no
    provider.
    """
    return _summarize(model=checked(model), keep_last_turns=keep_last_turns, prompt=prompt, deadline=deadline)


def model_of(name: str) -> BaseChatModel | str:
    """The model that a `summarize` step names. Raises `HistoryError` for an instance of another process."""
    if not name.startswith("instance:"):
        return name
    if (found := _models.get(name)) is None:
        raise HistoryError(
            f"summarize(model={name!r}): the model instance is not in this process. Name it by a string, "
            'history.summarize(model="openai:gpt-4.1-mini").'
        )
    return found


@operation(run=_with_userdata)
def userdata_summary(
    format: Literal["yaml", "json"] = "yaml",
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Operation:
    """One system message with the userdata's set fields, at the beginning. It never contains secret fields.

    Args:
        format: "yaml" or "json".
        include: the fields that it may contain. Default: all.
        exclude: fields that it may not.

    Raises `HistoryError` for any other format.
    """
    if format not in ("yaml", "json"):
        raise HistoryError(f'userdata_summary(format={format!r}): write "yaml" or "json".')
    return _op(
        "userdata_summary",
        format=format,
        include=None if include is None else list(include),
        exclude=list(exclude),
    )


Custom = Callable[[list[AnyMessage], Any], "list[AnyMessage] | Awaitable[list[AnyMessage]]"]


@operation(run=_custom, function="fn")
def custom(fn: Custom | str) -> Operation:
    """`fn(messages, userdata) -> messages`, sync or async: a module-level function, stored by its import path.

    It gets copies, so it may change them. This registers the function: operations in data (a checkpoint, a run's
    input) run only functions that the program has registered. So where another process may resume the call, make the
    operation at the top level of a module.

    Raises `HistoryError` for a lambda or a nested function, which a checkpoint can't name.
    """
    return _op("custom", fn=register("custom(...)", fn))


@operation(run=_resumed)
def resume() -> Operation:
    """The target agent's own earlier context first, then the rest of the policy's result, each message once."""
    return _op("resume")


@operation(function="counter")
def when(
    *,
    max_items: int | None = None,
    max_tokens: int | None = None,
    counter: Counter | str | None = None,
    then: Operation,
) -> Operation:
    """Apply `then` once the context is longer than a limit; leave it as it is until then.

    For an agent that stays active for long, `Agent(context=history.when(max_items=60, then=...))`: the context
    grows to the limit, is cut once, and grows again, instead of being cut (or summarized) after each turn.

    Args:
        max_items: the limit, in messages.
        max_tokens: the limit, in tokens. With both limits, exceeding one is enough.
        counter: as in `trim_tokens`, for `max_tokens`.
        then: the operation for a context over the limit.

    Raises `HistoryError` without a limit, for one below 1, and when `then` is not an operation.
    """
    limits = [n for n in (max_items, max_tokens) if n is not None]
    if not limits or min(limits) < 1:
        raise HistoryError("when(...) needs a limit of at least 1: history.when(max_items=60, then=...).")
    inner = from_dict({"steps": then}) if isinstance(then, list) else then
    if not isinstance(inner, Operation):
        raise HistoryError(f"when(then={then!r}) takes a history operation: then=history.truncate(max_items=20).")
    return _op(
        "when",
        inner._kept_alive,
        max_items=max_items,
        max_tokens=max_tokens,
        counter=_counter("when(counter=...)", counter),
        then=inner.to_dict()["steps"],
    )
