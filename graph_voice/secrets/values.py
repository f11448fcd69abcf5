"""Secrets, which only the code that was given them may read: pydantic's `SecretStr`, `SecretBytes`, `Secret[...]`.

A secret leaves its typed value only as `Redacted`: text that every serializer, trace and log prints as a mask (or as
ciphertext), and that carries the value within the process.
"""

import base64
import dataclasses
import functools
import types
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel, Secret, SecretBytes, SecretStr

__all__ = [
    "MASK",
    "Misplaced",
    "Redact",
    "Redacted",
    "fields_of_schema",
    "has_lost",
    "has_secret",
    "holds_secrets",
    "is_lost",
    "is_secret",
    "mapped",
    "opened",
    "parts_of",
    "redact_with",
    "redacted_as",
    "resealed",
    "revealed",
    "revealed_in",
    "secret_texts",
    "was_redacted",
    "without_lost",
]

MASK = "**********"
"""What is shown in place of a secret. pydantic's mask."""
_PREFIX = "redacted:"
_PLAIN = JsonPlusSerializer(allowed_msgpack_modules=None)
"""Reads and writes what a secret holds: data, and no classes but LangGraph's harmless ones."""
SHORTEST = 6
"""Characters of the shortest secret that is masked wherever a text contains it; shorter ones occur by chance."""


class Redacted(str):
    """A secret as plain data. `secret` is the typed value. Only the text is ever stored, and it reveals nothing."""

    secret: Any

    def __new__(cls, secret: Any, text: str = MASK) -> "Redacted":
        made = super().__new__(cls, text)
        made.secret = secret
        return made

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Redacted):
            return bool(self.secret == other.secret)
        return str.__eq__(self, other) if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __reduce__(self) -> Any:
        return str, (str.__str__(self),)  # a pickle contains only the text

    def lost(self, stored: Any) -> tuple[str, ...]:
        """A store has only the text; that is not told as a loss (`graph_voice.storage.storable`)."""
        return ()

    def __copy__(self) -> "Redacted":
        return self

    def __deepcopy__(self, memo: Any) -> "Redacted":
        return self


class Misplaced(Secret[Any]):
    """What a model has put where no secret belongs. The tool gets it, and everything else shows a mask. It is not known
    to be a secret, so it is not looked for elsewhere."""


Redact = Callable[[Any], Any]
"""Turns a secret into plain data."""


def redact_with(serde: SerializerProtocol | None) -> Redact:
    """How secrets become plain data: masked, or encrypted by LangGraph's `EncryptedSerializer`."""
    if serde is None:
        return Redacted

    def redact(secret: Any) -> Redacted:
        kind, data = _PLAIN.dumps_typed(secret.get_secret_value())
        sealed_as, sealed = serde.dumps_typed(f"{kind}:".encode() + data)
        return Redacted(secret, f"{_PREFIX}{sealed_as}:{base64.b64encode(sealed).decode()}")

    return redact


def resealed(data: Any, redact: Redact) -> Any:
    """Plain data whose secrets are redacted in this way, whatever they were redacted with before."""
    if isinstance(data, Redacted):
        return redact(data.secret)
    return mapped(data, lambda item: resealed(item, redact)) if isinstance(data, Mapping | list | tuple) else data


def opened(data: Any, serde: SerializerProtocol | None) -> Any:
    """Stored plain data, as it was before it was stored: what this serializer can decrypt is `Redacted` again."""
    if isinstance(data, Mapping | list | tuple | set | frozenset):
        return mapped(data, lambda item: opened(item, serde))
    if serde is None or type(data) is not str or not data.startswith(_PREFIX):
        return data
    try:
        value = _opened(data.removeprefix(_PREFIX), serde)
    except Exception:  # another key, or a text that only looks redacted: ciphers raise all kinds of errors
        return data
    kinds: dict[type, Any] = {str: SecretStr, bytes: SecretBytes}
    return Redacted(kinds.get(type(value), Secret)(value), data)


def _opened(text: str, serde: SerializerProtocol) -> Any:
    """The value of an encrypted secret. Anybody may have written the text, so it must not choose what is constructed:
    the serializer is given nothing but bytes, and what they hold is read by `_PLAIN`."""
    sealed_as, _, sealed = text.partition(":")
    if sealed_as.partition("+")[0] != "bytes":
        raise ValueError(sealed_as)
    kind, _, data = serde.loads_typed((sealed_as, base64.b64decode(sealed))).partition(b":")
    if kind not in (b"msgpack", b"bytes", b"bytearray", b"null"):
        raise ValueError(kind)
    return _PLAIN.loads_typed((kind.decode(), data))


def mapped(container: Any, change: Callable[[Any], Any]) -> Any:
    """A mapping or a sequence with its values changed; itself if none is."""
    if isinstance(container, Mapping):
        pairs = [(k, v, change(v)) for k, v in container.items()]
        return {k: new for k, _, new in pairs} if any(new is not old for _, old, new in pairs) else container
    items = [(item, change(item)) for item in container]
    if all(new is old for old, new in items):
        return container
    make = getattr(type(container), "_make", type(container))  # a named tuple's constructor takes no list
    return make(new for _, new in items)


def was_redacted(data: Any) -> bool:
    """Whether plain data contains something that was redacted."""
    if isinstance(data, Mapping):
        return any(map(was_redacted, data.values()))
    if isinstance(data, list | tuple | set | frozenset):
        return any(map(was_redacted, data))
    return isinstance(data, str) and (isinstance(data, Redacted) or data == MASK or data.startswith(_PREFIX))


def has_lost(data: Any) -> bool:
    """Whether plain data has lost a secret: it was left out when it was stored, or it can't be decrypted here."""
    if isinstance(data, Mapping):
        return any(map(has_lost, data.values()))
    if isinstance(data, list | tuple):
        return any(map(has_lost, data))
    return type(data) is str and (data == MASK or data.startswith(_PREFIX))


