"""The userdata that the tools of one batch share while they run. The batch writes it to the state as one update."""

import copy
import dataclasses
import functools
import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from graph_voice.errors import TurnError
from graph_voice.secrets.values import Redacted, holds_secrets
from graph_voice.userdata.carried import Changes
from graph_voice.userdata.channel import explain, redacted, required
from graph_voice.userdata.data import copy_of, require_data, trouble
from graph_voice.userdata.plain import (
    HIDDEN,
    REMOVED,
    adapter,
    fields_of,
    hints_of,
    private_of,
    set_fields,
    set_private,
    to_checkable,
    to_plain,
)

__all__ = ["Assignments", "WorkingCopy"]

logger = logging.getLogger("graph_voice")
_MISSING: Any = object()
_SIMPLE = (str, int, float, bool, bytes, type(None))


class Assignments:
    """The fields that one tool call has assigned, so that they can be undone if it will run again."""

    def __init__(self) -> None:
        self.over = False
        """The tool call has been answered. A thread that outlives it may no longer change anything."""
        self._made: dict[str, tuple[Any, Any, Any]] = {}

    @staticmethod
    def current() -> "Assignments | None":
        """Those of the tool call that runs here."""
        return _assigning.get()

    def note(self, userdata: Any, name: str, before: Any, after: Any) -> None:
        first = self._made[name][1] if name in self._made else before
        self._made[name] = (userdata, first, after)

    def undo(self) -> None:
        """Reset what no other tool call has assigned since. In-place changes stay: it is unknown who made them."""
        for name, (userdata, before, after) in self._made.items():
            if before is not _MISSING and getattr(userdata, name, _MISSING) is after:
                set_fields(userdata, {name: before})
        self._made.clear()


_assigning: ContextVar[Assignments | None] = ContextVar("graph_voice_assigning", default=None)


class WorkingCopy:
    """The userdata that the tools of one batch share: each sees what the others wrote so far, in-place changes count.

    LiveKit's tools share one live `session.userdata`; here they share this copy, made when it is first needed.
    Assignments are validated at once, whatever the class is configured to do. In-place changes are validated when a
    tool call ends (`undo_invalid`).

    Args:
        state: the graph's state when the batch began.

    `value` raises `UserdataError` when the state has no userdata.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state
        self._value: Any = _MISSING
        self._valid: dict[str, Any] = {}
        self._first: dict[str, Any] = {}
        """The copy's own values: a field that still has one was changed in place, if at all."""
        self._lock = threading.Lock()

    @property
    def value(self) -> Any:
        """What tools change."""
        with self._lock:
            if self._value is _MISSING:
                self._value = _checked(copy_of(required(self._state)))
                self._first = fields_of(self._value)
                self._valid = fields_of(self._state["userdata"])  # never changed: nobody else has this instance
            return self._value

    @property
    def current(self) -> Any:
        """What to read: the copy if there is one, else the state's own userdata."""
        return self._state.get("userdata") if self._value is _MISSING else self._value

    @contextmanager
    def assigned_by(self, call: Assignments) -> Any:
        """Inside, and in threads and tasks that start inside, assignments belong to this tool call."""
        token = _assigning.set(call)
        try:
            yield
        finally:
            _assigning.reset(token)

    def changes(self) -> Changes:
        """The fields that differ from what they were when the batch began."""
        if self._value is _MISSING:
            return Changes()
        given = self._state["userdata"]
        before, now = fields_of(given), fields_of(self._value)
        old, new = private_of(given), private_of(self._value)
        found = {k: v for k, v in now.items() if k not in before or not _same(before[k], v)}
        private = {k: v for k, v in new.items() if k not in old or not _same(old[k], v)}
        # Copies: a tool that outlives its answer changes nobody's userdata.
        found, private = copy_of((found, private))
        plain: dict[str, Any] = redacted(found, Redacted) if isinstance(given, dict) else to_plain(found)
        if removed := [k for k in before if k not in now]:
            plain[REMOVED] = removed
        if private:
            plain[HIDDEN] = to_plain(private)
        in_place = {k: before[k] for k in found if k in before and now[k] is self._first.get(k, _MISSING)}
        return Changes(plain, found, private, in_place)

    def undo_invalid(self) -> str | None:
        """Reset what does not validate, or is no data, to its last valid value. Returns what was wrong, for the model,
        or None."""
        if self._value is _MISSING:
            return None
        return self._undo_live() or self._undo_unfit()

    def _undo_live(self) -> str | None:
        """Reset what is no data: a client, a lock."""
        now, private = fields_of(self._value), private_of(self._value)
        found = {k: trouble(v, f"userdata.{k}") for k, v in {**now, **private}.items() if not isinstance(v, _SIMPLE)}
        wrong = {k: str(t) for k, t in found.items() if t is not None}
        if not wrong:
            return None
        self._reset([k for k in wrong if k in now])
        old = private_of(self._state["userdata"])
        set_private(self._value, {k: copy_of(old.get(k)) for k in wrong if k in private})
        for told in wrong.values():
            logger.error("not stored: %s", told)
        return "; ".join(wrong.values())

    def _reset(self, names: Iterable[str]) -> None:
        """Set fields back to their last valid values."""
        names = list(names)
        set_fields(self._value, {name: copy_of(self._valid[name]) for name in names if name in self._valid})
        if isinstance(self._value, dict):
            for name in names:
                if name not in self._valid:
                    del self._value[name]

    def _undo_unfit(self) -> str | None:
        now = fields_of(self._value)
        changed = {k: v for k, v in now.items() if k not in self._valid or not _same(self._valid[k], v)}
        if not changed:
            return None
        error = self._error(changed) if not isinstance(self._value, dict) else None
        if error is not None:
            at_fault = {str(e["loc"][0]) for e in error.errors() if e["loc"]}
            if not at_fault or at_fault & set(changed):
                self._reset(at_fault & set(changed) or changed)
                return explain(error)
        # A later invalid in-place change is reset to this copy.
        self._valid = {**self._valid, **{k: copy_of(v) for k, v in changed.items()}}
        return None

    def _error(self, changed: Mapping[str, Any]) -> ValidationError | None:
        kind = _bare(type(self._value))
        if issubclass(kind, BaseModel) and all(isinstance(v, _SIMPLE) for v in changed.values()):
            return None  # such a value can only have been assigned, and was validated then, with the whole model
        try:
            TypeAdapter(kind).validate_python(to_checkable(self._value), strict=False, by_alias=True, by_name=True)
        except ValidationError as error:
            return error
        except PydanticUserError:
            return None  # a dataclass with fields that pydantic can't judge: assignments were checked one by one
        return None


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    try:
        return _bare(type(a)) is _bare(type(b)) and bool(a == b)
    except Exception:  # an __eq__ that can't compare, as numpy's
        return False


