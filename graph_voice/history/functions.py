"""The functions that operations name (`custom`, `counter=`): those that this program has given to an operation.

A checkpoint stores an operation as data, and a run's input is data that anybody may have sent. So an import path in
data is never imported: it only selects one of the functions that are registered here.
"""

import importlib
from collections.abc import Callable
from typing import Any, cast

from graph_voice.errors import HistoryError

__all__ = ["register", "registered", "require_registered"]

_known: dict[str, Callable[..., Any] | None] = {}
"""Import path -> the function; None until one that the program named by its path is used."""


def register(where: str, fn: Callable[..., Any] | str) -> str:
    """Register a function of the program's. Returns its import path, by which data may name it from now on.

    Args:
        where: the operation, for messages.
        fn: a module-level function, or its import path.

    Raises `HistoryError` for a lambda or a nested function, which has no import path.
    """
    if isinstance(fn, str):
        _known.setdefault(fn, None)
        return fn
    name = getattr(fn, "__qualname__", "")
    if not name or "<" in name:
        raise HistoryError(
            f"{where}: a checkpoint names the function by its import path, so define {fn!r} at the top level of a "
            "module."
        )
    path = f"{fn.__module__}:{name}"
    _known[path] = fn
    return path


def registered(path: Any) -> Callable[..., Any]:
    """The function that data names. Raises `HistoryError` for one that the program has not registered."""
    require_registered(path)
    if (found := _known[path]) is None:
        found = _known[path] = _imported(path)
    return found


def require_registered(path: Any) -> None:
    """Raise `HistoryError` unless the program has registered this function. Nothing is imported."""
    if not isinstance(path, str) or path not in _known:
        raise HistoryError(
            f"A history operation in data names the function {path!r}, which this program has not registered, so it "
            "is not run. If it is yours, make its operation where the module is loaded (shorten = "
            "history.custom(my_function), history.trim_tokens(400, counter=my_counter)): that registers it."
        )


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise HistoryError(
            f'The function {path!r} can\'t be imported ({error}). Write "package.module:function".'
        ) from error
    return cast(Callable[..., Any], found)
