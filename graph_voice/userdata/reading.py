"""Plain data as typed values again: what `to_plain` made, read by the types of a class."""

import collections
import collections.abc
import copy
import dataclasses
import types
import typing
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined
from typing_extensions import get_type_hints, is_typeddict

from graph_voice.errors import UserdataError
from graph_voice.secrets.values import Redacted, is_lost, revealed, was_redacted
from graph_voice.userdata.objects import is_plain_class, made_of, shown
from graph_voice.userdata.plain import HIDDEN, adapter, hints_of, is_known_type, private_of, set_private, to_plain

__all__ = ["Reader", "field_from_plain", "from_plain", "set_hidden"]

_LOST: Any = object()
"""Stands for a secret that was left out, or a model that lacks one that it requires."""


def from_plain(kind: Any, value: Any) -> Any:
    """Reverses `to_plain` for a value of this type. Data that does not fit the type stays as it is.

    A model that has lost a secret which it requires is the default of the field that holds it, else None if the field
    may be None, and is left out of a list. Only where there is nothing else, the secret is an empty one.

    Raises `UserdataError` for a field that the data lacks and that has no default.
    """
    return Reader().value(kind, value)


def field_from_plain(kind: Any, name: str, value: Any) -> Any:
    """The value of one field of a model or a dataclass, from plain data: its default if it has lost its secrets."""
    if issubclass(kind, BaseModel):
        info = kind.model_fields[name]
        default = None if info.is_required() else lambda: info.get_default(call_default_factory=True, validated_data={})
        return Reader().field(info.annotation, value, f"userdata.{name}", default, shell=True)
    field = next(f for f in dataclasses.fields(kind) if f.name == name)
    return Reader().field(_hints(kind)[name], value, f"userdata.{name}", _default_of(field), shell=True)


