"""Objects of classes that only the program knows: which of them are data, and what they hold."""

import copy
import functools
import sys
import types
from collections.abc import Mapping
from typing import Any

__all__ = ["attributes_of", "caches", "is_live", "is_plain_class", "made_of", "shown"]

_RESOURCE = ("__next__", "__anext__", "__enter__", "__aenter__", "__await__")
"""What an iterator, a resource or a task has."""


def is_live(value: Any) -> bool:
    """Whether an object is no data, whatever its attributes are: a class, a function, an iterator, a resource, a part
    of Python's own library, or one that holds something outside its attributes."""
    kind = type(value)
    if isinstance(value, type | BaseException) or not is_plain_class(kind):
        return True
    try:
        value.__reduce_ex__(2)  # Python's own judgment: it raises when a part of the object is C's
    except Exception:
        return True
    return False


def is_plain_class(kind: Any) -> bool:
    """Whether the instances of a class may be data that is all in their attributes."""
    if kind is types.SimpleNamespace:
        return True
    if not isinstance(kind, type) or any(hasattr(kind, name) for name in _RESOURCE):
        return False
    return kind.__module__.partition(".")[0] not in sys.stdlib_module_names or kind.__module__ == "__main__"


def attributes_of(value: Any) -> dict[str, Any]:
    """Attribute -> value, in its `__dict__` and its slots, but not what its cached properties hold."""
    slots = (s for base in type(value).__mro__ for s in _slots(base) if hasattr(value, s))
    own = {k: v for k, v in getattr(value, "__dict__", {}).items() if not caches(value, k)}
    return {**{s: getattr(value, s) for s in slots}, **own}


def caches(value: Any, name: str) -> bool:
    """Whether this attribute is what a cached property holds."""
    return isinstance(getattr(type(value), name, None), functools.cached_property)


def _slots(kind: type) -> tuple[str, ...]:
    found = vars(kind).get("__slots__", ())
    names = (found,) if isinstance(found, str) else tuple(found)
    return tuple(n for n in names if n not in ("__dict__", "__weakref__"))


def made_of(kind: type, attributes: Mapping[str, Any], like: Any = None) -> Any:
    """An object with these attributes. Its `__init__` does not run: it ran when the object was made.

    Args:
        kind: its class.
        attributes: attribute -> value.
        like: an object of this class, which has what `attributes` lacks (a class that has got a new attribute).
    """
    made = copy.copy(like) if type(like) is kind else object.__new__(kind)
    for name, value in attributes.items():
        object.__setattr__(made, name, value)
    return made


def shown(key: Any) -> str:
    """A key, as a path to its value has it."""
    try:
        return f"{key!r:.40}"
    except Exception:  # an integer of thousands of digits, a __repr__ that fails
        return f"<{type(key).__name__}>"