def _checked_value(kind: type, name: str, check: TypeAdapter[Any], value: Any) -> Any:
    """The value as the field takes it. Raises the `ValidationError` that a pydantic model would raise."""
    try:
        return check.validate_python(value)
    except ValidationError as error:
        details = [{**e, "loc": (name, *e["loc"])} for e in error.errors(include_url=False)]
        hide = holds_secrets(kind)  # pydantic's text shows the input
        raise ValidationError.from_exception_data(kind.__name__, cast(Any, details), hide_input=hide) from None


_VALIDATING: ContextVar[frozenset[int]] = ContextVar("graph_voice_validating", default=frozenset())
"""The instances (by `id`) on which an assignment is being validated here."""
_BARE: dict[type, type] = {}
"""Checked class -> the user's."""


def _bare(kind: type) -> type:
    return _BARE.get(kind, kind)


def _checked(userdata: Any) -> Any:
    """The same object (not a copy), which now validates each assignment, whatever its class is configured to do."""
    kind = type(userdata)
    if isinstance(userdata, BaseModel) or dataclasses.is_dataclass(userdata):
        object.__setattr__(userdata, "__class__", _checked_class(cast(Any, kind)))
    return userdata


def _unchecked(instance: Any, kind: Any) -> Any:
    """A shallow copy with the user's own class, which can be pickled."""
    if isinstance(instance, BaseModel):
        plain = copy.copy(instance)
        object.__setattr__(plain, "__class__", kind)
        return plain
    plain = object.__new__(kind)
    for name, value in {**getattr(instance, "__dict__", {}), **fields_of(instance)}.items():
        object.__setattr__(plain, name, value)
    return plain


@functools.cache
def _checked_class(kind: type) -> type:
    frozen = kind.__dataclass_params__.frozen if dataclasses.is_dataclass(kind) else False  # type: ignore[attr-defined]

    def set_attribute(self: Any, name: str, value: Any) -> None:
        call = _assigning.get()
        if call is not None and call.over:
            raise TurnError(f"userdata.{name} was set after the tool call had been answered: nothing is stored.")
        if id(self) in _VALIDATING.get():
            # A model validator that sets fields itself: pydantic would validate each, and so call it again.
            set_fields(self, {name: value})
            return
        before = getattr(self, name, _MISSING)
        token = _VALIDATING.set(_VALIDATING.get() | {id(self)})
        try:
            if not isinstance(value, _SIMPLE):
                require_data(value, f"userdata.{name}")
            if name in checks:
                value = _checked_value(kind, name, checks[name], value)
            base.__setattr__(self, name, value)
        finally:
            _VALIDATING.reset(token)
        if call is not None:
            call.note(self, name, before, getattr(self, name))

    def equal(self: Any, other: Any) -> Any:
        return _bare(type(self)) is _bare(type(other)) and fields_of(self) == fields_of(other)

    def reduce(self: Any) -> Any:
        return copy.copy, (_unchecked(self, kind),)

    checks: dict[str, TypeAdapter[Any]] = {}
    namespace: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__setattr__": set_attribute,
        "__eq__": equal,
        "__hash__": kind.__hash__,
        "__reduce__": reduce,
    }
    if issubclass(kind, BaseModel):
        hide = bool(kind.model_config.get("hide_input_in_errors")) or holds_secrets(kind)
        namespace["model_config"] = {**kind.model_config, "validate_assignment": True, "hide_input_in_errors": hide}
    else:
        namespace["__slots__"] = ()
        hints = hints_of(cast(Any, kind))
        if not frozen:
            names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
            checks.update({n: adapter(hints.get(n, Any)) for n in names})
    base: Any = kind
    made = type(kind)(kind.__name__, (kind,), namespace)
    _BARE[made] = kind
    return made