class Reader:
    """Reads plain data by types.

    Args:
        name: what the value is called in messages.
    """

    def __init__(self, name: str = "userdata") -> None:
        self._name = name
        self.misfits: list[str] = []
        """Where data does not fit its type, which has changed since it was stored."""

    def value(self, kind: Any, value: Any, like: Any = None) -> Any:
        """A value of this type. `like` is an example of its kind, where the type leaves that open."""
        made = self._read(kind, value, self._name, like)
        return self._shell(kind, value, self._name) if made is _LOST else made

    # ---- by type

    def _read(self, kind: Any, value: Any, at: str, like: Any = None) -> Any:
        if isinstance(value, Redacted):
            return value.secret
        if is_lost(kind, value):
            return _LOST
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            return self._read(args[0], value, at, like)
        if value is None:
            return None
        if kind is Any or isinstance(kind, TypeVar):
            return self._untyped(value, at, like)
        if origin is typing.Union or origin is types.UnionType:
            return self._of_union(kind, args, value, at, like)
        if isinstance(value, Mapping):
            found = self._of_mapping(kind, origin, args, value, at, like)
        elif isinstance(value, tuple | list | set | frozenset):
            found = self._of_items(kind, origin, args, value, at, like)
        else:
            found = self._converted(kind, value, at)
        return _like(found, like)

    def _untyped(self, value: Any, at: str, like: Any) -> Any:
        """Data whose type says nothing. An example of its kind may."""
        if isinstance(value, dict) and not isinstance(like, Mapping) and _is_plain_class(type(like)):
            return self._read(type(like), value, at, like)
        if isinstance(value, dict):
            inner = _inner(like)
            value = {k: self._untyped(v, at, inner) for k, v in value.items()} if inner is not None else value
        return _like(value, like)

    def _of_mapping(self, kind: Any, origin: Any, args: Any, value: Mapping[Any, Any], at: str, like: Any) -> Any:
        bare = origin or kind
        if isinstance(bare, type) and issubclass(bare, BaseModel):
            return self._model(bare, value, at)
        if dataclasses.is_dataclass(bare):
            return self._dataclass(bare, value, at)
        if is_typeddict(bare):
            hints = get_type_hints(bare)
            return _without_lost({k: self._read(hints.get(k, Any), v, f"{at}[{shown(k)}]") for k, v in value.items()})
        if isinstance(bare, type) and issubclass(bare, collections.abc.Mapping):
            return self._pairs(kind, bare, args, list(value.items()), at, like)
        if _is_plain_class(bare):
            hints = hints_of(bare)
            read = {k: self._read(hints.get(k, Any), v, f"{at}.{k}", getattr(like, k, None)) for k, v in value.items()}
            return _LOST if any(v is _LOST for v in read.values()) else made_of(bare, read, like)
        return self._converted(kind, value, at)

    def _pairs(self, kind: Any, bare: type, args: Any, pairs: list[Any], at: str, like: Any) -> Any:
        keys, values = args if len(args) == 2 else (Any, Any)
        inner = _inner(like)
        made = _without_lost(
            {self._read(keys, k, f"{at}'s key"): self._read(values, v, f"{at}[{shown(k)}]", inner) for k, v in pairs}
        )
        if isinstance(made, bare):
            return made
        if isinstance(like, bare):
            return _like(made, like)
        if issubclass(bare, dict) and typing.get_origin(kind) is None:
            return _filled(bare.__new__(bare), made)
        return self._converted(kind, made, at)

    def _of_items(self, kind: Any, origin: Any, args: Any, value: Any, at: str, like: Any) -> Any:
        bare = origin or kind
        if bare is tuple and args:
            rest = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
            parts = [self._read(k, v, f"{at}[{i}]") for i, (k, v) in enumerate(zip(rest, value, strict=False))]
            kept = _present(parts)
            return tuple(kept) if len(kept) == len(parts) or args[-1] is Ellipsis else _LOST
        if isinstance(bare, type) and issubclass(bare, tuple) and hasattr(bare, "_make"):
            return self._named_tuple(bare, value, at)
        if isinstance(bare, type) and issubclass(bare, collections.abc.Mapping):  # keys that no dict could have
            return self._pairs(kind, bare, args, list(value), at, like)
        if not isinstance(bare, type):
            return self._converted(kind, value, at)
        items = _present([self._read(args[0], item, f"{at}[{i}]") for i, item in enumerate(value)]) if args else value
        # Abstract types in a hint (Sequence, Iterable) don't say what it was; a checkpoint makes it a list.
        made: Any = bare(items) if bare in (set, frozenset, list, tuple, deque) else items
        if not isinstance(made, bare) and issubclass(bare, list | set | deque) and not isinstance(like, bare):
            return _filled(bare.__new__(bare), made)
        return made if isinstance(made, bare) or isinstance(like, bare) else self._converted(kind, made, at)

    def _named_tuple(self, kind: Any, value: Any, at: str) -> Any:
        hints, names = hints_of(kind), kind._fields
        fields = [self._read(hints.get(n, Any), v, f"{at}.{n}") for n, v in zip(names, value, strict=False)]
        complete = len(fields) == len(names) and not any(item is _LOST for item in fields)
        return kind._make(fields) if complete else _LOST

    def _of_union(self, kind: Any, choices: tuple[Any, ...], value: Any, at: str, like: Any) -> Any:
        choices = tuple(c for c in choices if c is not types.NoneType)
        if len(choices) == 1:
            return self._read(choices[0], value, at, like)
        if any(type(value) is choice for choice in choices):
            return _like(value, like)
        if isinstance(value, Mapping) and (made := [c for c in choices if _fits(c, value)]):
            return self._read(max(made, key=lambda choice: len(_hints(choice).keys() & value.keys())), value, at)
        containers = [c for c in choices if _contains(c, value)]
        if len(containers) == 1:
            return self._read(containers[0], value, at, like)
        return self._converted(kind, value, at)

    def _converted(self, kind: Any, value: Any, at: str) -> Any:
        """Enums, secrets, URLs and the like."""
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        if was_redacted(value):
            return _LOST
        if kind is bytearray and isinstance(value, bytes):
            return bytearray(value)
        if kind is int and isinstance(value, str) and value.startswith(("0x", "-0x")):
            return int(value, 16)
        try:
            return adapter(kind).validate_python(value, strict=False, by_alias=True, by_name=True)
        except (ValidationError, PydanticUserError):
            self.misfits.append(at)
            return value

    # ---- models and dataclasses

    def _model(self, kind: type[BaseModel], data: Mapping[str, Any], at: str, *, shell: bool = False) -> Any:
        values: dict[str, Any] = {}
        for name, info in kind.model_fields.items():

            def default(info: Any = info) -> Any:
                return info.get_default(call_default_factory=True, validated_data=values)

            if name in data:
                own = None if info.is_required() else default
                made = self.field(info.annotation, data[name], f"{at}.{name}", own, shell=shell)
                if made is _LOST:
                    return _LOST
                values[name] = made
            elif info.is_required():
                return self._by_hand(kind, data, at)
            else:
                values[name] = default()
        return _instance(kind, values, data, self)

    def _dataclass(self, kind: Any, data: Mapping[str, Any], at: str, *, shell: bool = False) -> Any:
        instance = object.__new__(kind)
        hints = _hints(kind)
        for field in dataclasses.fields(kind):
            default = _default_of(field)
            if field.name in data:
                made = self.field(hints[field.name], data[field.name], f"{at}.{field.name}", default, shell=shell)
                if made is _LOST:
                    return _LOST
            elif default is None:
                return self._by_hand(kind, data, at)
            else:
                made = default()
            object.__setattr__(instance, field.name, made)
        set_hidden(instance, data.get(HIDDEN, {}), self)
        return instance

    def field(self, kind: Any, value: Any, at: str, default: Any, *, shell: bool) -> Any:
        """The value of one field. `default` makes its default; None: it has none."""
        like = _example(default) if isinstance(value, Mapping | list | tuple | set | frozenset) else None
        made = self._read(kind, value, at, like)
        if made is not _LOST:
            return made
        if default is not None:
            return default()
        if types.NoneType in typing.get_args(kind):
            return None
        return self._shell(kind, value, at) if shell else _LOST

    def _shell(self, kind: Any, value: Any, at: str) -> Any:
        """A value that has lost a secret, where nothing can stand for it: an empty secret, which is falsy."""
        if is_lost(kind, value):
            return revealed(kind, value)
        bare = typing.get_origin(kind) or kind
        if isinstance(value, Mapping) and isinstance(bare, type) and issubclass(bare, BaseModel):
            return self._model(bare, value, at, shell=True)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(bare):
            return self._dataclass(bare, value, at, shell=True)
        return None

    def _by_hand(self, kind: Any, data: Mapping[str, Any], at: str) -> Any:
        """From data that lacks a field without a default: it has been written by hand, or by an older class."""
        try:
            return TypeAdapter(kind).validate_python(dict(data), by_alias=True, by_name=True)
        except ValidationError as error:
            lacks = ", ".join(f"{at}.{e['loc'][0]}" for e in error.errors() if e["type"] == "missing" and e["loc"])
            told = f"lacks {lacks}, which {kind.__name__} requires" if lacks else f"does not fit {kind.__name__}: {at}"
            raise UserdataError(
                f"The stored call {told}. It was stored by an older version of the class: give a new field a default."
            ) from None


def _instance(kind: type[BaseModel], values: dict[str, Any], data: Mapping[str, Any], reader: Reader) -> BaseModel:
    extra = {k: v for k, v in data.items() if k not in values and k != HIDDEN}
    given = {k for k, info in kind.model_fields.items() if info.is_required() or not _equal(values[k], info.default)}
    instance = kind.__new__(kind)
    # As pydantic's own model_construct does, which would ask for aliases instead of names.
    object.__setattr__(instance, "__dict__", values)
    object.__setattr__(instance, "__pydantic_fields_set__", given)
    object.__setattr__(instance, "__pydantic_extra__", extra if kind.model_config.get("extra") == "allow" else None)
    private = {k: v for k, a in kind.__private_attributes__.items() if (v := a.get_default()) is not PydanticUndefined}
    object.__setattr__(instance, "__pydantic_private__", private if kind.__private_attributes__ else None)
    set_hidden(instance, data.get(HIDDEN, {}), reader)
    return instance


def set_hidden(instance: Any, values: Mapping[str, Any], reader: Reader | None = None) -> None:
    """Set private attributes from plain data."""
    if values:
        reader = reader or Reader()
        hints = hints_of(cast(Any, type(instance)))
        known = private_of(instance)
        set_private(instance, {k: reader.value(hints.get(k, Any), v, known.get(k)) for k, v in values.items()})


# ---- which kind


def _is_plain_class(kind: Any) -> bool:
    return is_plain_class(kind) and not is_known_type(kind)


def _like(made: Any, like: Any) -> Any:
    """A container in the kind of `like`: a subclass, a `defaultdict` with its factory, a `deque` with its length."""
    if made is _LOST or like is None:
        return made
    is_deque = isinstance(like, deque) and isinstance(made, list | deque)
    if not is_deque and (type(made) not in (dict, list, set) or not isinstance(like, type(made))):
        return made
    if type(like) is type(made) and not is_deque:
        return made
    try:
        return _filled(copy.copy(like), made)
    except Exception:  # a class that can't be copied
        return made


def _filled(container: Any, items: Any) -> Any:
    """A container with these items alone. What its class does when it is filled was done when it was stored."""
    base: Any = next(b for b in (dict, list, set, deque) if isinstance(container, b))
    base.clear(container)
    (base.extend if base in (list, deque) else base.update)(container, items)
    return container


def _inner(like: Any) -> Any:
    """An example of the values in a mapping: what a `defaultdict` would make."""
    factory = getattr(like, "default_factory", None) if isinstance(like, collections.defaultdict) else None
    return _example(factory)


def _example(make: Any) -> Any:
    try:
        return make() if make is not None else None
    except Exception:  # a factory that needs something that is not there
        return None


def _contains(kind: Any, value: Any) -> bool:
    """Whether a type is that of a container such as this one."""
    bare: Any = typing.get_origin(kind) or kind
    if not isinstance(bare, type):
        return False
    if isinstance(value, Mapping):
        return issubclass(bare, collections.abc.Mapping)
    if isinstance(value, tuple | list | set | frozenset):
        return issubclass(bare, collections.abc.Collection) and not issubclass(
            bare, str | bytes | collections.abc.Mapping
        )
    return False


def _fits(kind: Any, data: Mapping[str, Any]) -> bool:
    """Whether this class, or an older version of it, may have made the data: it has the fields that the class requires,
    and its tags (fields with a Literal type)."""
    hints = _hints(kind)
    if not hints:
        return False
    names = set(data) - {HIDDEN}
    tags = {k: typing.get_args(h) for k, h in hints.items() if typing.get_origin(h) is typing.Literal}
    right = all(data[k] in map(to_plain, allowed) for k, allowed in tags.items() if k in data)
    return right and (names == set(hints) or (bool(names & set(hints)) and _required(kind) <= names))


def _bare(kind: Any) -> Any:
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_origin(kind) or kind


def _hints(kind: Any) -> dict[str, Any]:
    """Field -> annotation, of a model or a dataclass."""
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return {f.name: hints_of(cast(Any, kind)).get(f.name, Any) for f in dataclasses.fields(kind)}
    return {}


def _required(kind: Any) -> set[str]:
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name for name, info in kind.model_fields.items() if info.is_required()}
    return {f.name for f in dataclasses.fields(kind) if _default_of(f) is None}


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    """Makes the default of a dataclass's field; None: it has none."""
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory


def _present(items: list[Any]) -> list[Any]:
    return [item for item in items if item is not _LOST]


def _without_lost(values: dict[Any, Any]) -> dict[Any, Any]:
    return {k: v for k, v in values.items() if v is not _LOST}


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:  # an __eq__ that can't compare, as numpy's
        return False
