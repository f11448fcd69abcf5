"""What userdata may hold: data, which can be copied and stored. A live object (a client, a lock) is refused by name."""

import copy
import dataclasses
import enum
import numbers
import re
from collections import ChainMap, UserDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from graph_voice.errors import UserdataError
from graph_voice.secrets.values import is_secret
from graph_voice.userdata.objects import attributes_of, caches, is_live, shown
from graph_voice.userdata.plain import AS_THEY_ARE, copied, fields_of, is_known, private_of

__all__ = ["copy_of", "require_data", "trouble"]

DEEPEST = 100
"""How deep userdata may be nested. LangGraph's serializer and pydantic stop at a few hundred."""
_ATOMS = (str, numbers.Number, bytes, bytearray, enum.Enum, re.Pattern, type(None), *AS_THEY_ARE)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque, UserDict, ChainMap)
_SERIALIZER = JsonPlusSerializer(allowed_msgpack_modules=None)


@dataclass(frozen=True)
class Trouble:
    """Something that is no data."""

    path: str
    """Where it is: "userdata.shop.client"."""
    what: str
    """What it is: "a Client (its lock is a lock)"."""

    def __str__(self) -> str:
        return (
            f"{self.path} can't hold {self.what}: userdata is copied and stored, so it holds data only. Pass what is "
            "alive as context=, to Conversation(graph, context=...) or GraphAgent(graph, context=...): tools find it "
            "in ctx.context."
        )


def require_data(value: Any, where: str = "userdata") -> None:
    """Raise `UserdataError` unless this is data at any depth. `where` is its name in the message."""
    if (found := trouble(value, where)) is not None:
        raise UserdataError(str(found))


def copy_of(userdata: Any) -> Any:
    """A deep copy. Raises `UserdataError` when there is a live object in it."""
    try:
        return copied(userdata)
    except Exception:  # whatever a class raises that can't be copied
        require_data(userdata)
        # What cached properties hold is no part of the data: the copy shares it.
        return copy.deepcopy(userdata, {id(held): held for held in _cached(userdata)})


def _cached(value: Any) -> Iterator[Any]:
    """What cached properties hold, at any depth of data."""
    if isinstance(value, _ATOMS):
        return
    yield from (held for name, held in getattr(value, "__dict__", {}).items() if caches(value, name))
    parts = (part for _, part in _parts(value)) if _has_parts(value) else attributes_of(value).values()
    for part in parts:
        yield from _cached(part)


def trouble(value: Any, where: str = "userdata") -> Trouble | None:
    """The first thing in a value that is no data; None if all of it is."""
    return _look(value, where, ())


def _look(value: Any, path: str, inside: tuple[int, ...]) -> Trouble | None:
    if isinstance(value, _ATOMS) or is_secret(value):
        return None
    if id(value) in inside:
        return Trouble(path, "a structure that contains itself")
    if len(inside) >= DEEPEST:
        return Trouble(path, f"a structure that is nested more than {DEEPEST} deep")
    inside = (*inside, id(value))
    if _has_parts(value):
        found = (_look(part, f"{path}{step}", inside) for step, part in _parts(value))
        return next((one for one in found if one is not None), None)
    if is_known(value) or _is_array(value):
        return None
    return _in_object(value, path, inside)


def _in_object(value: Any, path: str, inside: tuple[int, ...]) -> Trouble | None:
    """An object of a class that only the program knows is data if everything in it is."""
    name = _a(type(value).__name__)
    if is_live(value):
        return Trouble(path, name)
    for attribute, part in attributes_of(value).items():
        if (found := _look(part, attribute, inside)) is not None:
            return Trouble(path, f"{name} (its {found.path} is {found.what})")
    return None


def _has_parts(value: Any) -> bool:
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return is_record or isinstance(value, (BaseModel, *_CONTAINERS))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Each part of a value, and how to write it behind the value's own path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"[{shown(key)}]", key
            yield f"[{shown(key)}]", item
    elif isinstance(value, _CONTAINERS):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    else:
        yield from ((f".{name}", item) for name, item in {**fields_of(value), **private_of(value)}.items())
    if isinstance(value, _CONTAINERS) and not isinstance(value, UserDict | ChainMap):
        yield from ((f".{name}", item) for name, item in attributes_of(value).items())


def _is_array(value: Any) -> bool:
    """Whether it is numpy's and LangGraph's serializer has a form for it."""
    if type(value).__module__.partition(".")[0] != "numpy":
        return False
    try:
        back = _SERIALIZER.loads_typed(_SERIALIZER.dumps_typed(value))
    except Exception:
        return False
    return type(back) is type(value)


def _a(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
