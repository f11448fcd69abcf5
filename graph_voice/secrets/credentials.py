"""Credentials, which are secrets by the name under which they are given: `api_key`, `token`, `auth`, `headers`, ..."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Secret, SecretStr

from graph_voice.secrets.values import MASK, is_secret

__all__ = ["credentials_in", "is_credential", "looks_like_key", "revealed_options", "sealed", "shown"]

_NAME = re.compile(
    r"api_?key|access_?key|account_?key|private_?key|subscription|secret|passw|passphrase|passcode|credential|authori[sz]"
    r"|authenticat|bearer|cookie|signature|_sas\b|jwt|token(?!s|iz|_?(?:limit|count|budget|usage|type))"
    r"|(?:^|_)(?:key|keys|keyfile|auth|pwd|pw|creds?|headers?|cert|pat|dsn)(?:$|_)"
)
_SURE_NAME = re.compile(
    r"api_?key|access_?key|private_?key|secret|passw|passphrase|credential|(?:access|auth|api)_?token"
)
_NO_NAME = re.compile(r"key_?(?:words?|terms?|board|frames?)|(?:max|min|num|n)_?tokens?|secretary")
"""Names of options that only look like a credential's."""
_VALUE = re.compile(
    r"(?i:bearer|basic|token) [\w.~+/=-]{8,}|\b(?:sk|pk|rk|gsk|xai|ghp|hf|AKIA|AIza|xox[a-z])[-_]?[A-Za-z0-9_-]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}|-----BEGIN|://[^/\s:@]*:[^/\s@]+@"
    r"|[?&](?:[a-z]+[_-])?(?:key|token|secret|password|sig|auth)=[^&\s]+"
)
"""What a key looks like, under whatever name: a prefix that providers use, a JWT, a password in a URL."""


def is_credential(name: Any, *, surely: bool = False) -> bool:
    """Whether an option of this name is a credential: `api_key`, `apiKey`, `xi-api-key`, `auth_token`, `headers`, ...

    `surely`: only names that mean nothing else. A `key` or a `token` may be another one.
    """
    if not isinstance(name, str):
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()
    return _NO_NAME.search(words) is None and (_SURE_NAME if surely else _NAME).search(words) is not None


def looks_like_key(text: str) -> bool:
    """Whether a text looks like a key, whatever its name."""
    return _VALUE.search(text) is not None


def sealed(value: Any, *, secret: bool = False) -> Any:
    """Options with their credentials as `SecretStr`, at any depth; the same object if it has none.

    Args:
        value: a mapping of options, or what one of them holds.
        secret: whether all texts and numbers in it are credentials.
    """
    if secret and isinstance(value, int | float) and not isinstance(value, bool):
        return Secret(value)
    if isinstance(value, str | bytes):
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        return SecretStr(text) if text and (secret or looks_like_key(text)) else value
    if isinstance(value, Mapping):
        pairs = [(k, v, sealed(v, secret=secret or is_credential(k))) for k, v in value.items()]
        return {k: new for k, _, new in pairs} if any(new is not old for _, old, new in pairs) else value
    if type(value) in (list, tuple):
        items = [sealed(item, secret=secret) for item in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def revealed_options(value: Any) -> Any:
    """Options as a plugin takes them: the credentials as they were given."""
    if is_secret(value):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return {k: revealed_options(v) for k, v in value.items()}
    return type(value)(map(revealed_options, value)) if type(value) in (list, tuple) else value


def credentials_in(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Where options hold a credential, and what it is: `headers.Authorization`, ..."""
    if is_secret(value):
        found = value.get_secret_value()
        yield path, found.decode(errors="replace") if isinstance(found, bytes) else str(found)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from credentials_in(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from credentials_in(inner, path)


def shown(value: Any) -> Any:
    """Options as JSON data that may be drawn and traced: credentials masked, objects and functions by their names."""
    if value is None or isinstance(value, bool | int | float | str):
        return MASK if isinstance(value, str) and looks_like_key(value) else value
    if is_secret(value):
        return MASK
    if isinstance(value, Mapping):
        return {str(k): MASK if is_credential(k) and isinstance(v, str) else shown(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(item) for item in value]
    # Never its repr: that of `functools.partial(TTS, api_key=...)`, or of a plugin, shows what it was given.
    named = getattr(value, "func", value)
    return str(getattr(named, "__name__", None) or type(value).__name__)
