"""Typed values in the pickles of LangGraph's dev server, which it reads before it has loaded the file with their class.

`langgraph dev` keeps the last values of each thread in one pickle. If it names a module that can't be imported, the
server drops it, with all threads of all graphs, and a file that was loaded by its path is such a module. So a value of
its classes is pickled as plain data with the name of its class. Without the class it is read as the plain data.
"""

import contextlib
import dataclasses
import enum
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from graph_voice.secrets.values import parts_of
from graph_voice.userdata.plain import to_plain
from graph_voice.userdata.reading import from_plain

__all__ = ["keep_readable"]

_PROTOCOL = 2
"""The dev server's. Copies, and pickles between processes, are made with later ones, and stay as they are."""
_MARK = "__graph_voice_pickle__"


def keep_readable(kind: Any) -> None:
    """Make values of this type readable in a process that does not know its class yet."""
    for found in set(_classes(kind, [])):
        if _MARK not in vars(found):
            with contextlib.suppress(TypeError):  # a class of an extension can't be changed
                found.__reduce_ex__ = _reducer(found.__reduce_ex__)
                setattr(found, _MARK, True)


def _classes(kind: Any, seen: list[Any]) -> Iterator[Any]:
    """The classes with data in a type, but for those that can be imported: they need no help."""
    if any(kind is known for known in seen):
        return
    seen.append(kind)
    holds_data = isinstance(kind, type) and (issubclass(kind, BaseModel | enum.Enum) or dataclasses.is_dataclass(kind))
    if holds_data and not _is_importable(kind.__module__.partition(".")[0]):
        yield kind
    for part in parts_of(kind):
        yield from _classes(part, seen)


@functools.lru_cache(maxsize=128)
def _is_importable(module: str) -> bool:
    """Whether a new process finds the module by its name. This one may have it from anywhere."""
    if module == "__main__":
        return True
    finders = (find for finder in sys.meta_path if (find := getattr(finder, "find_spec", None)) is not None)
    return any(find(module, None) is not None for find in finders)


def _reducer(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        if int(protocol) > _PROTOCOL:
            return original(self, protocol)
        return _read, (type(self).__module__, type(self).__qualname__, to_plain(self))  # secrets as masks

    return __reduce_ex__


def _read(module: str, name: str, plain: Any) -> Any:
    """What a pickle stands for: a value of the class, or the plain data where there is no such class (any more)."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    try:
        return from_plain(found, plain) if isinstance(found, type) else plain
    except Exception:  # the class has changed
        return plain
