"""Userdata: the caller's typed facts, shared by all agents of a call. LiveKit's `session.userdata`.

A pydantic model, a dataclass, or (when `create_voice_graph` is given no class) a plain dict.
"""

import copy
import dataclasses
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, cast

from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import EmptyChannelError
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from graph_voice.errors import BuildError, UserdataError
from graph_voice.secrets.values import (
    Redact,
    Redacted,
    holds_secrets,
    is_lost,
    is_secret,
    mapped,
    opened,
    parts_of,
    redact_with,
    revealed,
    was_redacted,
)
from graph_voice.userdata.carried import Changes, Snapshot
from graph_voice.userdata.data import copy_of, require_data, trouble
from graph_voice.userdata.objects import attributes_of, is_live
from graph_voice.userdata.plain import HIDDEN, REMOVED, fields_of, hints_of, is_known, set_fields, set_private, to_plain
from graph_voice.userdata.reading import Reader, field_from_plain, set_hidden

__all__ = ["UserdataChannel", "check_class", "explain", "public_fields", "redacted", "required", "untyped"]

logger = logging.getLogger("graph_voice")
_MISSING: Any = object()
_PLAIN: TypeAdapter[Any] = TypeAdapter(Any)


def _hidden_fields(kind: Any) -> frozenset[str]:
    """The fields of a class that are marked secret, or excluded from dumps."""
    excluded = [n for n, info in kind.model_fields.items() if info.exclude] if issubclass(kind, BaseModel) else []
    return frozenset([*excluded, *_marked_fields(kind)])


def _marked_fields(kind: Any) -> dict[str, Any]:
    """The fields of a class that are marked secret, with their types."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items() if _is_marked(info)}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = hints_of(cast(Any, kind))
        return {
            f.name: hints.get(f.name)
            for f in dataclasses.fields(kind)
            if f.metadata.get("secret") or any(map(_is_marked, getattr(hints.get(f.name), "__metadata__", ())))
        }
    return {}


def _is_marked(info: Any) -> bool:
    extra = getattr(info, "json_schema_extra", None)
    return isinstance(extra, dict) and bool(extra.get("secret"))


def _public(value: Any) -> Any:
    """Plain JSON data, without secrets at any depth."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        hidden = _hidden_fields(type(value))
        return {k: _public(v) for k, v in fields_of(value).items() if k not in hidden and not is_secret(v)}
    if isinstance(value, Mapping):
        return {str(_public(k)): _public(v) for k, v in value.items() if not is_secret(v)}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_public(item) for item in value if not is_secret(item)]
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    if not is_known(value) and not is_live(value):
        return {k: _public(v) for k, v in attributes_of(value).items() if not is_secret(v)}
    return _PLAIN.dump_python(value, mode="json", fallback=str)


def public_fields(
    userdata: Any, *, include: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> dict[str, Any]:
    """The fields that are set (not None, not empty) as plain JSON data, without secret ones.

    At any depth, a `SecretStr`, `SecretBytes` or `Secret` is secret. So is a field that is marked: by pydantic's
    `Field(exclude=True)` or `Field(json_schema_extra={"secret": True})`, also in `Annotated`, or by a dataclass
    field's `metadata={"secret": True}`.
    """
    found = {}
    hidden = _hidden_fields(type(userdata))
    for name, value in fields_of(userdata).items():
        if (include is not None and name not in include) or name in exclude or name in hidden or is_secret(value):
            continue
        if value is None or value == "" or value == [] or value == {}:
            continue
        found[name] = _public(value)
    return found


def explain(error: ValidationError) -> str:
    """A validation error in one line that a model can act on, without the wrong values."""
    lines = (f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_url=False))
    return "; ".join(lines)


def redacted(value: Any, redact: Redact) -> Any:
    """Untyped data (userdata that is a dict) with its secrets redacted; all else stays as it is."""
    if is_secret(value):
        return redact(value)
    return mapped(value, lambda item: redacted(item, redact)) if isinstance(value, dict | list | tuple) else value


def untyped(value: Any) -> Any:
    """Reverses `redacted`. A secret that was left out becomes an empty one, which is falsy."""
    if isinstance(value, str):
        if isinstance(value, Redacted) or is_lost(SecretStr, value):
            return revealed(SecretStr, value)
        return value
    return mapped(value, untyped) if isinstance(value, dict | list | tuple) else value


