"""Values as a store can hold them: one that its serializer does not take costs nothing else.

An integer of any size comes back as it was. What has no form in the store at all (a lock, a structure that contains
itself) is stored as a text that says so. What comes back in another kind (a tuple as a list) is stored, and told.
"""

import copy
import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from numbers import Integral
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from pydantic import BaseModel

__all__ = ["Loss", "SaysWhatIsLost", "Storing", "storable_in_json", "stored"]

_MARK = "graph_voice:"
"""Begins a text that stands for another value."""
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)
"""The integers that msgpack takes."""
_DEEPEST = 200
"""How deep a value may be nested. LangGraph's serializer stops at 255."""
_ATOMS = (bool, float, bytes, type(None))
_MESSAGES = "langchain_core.messages"


class Loss(NamedTuple):
    """Something of a value that the store does not give back as it was."""

    where: str
    """The channel, and the path in it: "messages[call-1].artifact"."""
    what: str
    gone: bool = False
    """Whether the value itself is lost, not only its kind."""

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


@runtime_checkable
class SaysWhatIsLost(Protocol):
    """Plain data that stands for something else in its process, and knows how it is read."""

    def lost(self, stored: Any) -> Sequence[str]:
        """What is not as it was. `stored` is the data as it is read back from a store."""


class Storing:
    """Makes values that a store can hold.

    Args:
        serde: the store's serializer.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def form(self, value: Any, where: str) -> tuple[Any, list[Loss]]:
        """A value in a form that the serializer takes, and what is lost. Itself if it can be stored as it is.

        Args:
            value: what was put.
            where: the channel, for the losses.
        """
        if _is_simple(value, 0):
            return value, []
        if isinstance(value, SaysWhatIsLost):
            return self._described(value, where)
        made, lost = self._formed(value, where)
        return made, [*lost, *self._other_kinds(made, where)]

    def _formed(self, value: Any, where: str) -> tuple[Any, list[Loss]]:
        form = _Form(self)
        return form.of(value, where), form.lost

    def _described(self, value: Any, where: str) -> tuple[Any, list[Loss]]:
        if not isinstance(value, dict):
            return value, []
        made, lost = self._formed(dict(value), where)
        try:
            said = [f"{where}.{one}" for one in value.lost(stored(self.back(made)))]  # type: ignore[attr-defined]
        except Exception as error:  # the class can't read it, or can't compare
            said = [f"{where} can't be read back: {error}"]
        gone = any(loss.gone for loss in lost)
        return made, [Loss(*_split(one), gone=gone) for one in said]

    def _other_kinds(self, made: Any, at: str) -> Iterator[Loss]:
        """What comes back in another kind. Only what is not simple is tried, since that makes objects."""
        if type(made) is list:
            rest = [(f"{at}[{_name(item, i)}]", item) for i, item in enumerate(made) if not _is_simple(item, 0)]
        elif type(made) is dict and all(map(_is_usual_key, made)):
            rest = [(f"{at}[{_shown(k)}]", item) for k, item in made.items() if not _is_simple(item, 0)]
        else:
            yield from _differences(stored(made), stored(self.back([made])[0]), at)
            return
        for where, item in rest:
            yield from self._other_kinds(item, where)

    def takes(self, value: Any) -> bool:
        """Whether the serializer takes this, inside of something else."""
        try:
            self._serde.dumps_typed([value])
        except Exception:  # serializers, and the methods of the value that they call, raise all kinds of errors
            return False
        return True

    def back(self, value: Any) -> Any:
        """A value as it comes back."""
        return self._serde.loads_typed(self._serde.dumps_typed(value))


def stored(value: Any) -> Any:
    """What `Storing.form` was given, as far as it comes back. The value itself if nothing in it stands for another."""
    if _stands_for_nothing(value):
        return value
    if isinstance(value, str):
        return _unmarked(value)
    if isinstance(value, Mapping):
        if type(value) is not dict or not value:
            return value
        made = {stored(k): stored(v) for k, v in value.items()}
        return made if any(new is not old for new, old in zip(_both(made), _both(value), strict=False)) else value
    if isinstance(value, list | tuple | set | frozenset | deque):
        return _changed_items(value, stored)
    if (parts := _parts(value)) is not None:
        return _with_parts(value, parts, {name: stored(part) for name, part in parts.items()})
    return value


def storable_in_json(value: Any) -> Any:
    """A form that also a column of JSON takes: stores keep short values of channels in one."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{_MARK}float:{value!r}"
    if isinstance(value, str) and "\x00" in value:
        return f"{_MARK}escaped:{value.encode('unicode_escape').decode('ascii')}"
    return value


