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

from graph_voice.errors import BuildError, UserdataError
from graph_voice.plain_data import REMOVED, fields_of, from_plain, patched, set_fields, to_plain

__all__ = ["Stored", "UserdataChannel", "check_class", "explain", "public_fields", "required"]

_MISSING: Any = object()
_PLAIN: TypeAdapter[Any] = TypeAdapter(Any)


class Stored(dict[str, Any]):
    """A patch of fields that were validated when they were set, as plain data. The channel takes it as it is:
    validating it again would run a validator twice on its own result, or judge an old fact by today's clock."""


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


def explain(error: ValidationError) -> str:
    """A validation error in one line that a model can act on, without the values that were wrong."""
    lines = (f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_url=False))
    return "; ".join(lines)


class UserdataChannel(BaseChannel[Any, Any, Any]):
    """The state's `userdata`: a value of the user's class, kept in checkpoints as a plain dict of its fields.

    Updates are a whole instance, which replaces it, or a dict of fields, which changes those (so that two nodes of
    one step may write different fields). Before the first write its value is a default instance of the class; it has
    none when the class has fields without a default.

    Raises `UserdataError` for an update that is no userdata, or does not validate.
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
        if isinstance(checkpoint, dict):
            other.value = dict(checkpoint) if self.typ is dict else from_plain(self.typ, checkpoint)
        elif isinstance(checkpoint, self.typ):
            other.value = checkpoint
        return other  # anything else is LangGraph's mark for "no value yet"

    def checkpoint(self) -> Any:
        # Plain data, so that a checkpoint can be read by a process that is strict about classes.
        value = self.get()
        return dict(value) if self.typ is dict else to_plain(value)

    def get(self) -> Any:
        if self.value is _MISSING:
            try:
                self.value = self.typ()
            except (TypeError, ValidationError) as error:
                raise EmptyChannelError(_without_default(self.typ)) from error
        return self.value

    def is_available(self) -> bool:
        try:
            self.get()
        except EmptyChannelError:
            return False
        return True

    def update(self, values: Sequence[Any]) -> bool:
        written = [value for value in values if value is not None]
        for value in written:
            self.value = self._updated(value)
        return bool(written)

    def _updated(self, value: Any) -> Any:
        if self.typ is not dict and isinstance(value, self.typ):
            return value
        if not isinstance(value, dict):
            raise UserdataError(
                f"userdata can't become {type(value).__name__}: write an instance of {self.typ.__name__}, or a dict of "
                "the fields that change."
            )
        known: Any = self.get() if self.is_available() else None
        if self.typ is dict:
            gone = value.get(REMOVED, ())
            merged = {**known, **value}
            return {k: v for k, v in merged.items() if k != REMOVED and k not in gone}
        if isinstance(value, Stored) and known is not None:
            return patched(known, value)
        return self._validated(known, value)

    def _validated(self, known: Any, patch: Mapping[str, Any]) -> Any:
        """`known` with some fields changed, validated as a whole: a patch may change fields that depend on each other.

        Values that are instances already pass as they are.
        """
        try:
            if issubclass(self.typ, BaseModel):
                whole = self.typ.model_validate({**fields_of(known), **patch}, by_alias=True, by_name=True)
            else:
                whole = TypeAdapter(self.typ).validate_python({**fields_of(known), **patch})
        except ValidationError as error:
            raise UserdataError(f"userdata ({self.typ.__name__}) can't take these fields: {explain(error)}.") from error
        if known is None:
            return whole
        # A copy of the old one, which keeps what is no field: private attributes, which fields were ever set.
        names = {_field_name(self.typ, key) for key in patch}
        old, new = fields_of(known), fields_of(whole)
        changes = {k: v for k, v in new.items() if k in names or k not in old or v is not old[k]}
        changed = copy.copy(known)
        set_fields(changed, changes)
        return changed


def _field_name(kind: Any, key: str) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return next((n for n, f in kind.model_fields.items() if key in (f.alias, f.validation_alias)), key)
    return key


def _without_default(kind: Any) -> str:
    if issubclass(kind, BaseModel):
        names = [name for name, info in kind.model_fields.items() if info.is_required()]
    else:
        names = [
            f.name
            for f in dataclasses.fields(kind)
            if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
    return (
        f"The userdata class {kind.__name__} has fields without a default ({', '.join(names)}) and nobody has set "
        f"them: pass Conversation(graph, userdata={kind.__name__}(...)), or give the fields defaults."
    )


def required(state: Mapping[str, Any]) -> Any:
    """The userdata of a state. Raises `UserdataError` when its class has fields that nobody has set."""
    if (found := state.get("userdata")) is None:
        raise UserdataError(
            "This call has no userdata yet, because its class has fields without a default: pass "
            'Conversation(graph, userdata=...) (or {"userdata": ...} as the graph\'s input), or give the fields '
            "defaults."
        )
    return found


def check_class(kind: Any) -> None:
    """Raise `BuildError` unless `kind` can hold userdata: a pydantic model, a dataclass, `dict` or None."""
    if kind is None or kind is dict:
        return
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        return
    raise BuildError(f"userdata={kind!r}: write a pydantic model class or a dataclass.")
