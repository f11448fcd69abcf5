"""Typed values as plain data and back: how userdata is stored in checkpoints and in updates of the state.

Going back builds instances without validating. A value was validated when it was set, and a validator must not run
twice on its own result, or compare an old fact with today's date.
"""

import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import numbers
import pathlib
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Hashable, Mapping
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError
from typing_extensions import get_type_hints

from graph_voice.secrets.values import Redact, Redacted, is_secret
from graph_voice.userdata.objects import attributes_of, caches, is_live

__all__ = [
    "AS_THEY_ARE",
    "HIDDEN",
    "REMOVED",
    "adapter",
    "copied",
    "fields_of",
    "hidden_of",
    "hints_of",
    "is_known",
    "is_known_type",
    "private_of",
    "set_fields",
    "set_private",
    "to_checkable",
    "to_plain",
]

HIDDEN = "__private__"
"""The key for what an instance has besides its fields: private attributes."""
REMOVED = "__removed__"
"""The key in a patch for the names of removed entries."""

AS_THEY_ARE = (
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(uuid.UUID, decimal.Decimal, pathlib.Path),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
)
"""What LangGraph's strict serializer writes and reads itself."""
_KEYS = (str, int, float, bytes, datetime.date, datetime.time, uuid.UUID)
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)
"""The integers that msgpack takes."""


def fields_of(instance: Any) -> dict[str, Any]:
    """Field -> value, not copied. For a mapping, its items; for None, nothing."""
    if instance is None:
        return {}
    if isinstance(instance, BaseModel):
        return {k: getattr(instance, k) for k in type(instance).model_fields} | (instance.model_extra or {})
    if dataclasses.is_dataclass(instance):
        return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance) if hasattr(instance, f.name)}
    return dict(instance)


def private_of(instance: Any) -> dict[str, Any]:
    """What an instance has besides its fields: private attributes, but not what its cached properties hold."""
    if isinstance(instance, BaseModel):
        return dict(instance.__pydantic_private__ or {})
    if dataclasses.is_dataclass(instance):
        names = {f.name for f in dataclasses.fields(instance)}
        return {
            k: v for k, v in getattr(instance, "__dict__", {}).items() if k not in names and not caches(instance, k)
        }
    return {}


def hidden_of(instance: Any, redact: Redact = Redacted) -> dict[str, Any]:
    """Its private attributes as plain data."""
    return {k: v for k, v in ((k, to_plain(v, redact)) for k, v in private_of(instance).items()) if _is_plain(v)}


def copied(instance: Any) -> Any:
    """A deep copy, but without what its cached properties hold, which may be anything."""
    own: dict[str, Any] = getattr(instance, "__dict__", {})
    if cached := [name for name in own if caches(instance, name)]:
        instance = copy.copy(instance)
        for name in cached:
            del instance.__dict__[name]
    return copy.deepcopy(instance)