# ---- what can be stored as it is


def _is_simple(value: Any, depth: int) -> bool:
    """Whether every serializer gives this back as it is."""
    kind = type(value)
    if kind is str:
        return (value.isascii() or _is_whole(value)) and not value.startswith(_MARK)
    if kind is int:
        return bool(_SMALLEST <= value <= _LARGEST)
    if kind in _ATOMS:
        return True
    if depth > _DEEPEST:
        return False
    if kind is list:
        return all(_is_simple(item, depth + 1) for item in value)
    if kind is dict:
        return all(type(k) is str and _is_simple(k, depth) and _is_simple(v, depth + 1) for k, v in value.items())
    if isinstance(value, BaseMessage) and kind.__module__.startswith(_MESSAGES):
        return all(_is_simple(part, depth + 1) for part in _fields(value) if part is not None)
    return False


def _fields(value: BaseModel) -> Iterable[Any]:
    extra = value.__pydantic_extra__
    return (*value.__dict__.values(), *extra.values()) if extra else value.__dict__.values()


def _stands_for_nothing(value: Any) -> bool:
    """Whether nothing in data that was read stands for another value."""
    kind = type(value)
    if kind is str:
        return not value.startswith(_MARK)
    if kind is int or kind in _ATOMS:
        return True
    if kind is list:
        return all(map(_stands_for_nothing, value))
    if kind is dict:
        return all(map(_stands_for_nothing, value)) and all(map(_stands_for_nothing, value.values()))
    if isinstance(value, BaseMessage):
        return all(_stands_for_nothing(part) for part in _fields(value) if part is not None)
    return False


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- the form of the rest


class _Form:
    """Makes the form of one value."""

    def __init__(self, storing: Storing) -> None:
        self.lost: list[Loss] = []
        self._storing = storing
        self._inside: list[int] = []
        """The containers around the value that is looked at."""

    def of(self, value: Any, at: str) -> Any:
        if _is_simple(value, len(self._inside)) or isinstance(value, SaysWhatIsLost):
            return value
        if isinstance(value, str) and not isinstance(value, Enum):
            return self._text(value, at)
        if isinstance(value, int | float | Integral) and not isinstance(value, Enum):
            return self._number(value, at)
        if id(value) in self._inside:
            return self._gone(at, "a structure that contains itself")
        if len(self._inside) > _DEEPEST:
            return self._gone(at, f"a structure that is nested more than {_DEEPEST} deep")
        self._inside.append(id(value))
        try:
            return self._of_container(value, at)
        finally:
            self._inside.pop()

    def _of_container(self, value: Any, at: str) -> Any:
        if isinstance(value, dict):
            return self._entries(value, at)
        if isinstance(value, list | tuple | set | frozenset | deque) and not hasattr(value, "_fields"):
            index = itertools.count()
            return _changed_items(value, lambda item: self.of(item, f"{at}[{_name(item, next(index))}]"))
        parts = _parts(value) or {}
        made = _with_parts(value, parts, {name: self.of(part, f"{at}.{name}") for name, part in parts.items()})
        return made if self._storing.takes(made) else self._gone(at, _a(value))

    def _entries(self, value: Mapping[Any, Any], at: str) -> Any:
        made: dict[Any, Any] = {}
        for key, item in value.items():
            where = f"{at}[{_shown(key)}]"
            new = self.of(key, f"the key of {where}")
            if _is_usual_key(new) or self._storing.takes({new: None}):
                made[new] = self.of(item, where)
            else:
                self.lost.append(Loss(where, f"has {_a(key)} as its key, which can't be stored", gone=True))
        same = len(made) == len(value) and all(a is b for a, b in zip(_both(made), _both(value), strict=True))
        return value if same else _filled(value, made)

    def _number(self, value: Any, at: str) -> Any:
        plain = float(value) if isinstance(value, float) else int(value)
        if type(value) is not type(plain):  # numpy's, or a class of the program's
            self.lost.append(Loss(at, f"is {_a(value)}, and comes back as {_a(plain)}"))
        return plain if isinstance(plain, float) or _SMALLEST <= plain <= _LARGEST else f"{_MARK}int:{_digits(plain)}"

    def _text(self, value: str, at: str) -> str:
        if not value.isascii() and not _is_whole(value):
            self.lost.append(Loss(at, "has half a character, which comes back as a replacement character"))
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return f"{_MARK}text:{value}" if value.startswith(_MARK) else value

    def _gone(self, at: str, what: str) -> str:
        self.lost.append(Loss(at, f"is {what}, which can't be stored", gone=True))
        return f"[not stored: {what}]"


