"""Typed values as plain data, and back: what a state keeps of results, drafts and a handoff's arguments."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from graph_voice.secrets.values import Redacted, has_secret, is_secret, mapped, was_redacted

__all__ = ["as_plain", "as_typed"]


def as_plain(adapter: TypeAdapter[Any], value: Any) -> Any:
    """The value as JSON data, its secrets as `Redacted`."""
    return _redacted(adapter.dump_python(value)) if has_secret(value) else adapter.dump_python(value, mode="json")


def _redacted(value: Any) -> Any:
    if is_secret(value):
        return Redacted(value)
    if isinstance(value, Mapping):
        return dict(zip(to_jsonable_python(dict.fromkeys(value)), map(_redacted, value.values()), strict=True))
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item) for item in value]
    return to_jsonable_python(value)


def as_typed(adapter: TypeAdapter[Any], plain: Any) -> Any:
    """What `as_plain` made this of."""
    if not was_redacted(plain):
        return adapter.validate_python(plain)
    try:
        return adapter.validate_python(_revealed(plain, lambda secret: secret))
    except ValidationError:  # a secret that was stored is one of another class: `SecretStr` for `Secret[str]`
        return adapter.validate_python(_revealed(plain, lambda secret: secret.get_secret_value()))


def _revealed(data: Any, reveal: Callable[[Any], Any]) -> Any:
    if isinstance(data, Redacted):
        return reveal(data.secret)
    return mapped(data, lambda item: _revealed(item, reveal)) if isinstance(data, Mapping | list) else data
