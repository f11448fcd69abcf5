"""Typed values as plain data and back: how userdata is stored in checkpoints and in updates of the state.

Going back builds instances without validating. A value was validated when it was set, and a validator must not run
twice on its own result, or compare an old fact with today's date.
"""

import collections.abc
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import pathlib
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, PydanticUndefined
from typing_extensions import get_type_hints, is_typeddict

from graph_voice.secrets.values import Redact, Redacted, is_lost, is_secret, revealed

__all__ = [
    "HIDDEN",
    "REMOVED",
    "adapter",
    "fields_of",
    "from_plain",
    "hidden_of",
    "hints_of",
    "patched",
    "set_fields",
    "set_hidden",
    "to_plain",
]

HIDDEN = "__private__"
"""The key for what an instance has besides its fields: private attributes."""
REMOVED = "__removed__"
"""The key in a patch for the names of removed entries."""

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_AS_THEY_ARE = (
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(uuid.UUID, decimal.Decimal, pathlib.PurePath),
    *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
)
"""What LangGraph's strict serializer writes and reads itself."""


def fields_of(instance: Any) -> dict[str, Any]:
    """Field -> value, not copied. For a mapping, its items; for None, nothing."""
    if instance is None:
        return {}
    if isinstance(instance, BaseModel):
        return {k: getattr(instance, k) for k in type(instance).model_fields} | (instance.model_extra or {})
    if dataclasses.is_dataclass(instance):
        return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance) if hasattr(instance, f.name)}
    return dict(instance)


def hidden_of(instance: Any, redact: Redact = Redacted) -> dict[str, Any]:
    """What an instance has besides its fields, as far as it is plain data: a connection can't be stored."""
    if isinstance(instance, BaseModel):
        found = dict(instance.__pydantic_private__ or {})
    elif dataclasses.is_dataclass(instance):
        names = {f.name for f in dataclasses.fields(instance)}
        found = {k: v for k, v in getattr(instance, "__dict__", {}).items() if k not in names}
    else:
        return {}
    return {k: v for k, v in ((k, to_plain(v, redact)) for k, v in found.items()) if _is_plain(v)}


def to_plain(value: Any, redact: Redact = Redacted) -> Any:
    """Models and dataclasses as dicts by field name, enums as values, secrets redacted; containers keep their kind.

    An object that has no form as data stays as it is.
    """
    if value is None or type(value) in (str, int, float, bool, bytes):
        return value
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        plain = {name: to_plain(item, redact) for name, item in fields_of(value).items()}
        return {**plain, HIDDEN: hidden} if (hidden := hidden_of(value, redact)) else plain
    if isinstance(value, enum.Enum):
        return to_plain(value.value, redact)
    if isinstance(value, Redacted):
        return value
    if is_secret(value):
        return redact(value)
    if isinstance(value, Mapping):
        return {to_plain(k): to_plain(v, redact) for k, v in value.items()}
    if isinstance(value, _AS_THEY_ARE):
        return value
    for container in (tuple, list, set, frozenset):
        if isinstance(value, container):
            return container(to_plain(item, redact) for item in value)
    for scalar in (str, int, float, bytes):
        if isinstance(value, scalar):
            return cast(Any, scalar)(value)
    try:
        return _ANY.dump_python(value, mode="json")
    except PydanticSerializationError:
        return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(k) and _is_plain(v) for k, v in value.items())
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bytes, *_AS_THEY_ARE))


def from_plain(kind: Any, value: Any) -> Any:
    """Reverses `to_plain` for a value of this type. Data that does not fit the type stays as it is."""
    if isinstance(value, Redacted) or is_lost(kind, value):
        return revealed(kind, value)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return from_plain(args[0], value)
    if value is None or kind is Any or isinstance(kind, TypeVar):
        return value
    if origin is typing.Union or origin is types.UnionType:
        return _from_union(kind, args, value)
    if isinstance(value, Mapping):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return _model(kind, value)
        if dataclasses.is_dataclass(origin or kind):
            return _dataclass(origin or kind, value)
        if is_typeddict(kind):
            hints = get_type_hints(kind)
            return {k: from_plain(hints.get(k, Any), v) for k, v in value.items()}
        if origin is not None and issubclass(origin, collections.abc.Mapping) and len(args) == 2:
            pairs = {from_plain(args[0], k): from_plain(args[1], v) for k, v in value.items()}
            return pairs if isinstance(pairs, origin) else _converted(kind, pairs)
    elif isinstance(value, tuple | list | set | frozenset) and isinstance(origin, type):
        if origin is tuple:
            rest = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
            return tuple(from_plain(k, v) for k, v in zip(rest, value, strict=False))
        items = [from_plain(args[0], item) for item in value] if args else list(value)
        # Abstract types in a hint (Sequence, Iterable) don't say what it was; a checkpoint makes it a list.
        made: Any = origin(items) if origin in (set, frozenset, list) else items
        return made if isinstance(made, origin) else _converted(kind, made)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    return _converted(kind, value)