def _differences(a: Any, b: Any, at: str) -> Iterator[Loss]:
    """What comes back (`b`) in another kind than it was (`a`)."""
    if isinstance(a, SaysWhatIsLost):
        return
    if type(a) is not type(b):
        yield Loss(at, f"is {_a(a)}, and comes back as {_a(b)}")
    elif isinstance(a, dict):
        for key, item in a.items():
            if key in b:
                yield from _differences(item, b[key], f"{at}[{_shown(key)}]")
            else:
                yield Loss(f"{at}[{_shown(key)}]", "comes back with another key")
    elif isinstance(a, list | tuple | deque) and not hasattr(a, "_fields"):
        for index, (mine, theirs) in enumerate(zip(a, b, strict=False)):
            yield from _differences(mine, theirs, f"{at}[{_name(mine, index)}]")
        if len(a) != len(b) or getattr(a, "maxlen", None) != getattr(b, "maxlen", None):
            yield Loss(at, "comes back with another length")
    elif (parts := _parts(a)) is not None:
        theirs = _parts(b) or {}
        for name, part in parts.items():
            yield from _differences(part, theirs.get(name), f"{at}.{name}")
    elif not _equal(a, b):
        yield Loss(at, f"comes back as another {type(a).__name__}")


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b) or (a != a and b != b)  # NaN
    except Exception:  # an __eq__ that can't compare, as numpy's
        return repr(a) == repr(b)


def _is_usual_key(key: Any) -> bool:
    return key is None or type(key) in (str, int, float, bool)


def _name(item: Any, index: int) -> str:
    """How a path names an item of a list."""
    return str(item.id) if isinstance(item, BaseMessage) and item.id else str(index)


def _parts(value: Any) -> dict[str, Any] | None:
    """What an object is made of; None if nobody can tell."""
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def _with_parts(value: Any, parts: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    """An object with other parts; itself if they are the same."""
    changed = {name: part for name, part in new.items() if part is not parts[name]}
    if not changed:
        return value
    if isinstance(value, BaseModel):
        return value.model_copy(update=changed)
    if isinstance(value, tuple):
        return value._replace(**changed)  # type: ignore[attr-defined]  # a named tuple
    made = copy.copy(value)
    for name, part in changed.items():
        object.__setattr__(made, name, part)
    return made


def _changed_items(value: Any, change: Callable[[Any], Any]) -> Any:
    """A sequence or a set with its items changed; itself if they are the same."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = _parts(value) or {}
        return _with_parts(value, parts, {name: change(part) for name, part in parts.items()})
    items = [(item, change(item)) for item in value]
    if all(new is old for old, new in items):
        return value
    made = [new for _, new in items]
    return deque(made, value.maxlen) if isinstance(value, deque) else type(value)(made)


def _filled(mapping: Mapping[Any, Any], entries: dict[Any, Any]) -> dict[Any, Any]:
    """These entries, in a dict of the same kind."""
    if type(mapping) is dict:
        return entries
    made = cast(dict[Any, Any], copy.copy(mapping))
    dict.clear(made)
    dict.update(made, entries)
    return made


def _both(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    for key, value in mapping.items():
        yield key
        yield value


# ---- texts that stand for something else


def _digits(number: int) -> str:
    return str(number) if abs(number) < 10**4000 else hex(number)


def _unmarked(text: str) -> Any:
    kind, _, rest = text.removeprefix(_MARK).partition(":")
    try:
        if kind == "int":
            return int(rest, 16 if "x" in rest[:3] else 10)
        if kind == "float":
            return float(rest)
        if kind == "escaped":
            return rest.encode("ascii").decode("unicode_escape")
    except ValueError:  # somebody else wrote it
        return text
    return rest if kind == "text" else text


def _split(told: str) -> tuple[str, str]:
    where, _, what = told.partition(" ")
    return where, what


def _shown(key: Any) -> str:
    try:
        return f"{key!r:.40}"
    except Exception:  # an integer of thousands of digits, a __repr__ that fails
        return f"<{type(key).__name__}>"


def _a(value: Any) -> str:
    name = (value if isinstance(value, type) else type(value)).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