def to_plain(value: Any, redact: Redact = Redacted) -> Any:
    """Models and dataclasses as dicts by field name, enums as values, secrets redacted; containers keep their kind.

    An object that has no form as data stays as it is.
    """
    kind = type(value)
    if value is None or kind in (float, bool, bytes):
        return value
    if kind is str:
        return value if value.isascii() else _whole_characters(value)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        plain = {name: to_plain(item, redact) for name, item in fields_of(value).items()}
        return {**plain, HIDDEN: hidden} if (hidden := hidden_of(value, redact)) else plain
    if isinstance(value, enum.Enum):
        return to_plain(value.value, redact)
    if isinstance(value, int):
        return int(value) if _SMALLEST <= value <= _LARGEST else _digits(value)
    if isinstance(value, Redacted):
        return value
    if is_secret(value):
        return redact(value)
    if isinstance(value, Mapping):
        return _plain_mapping([(to_plain(k), to_plain(v, redact)) for k, v in value.items()])
    if isinstance(value, AS_THEY_ARE):
        return value
    if isinstance(value, tuple | list | set | frozenset | deque):
        return _plain_items(value, [to_plain(item, redact) for item in value])
    if isinstance(value, str):
        return _whole_characters(str(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes):
        return bytes(value)
    return _object(value, redact)


def to_checkable(value: Any) -> Any:
    """As a validator takes it that shall look at everything: models and dataclasses as dicts, all else as it is."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return {name: to_checkable(item) for name, item in fields_of(value).items()}
    if type(value) in (dict, defaultdict, OrderedDict):
        return {k: to_checkable(v) for k, v in value.items()}
    if type(value) in (list, tuple, set, frozenset, deque) or hasattr(value, "_fields"):
        return _plain_items(value, [to_checkable(item) for item in value])
    return value


def _plain_mapping(pairs: list[tuple[Any, Any]]) -> Any:
    """A dict; a list of pairs when a key has no form that can be a key in LangGraph's serializer."""
    return dict(pairs) if all(_is_key(key) for key, _ in pairs) else [list(pair) for pair in pairs]


def _is_key(key: Any) -> bool:
    if isinstance(key, tuple):
        return all(map(_is_key, key))
    return key is None or isinstance(key, _KEYS)


def _plain_items(value: Any, items: list[Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(items)
    if isinstance(value, set | frozenset) and all(isinstance(item, Hashable) for item in items):
        return set(items) if isinstance(value, set) else frozenset(items)
    return items


def _whole_characters(text: str) -> str:
    """A text that can be written down: half a character (a lone surrogate) becomes a replacement character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _digits(number: int) -> str:
    """An integer that msgpack can't hold. A field of the type `int` takes it back."""
    return str(number) if abs(number) < 10**4000 else hex(number)


def _object(value: Any, redact: Redact) -> Any:
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, numbers.Integral):  # numpy's
        return int(value)
    kind = type(value)
    if is_known(value):
        try:
            return adapter(kind).dump_python(value, mode="json")
        except PydanticSerializationError:
            return value
    if kind.__module__.partition(".")[0] == "numpy" or is_live(value):
        return value
    return {name: to_plain(item, redact) for name, item in attributes_of(value).items()}


def is_known(value: Any) -> bool:
    """Whether pydantic has a form for it as data."""
    kind: Any = type(value)
    return not isinstance(value, type) and is_known_type(kind)


@functools.lru_cache(maxsize=512)
def is_known_type(kind: Any) -> bool:
    """Whether pydantic has a form for instances of this class as data."""
    if kind in (object, type(Ellipsis)):
        return False
    try:
        TypeAdapter(kind)
    except (PydanticUserError, TypeError):
        return False
    return True


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(k) and _is_plain(v) for k, v in value.items())
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bytes, *AS_THEY_ARE))


def set_fields(instance: Any, values: Mapping[str, Any]) -> None:
    """Set fields directly, whatever the class does on assignment."""
    if isinstance(instance, BaseModel):
        known = type(instance).model_fields
        instance.__dict__.update({k: v for k, v in values.items() if k in known})
        if instance.__pydantic_extra__ is not None:
            instance.__pydantic_extra__.update({k: v for k, v in values.items() if k not in known})
        instance.__pydantic_fields_set__.update(values)
    elif isinstance(instance, dict):
        instance.update(values)
    else:
        for name, value in values.items():
            object.__setattr__(instance, name, value)


def set_private(instance: Any, values: Mapping[str, Any]) -> None:
    """Set private attributes."""
    if isinstance(instance, BaseModel):
        if values:
            known = instance.__pydantic_private__ or {}
            object.__setattr__(instance, "__pydantic_private__", {**known, **values})
    else:
        for name, value in values.items():
            object.__setattr__(instance, name, value)


# ---- types


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Pydantic's adapter of a type; one that pydantic does not know is checked by `isinstance`."""
    try:
        return _adapter(kind)
    except TypeError:  # not hashable: Literal of a list, Annotated with a dict
        return _new_adapter(kind)


def _new_adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind, config={"arbitrary_types_allowed": True})
    except PydanticUserError:  # it has a configuration of its own
        return TypeAdapter(kind)


_adapter = functools.lru_cache(maxsize=512)(_new_adapter)


@functools.lru_cache(maxsize=128)
def hints_of(kind: Any) -> dict[str, Any]:
    """Name -> annotation. Empty when one names a class that is local to a function, which can't be looked up."""
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError:
        return {}
