"""Whether the tools of a task can end it, as far as that can be told without running them."""

import dis
import itertools
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, TypeVar

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task_end import Done
from graph_voice.agents.tools import FunctionTool

__all__ = ["Ending", "can_end"]

_ENDS = frozenset({"complete", "fail", "Done"})
"""Names that stand in the code of a tool that ends its task."""


class Ending(Enum):
    """Whether a tool ends the task that it is a tool of."""

    YES = "yes"
    PERHAPS = "perhaps"
    """Nothing says so, but it may: it passes its `RunContext` on, or does not say what it returns."""
    NEVER = "never"


def can_end(tools: Sequence[Any]) -> Ending:
    """Whether one of these tools, as they are listed, ends the task that it is a tool of."""
    found = {_ending(tool) for tool in tools}
    return next((ending for ending in Ending if ending in found), Ending.NEVER)


def _ending(tool: Any) -> Ending:
    if isinstance(tool, FunctionTool):
        return Ending.PERHAPS
    if not callable(tool):
        return Ending.NEVER  # a tool of LangChain's or the provider's, or a task
    function = getattr(tool, "__func__", tool)
    code = getattr(function, "__code__", None)
    if _ENDS & set(_names(code)):
        return Ending.YES
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that is not there yet: whoever makes the tool says so
        return Ending.PERHAPS
    said = set(_types(hints.get("return", Any)))
    if Done in said:
        return Ending.YES
    unsaid = bool(said & {Any, object}) or any(isinstance(part, TypeVar) for part in said)
    return Ending.PERHAPS if unsaid or _passes_context_on(function, hints) else Ending.NEVER


def _passes_context_on(function: Callable[..., Any], hints: dict[str, Any]) -> bool:
    """Whether other code may get its `RunContext`. Its own only reads from it: `ctx.userdata`."""
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__") or "current" in code.co_names:
        return True
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    contexts = {n for n in names if n in ("ctx", "context") or RunContext in map(_origin, _types(hints.get(n)))}
    if contexts & {*code.co_cellvars}:
        return True
    steps = list(dis.get_instructions(code))
    for step, following in itertools.pairwise(steps):
        loaded = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if step.opname.startswith("LOAD_FAST") and contexts & set(loaded):
            reads = following.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"))
            if not reads or contexts & set(loaded[:-1]):
                return True
    return False


def _names(code: Any) -> Iterator[str]:
    """The names in a function's code, and in that of the functions inside it."""
    if isinstance(code, types.CodeType):
        yield from (*code.co_names, *code.co_freevars)
        for constant in code.co_consts:
            yield from _names(constant)


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from _types(part)


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation
