"""Userdata: the caller's typed facts, shared by all agents of a call. LiveKit's `session.userdata`.

A pydantic model, a dataclass, or (when `create_voice_graph` is given no class) a plain dict.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from langgraph.channels.base import BaseChannel
from langgraph.errors import EmptyChannelError
from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter, ValidationError

from graph_voice.errors import BuildError

__all__ = ["UserdataChannel", "WorkingCopy", "check_class", "explain", "fields_of", "plain", "public_fields"]

_MISSING: Any = object()
_PLAIN: TypeAdapter[Any] = TypeAdapter(Any)


def fields_of(userdata: Any) -> dict[str, Any]:
    """Field -> value, not copied. For a dict, the dict itself."""
    if userdata is None:
        return {}
    if isinstance(userdata, BaseModel):
        return {name: getattr(userdata, name) for name in type(userdata).model_fields} | (userdata.model_extra or {})
    if dataclasses.is_dataclass(userdata) and not isinstance(userdata, type):
        return {field.name: getattr(userdata, field.name) for field in dataclasses.fields(userdata)}
    if isinstance(userdata, Mapping):
        return dict(userdata)
    return dict(vars(userdata))


def plain(userdata: Any) -> dict[str, Any]:
    """Field -> value with nested models as dicts, so that `UserdataChannel` can rebuild the instance from it."""
    if isinstance(userdata, BaseModel):
        # Field by field, since a field with `exclude=True` belongs to the state although no dump shows it.
        return {k: _PLAIN.dump_python(v, warnings=False) for k, v in fields_of(userdata).items()}
    return dict(_PLAIN.dump_python(fields_of(userdata), warnings=False))


def _is_secret(userdata: Any, name: str, value: Any) -> bool:
    if isinstance(value, SecretStr | SecretBytes):
        return True
    if isinstance(userdata, BaseModel) and (info := type(userdata).model_fields.get(name)) is not None:
        extra = info.json_schema_extra
        return bool(info.exclude) or (isinstance(extra, dict) and bool(extra.get("secret")))
    if dataclasses.is_dataclass(userdata):
        return any(f.name == name and f.metadata.get("secret") for f in dataclasses.fields(userdata))
    return False


def public_fields(
    userdata: Any, *, include: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> dict[str, Any]:
    """The set (not None, not empty) fields as plain JSON data, without secret ones.

    Secret is a `SecretStr` or `SecretBytes`, a pydantic field with `exclude=True` or
    `json_schema_extra={"secret": True}`, a dataclass field with `metadata={"secret": True}`.
    """
    found = {}
    for name, value in fields_of(userdata).items():
        if (include is not None and name not in include) or name in exclude or _is_secret(userdata, name, value):
            continue
        if value is None or value == "" or value == [] or value == {}:
            continue
        found[name] = _PLAIN.dump_python(value, mode="json", fallback=str)
    return found


def _rebuild(kind: Any, base: Any, changes: Mapping[str, Any]) -> Any:
    """`base` with some fields changed, as a new validated instance. Raises pydantic's `ValidationError`."""
    if kind is dict or isinstance(base, dict):
        return {**base, **changes}
    if isinstance(base, BaseModel):
        # Values that are instances already pass as they are; plain dicts of a checkpoint become instances again.
        return type(base).model_validate({**fields_of(base), **changes})
    if dataclasses.is_dataclass(base):
        return TypeAdapter(type(base)).validate_python({**fields_of(base), **changes})
    updated = copy.copy(base)
    for name, value in changes.items():
        setattr(updated, name, value)
    return updated