def without_lost(data: Any) -> Any:
    """Plain data without the secrets that it has lost."""
    if isinstance(data, Mapping):
        return {k: without_lost(v) for k, v in data.items() if not (isinstance(v, str) and has_lost(v))}
    if isinstance(data, list | tuple):
        return [without_lost(item) for item in data if not (isinstance(item, str) and has_lost(item))]
    return data


def is_secret(value: Any) -> bool:
    return isinstance(value, SecretStr | SecretBytes | Secret)


def is_lost(kind: Any, value: Any) -> bool:
    """Whether a stored value stands for a secret that was left out, or that can't be decrypted here."""
    return type(value) is str and (value == MASK or value.startswith(_PREFIX)) and _choice(kind) is not None


def _choice(kind: Any) -> Any:
    """The secret type that a type is, or may be (`SecretStr | None`); None if there is none."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _choice(typing.get_args(kind)[0])
    if origin is typing.Union or origin is types.UnionType:
        return next((c for c in map(_choice, typing.get_args(kind)) if c is not None), None)
    bare = origin or kind
    return kind if isinstance(bare, type) and issubclass(bare, SecretStr | SecretBytes | Secret) else None


def revealed(kind: Any, value: Any) -> Any:
    """A redacted or lost value as a value of this type. A lost one becomes an empty secret, which is falsy."""
    if isinstance(value, Redacted):
        return value.secret
    choice = _choice(kind)
    empty: Any = b"" if choice is SecretBytes else "" if choice is SecretStr else None
    return (typing.get_origin(choice) or choice)(empty)


def revealed_in(data: Any) -> Any:
    """Plain data with the values of all that is redacted in it, as far as this process knows them."""
    if isinstance(data, Redacted):
        return data.secret.get_secret_value()
    if type(data) is dict:
        return {revealed_in(k): revealed_in(v) for k, v in data.items()}
    return [revealed_in(item) for item in data] if type(data) is list else data


# ---- which types hold secrets


def parts_of(kind: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        args = args[:1]
    yield from args
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from (info.annotation for info in kind.model_fields.values())
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        try:
            hints = typing.get_type_hints(kind)
        except NameError:  # it names a class that is local to a function
            hints = {}
        yield from (hints.get(f.name, Any) for f in dataclasses.fields(kind))


def holds_secrets(kind: Any) -> bool:
    """Whether values of this type may hold a secret, at any depth."""
    try:
        return _holds_secrets(kind)
    except TypeError:  # not hashable: Literal of a list, Annotated with a dict
        return _walk(kind, [])


def _walk(kind: Any, seen: list[Any]) -> bool:
    if _choice(kind) is not None:
        return True
    if any(kind is s for s in seen):
        return False
    seen.append(kind)
    return any(_walk(part, seen) for part in parts_of(kind))


@functools.lru_cache(maxsize=512)
def _holds_secrets(kind: Any) -> bool:
    return _walk(kind, [])


# ---- a model's arguments


def redacted_as(kind: Any, value: Any) -> Any:
    """JSON data for a value of this type, with its secrets redacted. Data that does not fit the type stays as it is."""
    if value is None or not holds_secrets(kind):
        return value
    if (choice := _choice(kind)) is not None:
        if isinstance(value, Redacted) or value == MASK:  # the model repeated the mask that it was shown
            return value
        return Redacted((SecretStr if choice is SecretStr and isinstance(value, str) else Secret)(value))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return redacted_as(args[0], value)
    if isinstance(value, Mapping):
        fields = fields_of_schema(kind)
        if fields:
            return {k: redacted_as(fields.get(k, Any), v) for k, v in value.items()}
        if len(args) == 2 and origin not in (typing.Union, types.UnionType):
            return {k: redacted_as(args[1], v) for k, v in value.items()}
    elif isinstance(value, list) and args and origin not in (typing.Union, types.UnionType):
        return [redacted_as(args[0], item) for item in value]
    for part in args:  # one of several
        if holds_secrets(part) and (made := redacted_as(part, value)) is not value:
            return made
    return value


def fields_of_schema(kind: Any) -> dict[str, Any]:
    """Name, and alias, -> annotation."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = {name: info.annotation for name, info in kind.model_fields.items()}
        aliases = {f.alias: f.annotation for f in kind.model_fields.values() if f.alias is not None}
        return {**found, **aliases}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return dict(typing.get_type_hints(kind))
    return {}


# ---- in texts


def secret_texts(value: Any) -> list[str]:
    """The secrets in a value, as text, the longest first: only those that are long enough to be found in a text."""
    found: set[str] = set()
    _collect(value, found, set())
    return sorted((t for t in found if len(t) >= SHORTEST), key=len, reverse=True)


def has_secret(value: Any) -> bool:
    """Whether a value contains a secret, at any depth."""
    found: set[str] = set()
    _collect(value, found, set())
    return bool(found)


def _collect(value: Any, found: set[str], seen: set[int]) -> None:
    if is_secret(value):
        inner = value.get_secret_value()
        if isinstance(inner, bytes):
            inner = inner.decode(errors="replace")
        found.add(str(inner if inner is not None else ""))
        return
    if value is None or isinstance(value, str | int | float | bytes) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, BaseModel):
        items: Any = [*value.__dict__.values(), *(value.__pydantic_private__ or {}).values()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [getattr(value, f.name, None) for f in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, list | tuple | set | frozenset | deque):
        items = value
    elif hasattr(value, "__dict__") and not callable(value):
        items = list(vars(value).values())
    else:
        return
    for item in items:
        _collect(item, found, seen)