class UserdataChannel(BaseChannel[Any, Any, Any]):
    """The state's `userdata`: a value of the user's class, stored in checkpoints as a plain dict of its fields.

    An update is a whole instance, which replaces the value, or a dict, which changes these fields (so two nodes of one
    step may write different fields). Before the first write the value is a default instance of the class; there is none
    if the class has fields without a default. Within the process, checkpoints and updates carry the values themselves.

    Raises `UserdataError` for an update that is neither, does not validate, or holds a live object, and for a stored
    call that lacks a field without a default.
    """

    __slots__ = ("secrets", "value")

    def __init__(self, typ: Any, key: str = "", secrets: SerializerProtocol | None = None) -> None:
        super().__init__(typ, key)
        self.value: Any = _MISSING
        self.secrets = secrets

    @property
    def ValueType(self) -> Any:
        return self.typ

    @property
    def UpdateType(self) -> Any:
        return self.typ

    def copy(self) -> Self:
        other = self.__class__(self.typ, self.key, self.secrets)
        other.value = self.value
        return other

    def from_checkpoint(self, checkpoint: Any) -> Self:
        other = self.__class__(self.typ, self.key, self.secrets)
        if isinstance(checkpoint, Snapshot):
            other.value = copy_of(checkpoint.value)
        elif isinstance(checkpoint, dict):
            other.value = self._read(checkpoint)
        elif isinstance(checkpoint, self.typ):
            other.value = checkpoint
        return other  # anything else is LangGraph's mark for "no value yet"

    def _read(self, stored: Any) -> Any:
        """Userdata of plain data, from a store."""
        plain = opened(stored, self.secrets)
        if self.typ is dict:
            return untyped(plain)
        reader = Reader()
        value = reader.value(self.typ, plain)
        if reader.misfits:
            logger.warning(
                "what was stored does not fit the types of %s any more, and is kept as it is: %s",
                self.typ.__name__,
                ", ".join(reader.misfits),
            )
        return value

    def checkpoint(self) -> Any:
        # Plain data, so that a process with a strict serializer can read the checkpoint.
        value = self.get()
        redact = redact_with(self.secrets)
        plain = redacted(value, redact) if self.typ is dict else to_plain(value, redact)
        return Snapshot(plain, value, self._read)

    def get(self) -> Any:
        if self.value is _MISSING:
            try:
                made = self.typ()
            except (TypeError, ValidationError) as error:
                raise EmptyChannelError(_without_default(self.typ)) from error
            require_data(made)
            self.value = made
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

    def require(self, value: Any) -> None:
        """Raise `UserdataError` unless this may be the userdata, or a dict of fields that change."""
        if not isinstance(value, self.typ | dict):
            raise UserdataError(
                f"userdata can't become {type(value).__name__}: write an instance of {self.typ.__name__}, or a dict of "
                "the fields that change."
            )
        require_data(value)

    def _updated(self, value: Any) -> Any:
        known: Any = self.get() if self.is_available() else None
        if isinstance(value, Changes):
            return self._changed(known, value)
        self.require(value)
        if self.typ is not dict and isinstance(value, self.typ):
            return value
        if self.typ is dict:
            return _merged(known, untyped(opened(value, self.secrets)), value.get(REMOVED, ()))
        fields = {k: v for k, v in value.items() if k not in (HIDDEN, REMOVED)}
        changed = self._validated(known, self._restored(fields))
        set_hidden(changed, opened(value.get(HIDDEN, {}), self.secrets))
        return changed

    def _changed(self, known: Any, changes: Changes) -> Any:
        """The userdata after the changes of a batch."""
        removed = changes.get(REMOVED, ())
        if self.typ is dict:
            return _merged(known, changes.on(known or {}), removed)
        if known is None:
            return self._validated(known, changes.carried)
        changed = copy.copy(known)
        if isinstance(changed, BaseModel):
            for cached in set(changed.__dict__) - set(self.typ.model_fields):
                del changed.__dict__[cached]  # a cached property, of the old values
            for name in removed:
                (changed.__pydantic_extra__ or {}).pop(name, None)
        set_fields(changed, changes.on(fields_of(known)))
        set_private(changed, changes.private)
        return changed

    def _restored(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A patch that may have been stored, as it was written, but without the secrets that were left out."""
        hints = self.typ.model_fields if issubclass(self.typ, BaseModel) else hints_of(self.typ)
        kinds = {k: getattr(h, "annotation", h) for k, h in hints.items()}
        found = {k: v for k, v in opened(patch, self.secrets).items() if not is_lost(kinds.get(k), v)}
        # What was redacted was already validated; everything else still has to be.
        return {k: field_from_plain(self.typ, k, v) if k in kinds and was_redacted(v) else v for k, v in found.items()}

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
            told = f"userdata ({self.typ.__name__}) can't take these fields: {explain(error)}."
            # pydantic's own text shows the input.
            raise UserdataError(told) from (None if holds_secrets(self.typ) else error)
        if known is None:
            return whole
        # A copy of the old one, which keeps what is not a field: private attributes, and which fields were ever set.
        names = {_field_name(self.typ, key) for key in patch}
        old, new = fields_of(known), fields_of(whole)
        changes = {k: v for k, v in new.items() if k in names or k not in old or v is not old[k]}
        changed = copy.copy(known)
        set_fields(changed, changes)
        return changed


def _merged(known: Any, changes: Mapping[str, Any], removed: Any) -> dict[str, Any]:
    merged = {**(known or {}), **changes}
    return {k: v for k, v in merged.items() if k != REMOVED and k not in removed}


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
        f"The userdata class {kind.__name__} has fields without a default ({', '.join(names)}), and they were not "
        f"set: pass Conversation(graph, userdata={kind.__name__}(...)), or give the fields defaults."
    )


def required(state: Mapping[str, Any]) -> Any:
    """The userdata of a state. Raises `UserdataError` when its class has required fields that were never set."""
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
        if (found := next(_readable_secrets(kind, []), None)) is not None:
            raise BuildError(
                f"userdata: {found} is marked secret, but every trace would print its type: annotate it with "
                "pydantic's SecretStr (or SecretBytes, or Secret[...])."
            )
        for name, default in _defaults(kind).items():
            if (wrong := trouble(default, f"{kind.__name__}.{name}")) is not None:
                raise BuildError(str(wrong))
        return
    raise BuildError(f"userdata={kind!r}: write a pydantic model class or a dataclass.")


def _defaults(kind: Any) -> dict[str, Any]:
    """Field -> default, where the class names it; a factory is not called."""
    if issubclass(kind, BaseModel):
        return {k: i.default for k, i in kind.model_fields.items() if not i.is_required() and not i.default_factory}
    return {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}


def _readable_secrets(kind: Any, seen: list[Any]) -> Iterator[str]:
    """The fields, at any depth, that are marked secret but whose type is not."""
    if any(kind is s for s in seen):
        return
    seen.append(kind)
    for part in parts_of(kind):
        yield from _readable_secrets(part, seen)
    for name, annotation in _marked_fields(kind).items():
        if not holds_secrets(annotation):
            yield f"{kind.__name__}.{name}"
