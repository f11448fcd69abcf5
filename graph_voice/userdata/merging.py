"""Two turns that change one field in place: a tool goes on behind a barge-in, and the next turn's tools run."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from graph_voice.userdata.plain import fields_of, set_fields

__all__ = ["merged"]

_DEEP = 20


def merged(before: Any, after: Any, current: Any) -> Any:
    """The value of a field that was changed in place, when others may have changed it since it was read.

    As if all had shared one value, as in LiveKit: keys of a dict, fields of a model and members of a set change by
    themselves, at any depth, and what was appended to a list is appended. A list inside another value is replaced,
    and so is anything else.

    Args:
        before: what the change began with.
        after: what it has made of that.
        current: the field's value now. None of the three is changed.
    """
    if type(before) is list and type(after) is list and type(current) is list and not _same(current, before):
        appended = len(after) >= len(before) and all(map(_same, before, after))
        return [*current, *after[len(before) :]] if appended else after
    return _merged(before, after, current, _DEEP)


def _merged(before: Any, after: Any, current: Any, deep: int) -> Any:
    if type(before) is not type(after) or type(current) is not type(after) or _same(current, before) or deep <= 0:
        return after
    if isinstance(after, dict):
        made = copy.copy(current)
        for key in before.keys() - after.keys():
            made.pop(key, None)
        made.update(_changes(before, after, current, deep))
        return made
    if type(after) in (set, frozenset):
        return (current - (before - after)) | (after - before)
    if isinstance(after, BaseModel) or (dataclasses.is_dataclass(after) and not isinstance(after, type)):
        made = copy.copy(current)
        set_fields(made, _changes(fields_of(before), fields_of(after), fields_of(current), deep))
        return made
    return after


def _changes(before: Mapping[Any, Any], after: Mapping[Any, Any], current: Mapping[Any, Any], deep: int) -> Any:
    return {
        key: _merged(before[key], value, current[key], deep - 1) if key in before and key in current else value
        for key, value in after.items()
        if key not in before or not _same(before[key], value)
    }


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:  # an __eq__ that can't compare, as numpy's
        return False