def _from_union(kind: Any, choices: tuple[Any, ...], value: Any) -> Any:
    choices = tuple(c for c in choices if c is not types.NoneType)
    if len(choices) == 1:
        return from_plain(choices[0], value)
    if any(type(value) is choice for choice in choices):
        return value
    if isinstance(value, Mapping):
        for choice in choices:
            if _fits(choice, value):
                return from_plain(choice, value)
    return _converted(kind, value)


def _fits(kind: Any, data: Mapping[str, Any]) -> bool:
    """Whether this class made the data: the same fields, and the tags (fields with a Literal type) of the class."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        hints: dict[str, Any] = {name: info.annotation for name, info in kind.model_fields.items()}
    elif dataclasses.is_dataclass(kind):
        hints = _hints(kind)
    else:
        return False
    tags = {k: typing.get_args(h) for k, h in hints.items() if typing.get_origin(h) is typing.Literal}
    return set(data) - {HIDDEN} == set(hints) and all(data[k] in map(to_plain, allowed) for k, allowed in tags.items())


def _converted(kind: Any, value: Any) -> Any:
    """Enums, secrets, URLs and the like."""
    try:
        return adapter(kind).validate_python(value, strict=False, by_alias=True, by_name=True)
    except (ValidationError, PydanticUserError):
        return value


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


def _hints(kind: Any) -> dict[str, Any]:
    return {f.name: hints_of(kind).get(f.name, Any) for f in dataclasses.fields(kind)}


def _model(kind: type[BaseModel], data: Mapping[str, Any]) -> BaseModel:
    values: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        if name in data and (info.is_required() or not is_lost(info.annotation, data[name])):
            values[name] = from_plain(info.annotation, data[name])
        elif info.is_required():
            return kind.model_validate(dict(data), by_alias=True, by_name=True)  # made by an older class, or by hand
        else:
            values[name] = info.get_default(call_default_factory=True, validated_data=values)
    extra = {k: v for k, v in data.items() if k not in values and k != HIDDEN}
    given = {k for k, info in kind.model_fields.items() if info.is_required() or values[k] != info.default}
    instance = kind.__new__(kind)
    # As pydantic's own model_construct does, which would ask for aliases instead of names.
    object.__setattr__(instance, "__dict__", values)
    object.__setattr__(instance, "__pydantic_fields_set__", given)
    object.__setattr__(instance, "__pydantic_extra__", extra if kind.model_config.get("extra") == "allow" else None)
    private = {k: v for k, a in kind.__private_attributes__.items() if (v := a.get_default()) is not PydanticUndefined}
    object.__setattr__(instance, "__pydantic_private__", private if kind.__private_attributes__ else None)
    set_hidden(instance, data.get(HIDDEN, {}))
    return instance


def _dataclass(kind: Any, data: Mapping[str, Any]) -> Any:
    instance = object.__new__(kind)
    hints = _hints(kind)
    for field in dataclasses.fields(kind):
        if field.name in data and (not _has_default(field) or not is_lost(hints[field.name], data[field.name])):
            value = from_plain(hints[field.name], data[field.name])
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            return TypeAdapter(kind).validate_python(dict(data))  # made by an older class, or by hand
        object.__setattr__(instance, field.name, value)
    set_hidden(instance, data.get(HIDDEN, {}))
    return instance


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


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


def patched(instance: Any, patch: Mapping[str, Any]) -> Any:
    """A copy of a model or a dataclass, with the changes of a patch of plain data."""
    changed = copy.copy(instance)
    kind = type(instance)
    if isinstance(changed, BaseModel):
        hints: dict[str, Any] = {name: info.annotation for name, info in kind.model_fields.items()}
        for cached in set(changed.__dict__) - set(hints):
            del changed.__dict__[cached]  # a cached property, of the old values
        for name in patch.get(REMOVED, ()):
            (changed.__pydantic_extra__ or {}).pop(name, None)
    else:
        hints = _hints(kind)
    set_fields(changed, {k: from_plain(hints.get(k, Any), v) for k, v in patch.items() if k not in (HIDDEN, REMOVED)})
    set_hidden(changed, patch.get(HIDDEN, {}))
    return changed


def set_hidden(instance: Any, values: Mapping[str, Any]) -> None:
    """Set what is not a field: private attributes."""
    if isinstance(instance, BaseModel):
        if values:
            hints = hints_of(cast(Any, type(instance)))
            known = instance.__pydantic_private__ or {}
            made = {k: from_plain(hints.get(k, Any), v) for k, v in values.items()}
            object.__setattr__(instance, "__pydantic_private__", {**known, **made})
    else:
        for name, value in values.items():
            object.__setattr__(instance, name, value)