class UserdataChannel(BaseChannel[Any, Any, Any]):
    """The state's `userdata`: a value of the user's class, kept in checkpoints as a plain dict of its fields.

    Updates are a whole instance, which replaces it, or a dict of fields, which changes those (so that two nodes of
    one step may write different fields). Before the first write its value is a default instance of the class.
    """

    __slots__ = ("value",)

    def __init__(self, typ: Any, key: str = "") -> None:
        super().__init__(typ, key)
        self.value: Any = _MISSING

    @property
    def ValueType(self) -> Any:
        return self.typ

    @property
    def UpdateType(self) -> Any:
        return self.typ

    def copy(self) -> Self:
        other = self.__class__(self.typ, self.key)
        other.value = self.value
        return other

    def from_checkpoint(self, checkpoint: Any) -> Self:
        other = self.__class__(self.typ, self.key)
        if checkpoint is None or type(checkpoint) is object:
            return other
        if isinstance(checkpoint, dict) and self.typ is not dict:
            other.value = self._from_fields(checkpoint)
        elif not isinstance(checkpoint, Mapping | BaseModel) and not dataclasses.is_dataclass(checkpoint):
            return other  # LangGraph's sentinel for "no value yet"
        else:
            other.value = checkpoint
        return other

    def checkpoint(self) -> Any:
        # Plain data, so that a checkpoint can be read by a process that is strict about classes.
        return plain(self.get())

    def _default(self) -> Any:
        try:
            return self.typ()
        except (TypeError, ValidationError) as error:
            raise EmptyChannelError(f"{self.typ.__name__} has fields without a default.") from error

    def _from_fields(self, fields: Mapping[str, Any]) -> Any:
        if isinstance(self.typ, type) and issubclass(self.typ, BaseModel):
            return self.typ.model_validate(dict(fields))
        return TypeAdapter(self.typ).validate_python(dict(fields))

    def get(self) -> Any:
        if self.value is _MISSING:
            self.value = self._default()
        return self.value

    def is_available(self) -> bool:
        try:
            self.get()
        except EmptyChannelError:
            return False
        return True

    def update(self, values: Sequence[Any]) -> bool:
        for value in values:
            if isinstance(value, dict) and self.typ is not dict:
                if self.is_available():
                    self.value = _rebuild(self.typ, self.get(), value)
                else:
                    self.value = self._from_fields(value)
            elif isinstance(value, dict) and isinstance(self.value, dict):
                self.value = {**self.value, **value}
            elif value is not None:
                self.value = value
        return bool(values)


class WorkingCopy:
    """The userdata that the tools of one batch share. In-place changes count; invalid ones are undone.

    LiveKit's tools share one live `session.userdata`; here they share this copy, and one update leaves the node.
    """

    def __init__(self, userdata: Any) -> None:
        self._before = fields_of(copy.deepcopy(userdata))
        self.value: Any = _checked(copy.deepcopy(userdata))

    def changes(self) -> dict[str, Any]:
        """The fields that differ from what they were when the batch began."""
        now = fields_of(self.value)
        return {k: v for k, v in now.items() if k not in self._before or self._before[k] != v}

    def undo_invalid(self) -> str | None:
        """Set fields that don't validate back to what they were. Returns what was wrong, for the model, or None."""
        if isinstance(self.value, BaseModel):
            kind: Any = type(self.value)
        elif dataclasses.is_dataclass(self.value):
            kind = type(self.value)
        else:
            return None
        try:
            TypeAdapter(kind).validate_python(fields_of(self.value))
        except ValidationError as error:
            wrong = {str(e["loc"][0]) for e in error.errors() if e["loc"]} & set(self._before)
            for name in wrong or self.changes():
                object.__setattr__(self.value, name, copy.deepcopy(self._before.get(name)))
            return _explain(error)
        return None


def _explain(error: ValidationError) -> str:
    lines = (f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_url=False))
    return "; ".join(lines)


def explain(error: ValidationError) -> str:
    """A validation error in one line that a model can act on, without the values that were wrong."""
    return _explain(error)


_CHECKED: dict[type[BaseModel], type[BaseModel]] = {}


def _checked(userdata: Any) -> Any:
    """The same pydantic value, validating each assignment, whatever its class is configured to do."""
    if not isinstance(userdata, BaseModel) or type(userdata).model_config.get("validate_assignment"):
        return userdata
    kind = type(userdata)
    if kind not in _CHECKED:
        config = {**kind.model_config, "validate_assignment": True}
        _CHECKED[kind] = type(kind.__name__, (kind,), {"model_config": config, "__module__": kind.__module__})
    checked = _CHECKED[kind].model_construct()
    object.__setattr__(checked, "__dict__", userdata.__dict__)
    object.__setattr__(checked, "__pydantic_fields_set__", set(userdata.model_fields_set))
    object.__setattr__(checked, "__pydantic_extra__", userdata.__pydantic_extra__)
    object.__setattr__(checked, "__pydantic_private__", userdata.__pydantic_private__)
    return checked


def check_class(kind: Any) -> None:
    """Raise `BuildError` unless `kind` can hold userdata: a pydantic model, a dataclass, `dict` or None."""
    if kind is None or kind is dict:
        return
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        return
    raise BuildError(f"userdata={kind!r}: write a pydantic model class or a dataclass.")
