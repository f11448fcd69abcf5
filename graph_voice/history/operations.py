"""The history operations as plain data: what a handoff declares, a node returns, and a checkpoint keeps."""

import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, Self, cast
from weakref import WeakValueDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, BaseMessage

from graph_voice.errors import HistoryError
from graph_voice.history.pure_operations import PURE

__all__ = [
    "DEADLINE",
    "Operation",
    "custom",
    "exclude_empty",
    "exclude_instructions",
    "exclude_tool_calls",
    "fresh",
    "from_dict",
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


class Operation(dict[str, Any]):
    """One history operation, or several in order: plain data, `{"steps": [{"op": "truncate", "max_items": 6}]}`.

    Made by this module's functions, not by hand. A dict, so that LangGraph stores a node's update of `chat_ctx` in a
    checkpoint (also with `LANGGRAPH_STRICT_MSGPACK=true`), and Studio and LangSmith show it, as what it is.
    """

    def __init__(self, steps: Sequence[dict[str, Any]], models: Sequence[BaseChatModel] = ()) -> None:
        super().__init__(steps=[_plain(step) for step in steps])
        self._kept_alive = tuple(models)

    @property
    def steps(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self["steps"]
        return found

    def __or__(self, other: "Operation") -> "Operation":  # type: ignore[override]  # not the union of two dicts
        if not isinstance(other, Operation):
            return NotImplemented
        return Operation([*self.steps, *other.steps], [*self._kept_alive, *other._kept_alive])

    def __ior__(self, other: "Operation") -> Self:  # type: ignore[override]
        return cast(Self, self | other)

    def __hash__(self) -> int:  # type: ignore[override]  # a value: nobody changes it
        return hash(json.dumps(self.steps, sort_keys=True))

    def __reduce__(self) -> Any:
        return from_dict, (self.to_dict(),)

    def __deepcopy__(self, memo: Any) -> "Operation":
        return self

    def to_dict(self) -> dict[str, Any]:
        """A plain dict, as checkpoints and traces show it."""
        return {"steps": [_plain(step) for step in self.steps]}

    @property
    def is_pure(self) -> bool:
        """Whether it needs nothing but the messages, so that it can run in a reducer."""
        return all(step["op"] in PURE for step in self.flat())

    @property
    def asks_model(self) -> bool:
        """Whether it asks a model and leaves open which one: the active agent's."""
        return any(step["op"] == "summarize" and "model" not in step for step in self.flat())

    def flat(self) -> Iterator[dict[str, Any]]:
        """Its steps, those inside a `when` in place of it."""
        for step in self.steps:
            if step["op"] == "when":
                yield from Operation(step["then"]).flat()
            else:
                yield step

    def __str__(self) -> str:
        return " | ".join(f"{step['op']}({', '.join(_arguments(step))})" for step in self.steps)

    __repr__ = __str__


def _plain(step: dict[str, Any]) -> dict[str, Any]:
    """A step of its own: what is done to it changes nobody else's."""
    if "then" in step:
        return {**step, "then": [_plain(inner) for inner in step["then"]]}
    return dict(step)


def _arguments(step: dict[str, Any]) -> Iterator[str]:
    for name, value in step.items():
        if name != "op":
            yield f"{name}={Operation(value) if name == 'then' else repr(value)}"


def _op(name: str, models: Sequence[BaseChatModel] = (), **args: Any) -> Operation:
    return Operation([{"op": name, **{k: v for k, v in args.items() if v is not None}}], models)


def from_dict(data: Any) -> Operation:
    """The operation that this plain dict is, as a checkpoint, Studio or JSON gives it.

    Raises `HistoryError` when it is none, or has arguments that the operation does not take.
    """
    if isinstance(data, Operation):
        return data
    try:
        steps = [({k: v for k, v in step.items() if k != "op"}, _BUILD[step["op"]]) for step in data["steps"]]
        made = [build(**args) for args, build in steps]
    except (KeyError, TypeError, AttributeError) as error:
        raise HistoryError(
            f'This is not a history operation: {data!r} ({error}). Write {{"steps": [{{"op": "truncate", '
            f'"max_items": 6}}]}}; the operations are {", ".join(_BUILD)}.'
        ) from error
    return Operation([s for op in made for s in op.steps], [m for op in made for m in op._kept_alive])


def fresh() -> Operation:
    """Nothing carried: the new agent sees only its own instructions. The default of a handoff, as in LiveKit."""
    return _op("fresh")


def full() -> Operation:
    """All of the previous agent's context. LiveKit: `chat_ctx=self.chat_ctx`."""
    return _op("full")


def exclude_instructions() -> Operation:
    """Without system and developer messages, but for summaries. LiveKit: `copy(exclude_instructions=True)`."""
    return _op("exclude_instructions")


def exclude_tool_calls() -> Operation:
    """Without tool calls and results; text stays. LiveKit: `copy(exclude_function_call=True)`."""
    return _op("exclude_tool_calls")


def exclude_empty() -> Operation:
    """Without messages that have neither content nor calls. LiveKit: `copy(exclude_empty_message=True)`."""
    return _op("exclude_empty")


def only_tools(*names: str) -> Operation:
    """Calls and results of these tools only; what is not a tool item stays. LiveKit: `copy(tools=[...])`."""
    return _op("only_tools", names=list(names))


def truncate(*, max_items: int) -> Operation:
    """The last `max_items` messages, plus the first system message. LiveKit: `truncate(max_items=...)`.

    Raises `HistoryError` (a `ValueError`) when `max_items` is negative.
    """
    if max_items < 0:
        raise HistoryError(f"truncate(max_items={max_items}): the number of messages can't be negative.")
    return _op("truncate", max_items=max_items)


def last_turns(n: int) -> Operation:
    """The last `n` user turns, each with all that followed it. Raises `HistoryError` when `n` is negative."""
    if n < 0:
        raise HistoryError(f"last_turns({n}): the number of turns can't be negative.")
    return _op("last_turns", n=n)


Counter = Callable[[list[BaseMessage]], int]


def trim_tokens(max_tokens: int, *, counter: Counter | str | None = None) -> Operation:
    """The newest messages that fit a budget. LangChain: `trim_messages(strategy="last")`.

    Args:
        max_tokens: the budget, in tokens.
        counter: a function of a module, `count(messages) -> tokens`, or its import path ("package.module:count").
            Default: LangChain's approximate count.

    Raises `HistoryError` for a budget below 1, and for a counter that has no import path.
    """
    if max_tokens < 1:
        raise HistoryError(f"trim_tokens({max_tokens}): the budget must be at least one token.")
    return _op("trim_tokens", max_tokens=max_tokens, counter=_path("trim_tokens(counter=...)", counter))


def summarize(
    *,
    model: BaseChatModel | str | None = None,
    keep_last_turns: int = 0,
    prompt: str | None = None,
    deadline: float | None = None,
) -> Operation:
    """Replace older turns by one message, "Prior conversation summary: ...".

    A handoff that declares it has the summary prepared in the background, so that the caller does not wait for it
    (see `graph_voice.history.summaries`).

    Args:
        model: a chat model, or a string such as "openai:gpt-4.1-mini". Default: the active agent's. An instance is
            known in its own process only; name the model by a string where checkpoints move between processes.
        keep_last_turns: user turns at the end that stay as they are, with all that followed each.
        prompt: the instructions for the model, in place of the default ones.
        deadline: seconds that a handoff waits for a summary that is not ready; then, and when the model fails,
            `exclude_instructions() | truncate(max_items=6)` takes its place. Default: 1.

    Raises `HistoryError` when `keep_last_turns` or `deadline` is negative.
    """
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


def userdata_summary(
    format: Literal["yaml", "json"] = "yaml",
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> Operation:
    """One system message with the userdata's set fields, in front. Secret fields are never in it.

    Args:
        format: "yaml" or "json".
        include: the fields that may be in it. Default: all.
        exclude: fields that may not.

    Raises `HistoryError` for another format.
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


def custom(fn: Custom | str) -> Operation:
    """`fn(messages, userdata) -> messages`, sync or async, named by its import path (so a function of a module).

    It gets copies, so it may change them. Raises `HistoryError` for a lambda or a nested function: a checkpoint could
    not name it.
    """
    return _op("custom", fn=_path("custom(...)", fn))


def resume() -> Operation:
    """The target agent's own earlier context first, then the rest of the policy's result, each message once."""
    return _op("resume")


def when(
    *,
    max_items: int | None = None,
    max_tokens: int | None = None,
    counter: Counter | str | None = None,
    then: Operation,
) -> Operation:
    """Apply `then` once the context is longer than a limit; leave it as it is until then.

    For an agent that keeps the floor for long, `Agent(context=history.when(max_items=60, then=...))`: the context
    grows to the limit, is cut once, and grows again, instead of being cut (or summarised) after each turn.

    Args:
        max_items: the limit, in messages.
        max_tokens: the limit, in tokens. With both, either one counts.
        counter: as in `trim_tokens`, for `max_tokens`.
        then: what is done with a context over the limit.

    Raises `HistoryError` without a limit, for one below 1, and when `then` is no operation.
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
        counter=_path("when(counter=...)", counter),
        then=inner.to_dict()["steps"],
    )


def _only_tools_of(names: Sequence[str] = ()) -> Operation:
    return only_tools(*names)


_BUILD: dict[str, Callable[..., Operation]] = {
    "fresh": fresh,
    "full": full,
    "exclude_instructions": exclude_instructions,
    "exclude_tool_calls": exclude_tool_calls,
    "exclude_empty": exclude_empty,
    "only_tools": _only_tools_of,
    "truncate": truncate,
    "last_turns": last_turns,
    "trim_tokens": trim_tokens,
    "summarize": summarize,
    "userdata_summary": userdata_summary,
    "custom": custom,
    "resume": resume,
    "when": when,
}


def _path(where: str, fn: Callable[..., Any] | str | None) -> str | None:
    if fn is None or isinstance(fn, str):
        return fn
    name = getattr(fn, "__qualname__", "")
    if not name or "<" in name:
        raise HistoryError(
            f"{where}: a checkpoint names the function by its import path, so write {fn!r} as a function at the top "
            "level of a module."
        )
    return f"{fn.__module__}:{name}"
