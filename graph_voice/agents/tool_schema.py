"""The schema of a function tool: what the model is asked for, from the function's signature and docstring."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from langchain_core.tools.base import create_schema_from_function

__all__ = ["schema_of"]


def schema_of(name: str, fn: Callable[..., Any], *, hints: Mapping[str, Any], unasked: Collection[str]) -> Any:
    """A pydantic model: the arguments of a tool of this name, without those that the model is not asked for.

    LangChain has pydantic make a schema of all parameters before it leaves some out. That of a `RunContext` is large,
    and would be made anew for each tool. So what is left out is shown to it as `Any`.

    Args:
        hints: the function's annotations, resolved; empty when they can't be.
    """
    return create_schema_from_function(
        name,
        _with_any(fn, hints, unasked) if hints else fn,
        filter_args=list(unasked),
        parse_docstring=True,
        error_on_invalid_docstring=False,
    )


def _with_any(fn: Callable[..., Any], hints: Mapping[str, Any], names: Collection[str]) -> Callable[..., Any]:
    """Something that looks like the function, but for the annotations of these parameters."""

    def looks() -> None: ...

    functools.update_wrapper(looks, fn)
    signature = inspect.signature(fn)
    changed = {**hints, **{name: Any for name in names if name in signature.parameters}}
    parameters = [p.replace(annotation=changed.get(p.name, p.annotation)) for p in signature.parameters.values()]
    looks.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    looks.__annotations__ = changed
    return looks
