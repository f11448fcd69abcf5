"""A history operation as plain data, and the registry of all operations: how each is built, and how it runs."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, Self, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage

from graph_voice.errors import HistoryError
from graph_voice.history.functions import require_registered

__all__ = ["KINDS", "Operation", "Setting", "Summarize", "arguments", "from_dict", "operation", "run_pure"]

P = ParamSpec("P")


class Summarize(Protocol):
    """Does a `summarize` step: see `summaries.summarized`."""

    async def __call__(
        self, messages: Sequence[AnyMessage], step: dict[str, Any], *, model: BaseChatModel | None
    ) -> list[AnyMessage]: ...


@dataclass(frozen=True)
class Setting:
    """What an operation may need besides the messages."""

    userdata: Any
    model: BaseChatModel | None
    """For a `summarize` that names no model."""
    earlier: Sequence[AnyMessage]
    """The target agent's own earlier context."""
    summarize: Summarize
    """Runs a `summarize` step: context compaction and a handoff do it differently."""


class Operation(dict[str, Any]):
    """One history operation, or several in order: plain data, `{"steps": [{"op": "truncate", "max_items": 6}]}`.

    Make it with the functions of `graph_voice.history`, not by hand. It is a dict, so that LangGraph stores a node's
    update of `chat_ctx` in a checkpoint (also with `LANGGRAPH_STRICT_MSGPACK=true`), and Studio and LangSmith show it.
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

    def lost(self, stored: Any) -> tuple[str, ...]:
        """A store has the dict, which is read as the operation again (`graph_voice.storage.storable`)."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """A plain dict, as checkpoints and traces show it."""
        return {"steps": [_plain(step) for step in self.steps]}

    @property
    def is_pure(self) -> bool:
        """Whether it needs only the messages, so that it can run in a reducer."""
        return all(KINDS[step["op"]].pure is not None for step in self.flat())

    @property
    def asks_model(self) -> bool:
        """Whether it needs a model and names none, so that the active agent's is used."""
        return any(step["op"] == "summarize" and "model" not in step for step in self.flat())

    def flat(self) -> Iterator[dict[str, Any]]:
        """Its steps, with each `when` replaced by the steps inside it."""
        for step in self.steps:
            if step["op"] == "when":
                yield from Operation(step["then"]).flat()
            else:
                yield step

    def __str__(self) -> str:
        return " | ".join(f"{step['op']}({', '.join(_arguments(step))})" for step in self.steps)

    __repr__ = __str__


def _plain(step: dict[str, Any]) -> dict[str, Any]:
    """A copy of a step: changes to it change no other."""
    if "then" in step:
        return {**step, "then": [_plain(inner) for inner in step["then"]]}
    return dict(step)


def _arguments(step: dict[str, Any]) -> Iterator[str]:
    for name, value in step.items():
        if name != "op":
            yield f"{name}={Operation(value) if name == 'then' else repr(value)}"


@dataclass(frozen=True)
class Kind:
    """One operation of the registry."""

    build: Callable[..., Operation]
    """Makes it from its arguments in plain data."""
    pure: Callable[..., list[AnyMessage]] | None
    """Runs it on the messages alone. The caller repairs the result's pairing."""
    run: Callable[..., Awaitable[list[AnyMessage]]] | None
    """Runs it on the messages and a `Setting`."""
    function: str | None
    """The argument that names a function, if it has one."""


KINDS: dict[str, Kind] = {}
"""All operations, by name. `when` has neither function: whoever applies a policy runs the steps inside it."""


def operation(
    *,
    pure: Callable[..., list[AnyMessage]] | None = None,
    run: Callable[..., Awaitable[list[AnyMessage]]] | None = None,
    build: Callable[..., Operation] | None = None,
    function: str | None = None,
) -> Callable[[Callable[P, Operation]], Callable[P, Operation]]:
    """Put the operation that the decorated function makes into the registry, under the function's name.

    Args:
        pure: runs it: `pure(messages, **arguments)`.
        run: runs it, when it needs more than the messages: `await run(messages, setting, **arguments)`.
        build: makes it from plain data. Default: the decorated function.
        function: the argument that names a function. In data it may only name one that the program has registered.
    """

    def register(made: Callable[P, Operation]) -> Callable[P, Operation]:
        KINDS[made.__name__] = Kind(build or made, pure, run, function)
        return made

    return register


def arguments(step: dict[str, Any]) -> dict[str, Any]:
    """The arguments of one step."""
    return {name: value for name, value in step.items() if name != "op"}


def run_pure(messages: list[AnyMessage], step: dict[str, Any]) -> list[AnyMessage]:
    """Run one step of a pure operation. The caller repairs the result's pairing."""
    pure = KINDS[step["op"]].pure
    assert pure is not None
    return pure(messages, **arguments(step))


def from_dict(data: Any) -> Operation:
    """The operation that a plain dict from a checkpoint, Studio or JSON stands for.

    Raises `HistoryError` when it is not an operation, has arguments that the operation does not take, or names a
    function that this program has not registered.
    """
    if isinstance(data, Operation):
        return data
    try:
        made = [_made(KINDS[step["op"]], arguments(step)) for step in data["steps"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise HistoryError(
            f'This is not a history operation: {data!r} ({error}). Write {{"steps": [{{"op": "truncate", '
            f'"max_items": 6}}]}}; the operations are {", ".join(KINDS)}.'
        ) from error
    return Operation([s for op in made for s in op.steps], [m for op in made for m in op._kept_alive])


def _made(kind: Kind, args: dict[str, Any]) -> Operation:
    """An operation from plain data, which must not choose what code runs."""
    if kind.function is not None and args.get(kind.function) is not None:
        require_registered(args[kind.function])
    return kind.build(**args)
