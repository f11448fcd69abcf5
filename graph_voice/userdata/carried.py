"""Userdata in updates and checkpoints: plain data, which within the process carries the values themselves.

So nothing is converted, and nothing can get lost, as long as a call stays in its process. Whatever writes such data
down writes the plain data alone.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graph_voice.secrets.values import has_secret, is_secret
from graph_voice.userdata.merging import merged
from graph_voice.userdata.objects import attributes_of, is_live, shown
from graph_voice.userdata.plain import fields_of, is_known, private_of

__all__ = ["Changes", "Snapshot"]


class Changes(dict[str, Any]):
    """A patch of fields that were validated when they were set. The channel does not validate it again: that would run
    a validator twice on its own result, or compare an old fact with today's date.

    Args:
        plain: the fields as plain data.
        carried: the values themselves, not to be changed.
        private: private attribute -> value.
        before: what those fields were when the batch began that were changed in place; not to be changed.
    """

    def __init__(
        self,
        plain: Mapping[str, Any] = {},
        carried: Mapping[str, Any] = {},
        private: Mapping[str, Any] = {},
        before: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(plain)
        self.carried = dict(carried)
        self._before = dict(before)
        self.private = dict(private)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # a pickle contains only plain data

    def on(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """The fields, as they become where others have changed them since. What was assigned replaces, as in LiveKit;
        what was changed in place is `merged`."""
        return {
            k: merged(self._before[k], v, current[k]) if k in self._before and k in current else v
            for k, v in self.carried.items()
        }

    def lost(self, stored: Any) -> Sequence[str]:
        """What they change is told when it is stored as a whole."""
        return ()


class Snapshot(dict[str, Any]):
    """The whole userdata in a checkpoint.

    Args:
        plain: the fields as plain data.
        value: the userdata itself, not to be changed.
        read: makes userdata of plain data, as another process will.
    """

    def __init__(self, plain: Mapping[str, Any], value: Any, read: Callable[[Any], Any]) -> None:
        super().__init__(plain)
        self.value = value
        self._read = read

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def lost(self, stored: Any) -> Sequence[str]:
        """What is not as it was when another process reads it.

        Args:
            stored: this, as it is read back from a store.
        """
        return list(_differences(self.value, self._read(stored), ""))


def _differences(a: Any, b: Any, at: str) -> Iterator[str]:
    """What differs, but for secrets, which are left out."""
    if type(a) is not type(b):
        if not has_secret(a):
            yield f"{at} is a {type(a).__name__}, and comes back as a {type(b).__name__}"
        return
    if is_secret(a):
        return
    if isinstance(a, Mapping):
        yield from _of_mappings(a, b, at)
    elif isinstance(a, list | tuple | deque):
        yield from _of_items(a, b, at)
    elif (parts := _parts(a)) is not None:
        theirs = _parts(b) or {}
        if not any(is_secret(v) and v != theirs.get(k) for k, v in parts.items()):  # else it is the field's default now
            yield from _of_mappings(parts, theirs, at, record=True)
    elif not _equal(a, b):
        yield f"{at} comes back as another {type(a).__name__}"


def _of_mappings(a: Mapping[Any, Any], b: Mapping[Any, Any], at: str, *, record: bool = False) -> Iterator[str]:
    for key, value in a.items():
        where = (f"{at}.{key}" if at else str(key)) if record else f"{at}[{shown(key)}]"
        if key in b:
            yield from _differences(value, b[key], where)
        elif not has_secret(value):
            yield f"{where} does not come back"
    if not record and (first := getattr(a, "default_factory", None)) is not getattr(b, "default_factory", None):
        yield f"the default_factory of {at} ({first!r:.60}) does not come back"


def _of_items(a: Any, b: Any, at: str) -> Iterator[str]:
    kept = [item for item in a if not has_secret(item)] if len(a) != len(b) else a
    if len(kept) != len(b):
        yield f"{at} comes back with {len(b)} items"
        return
    for index, (mine, theirs) in enumerate(zip(kept, b, strict=True)):
        yield from _differences(mine, theirs, f"{at}[{index}]")
    if getattr(a, "maxlen", None) != getattr(b, "maxlen", None):
        yield f"the maxlen of {at} does not come back"


def _parts(value: Any) -> dict[str, Any] | None:
    if hasattr(value, "__pydantic_fields__") or hasattr(value, "__dataclass_fields__"):
        return {**fields_of(value), **private_of(value)}
    return attributes_of(value) if not is_known(value) and not is_live(value) else None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    try:
        return bool(a == b)
    except Exception:  # an __eq__ that can't compare, as numpy's
        return repr(a) == repr(b)
