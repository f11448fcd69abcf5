"""What is known to be secret, found by its value wherever it turns up: in results, errors, artifacts, an agent's words.

A number is found in whatever grouping, in digits or in words: six of its digits in a row are enough.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, ValidationError

from graph_voice.secrets.dates import dates_in, ways_to_write
from graph_voice.secrets.numbers import blunt_runs, digits_of, head_of, numbers_in
from graph_voice.secrets.spoken import digits_said, masked_places, redacted_digits, taken, texts_of
from graph_voice.secrets.values import MASK, SHORTEST, Misplaced, Redacted, is_secret, secret_texts

__all__ = ["NOTHING", "Known", "everything", "known_here", "known_of", "without_input"]

E = TypeVar("E", bound=BaseException)
_DEEP = 64
"""How deep containers are searched."""
_ESCAPED = re.compile(r"(?:\\{1,8}u[0-9a-fA-F]{4}[\W_]{0,8}?){5,}\\{1,8}u[0-9a-fA-F]{4}")
"""Digits of another script, as JSON escapes them."""
_SHORT_TEXT = 40
"""Characters of the longest text that may be one piece of a number that is torn into several."""
_LARGEST = 10**40
"""Larger integers are no number that anybody says, and take long to print."""


class Known:
    """Secrets that are known by their value.

    Args:
        secrets: their texts. Those of fewer than 6 characters are left out: they occur by chance.
        digits: digits that the caller has said to an agent that takes secrets, one behind the other.
    """

    def __init__(self, secrets: Iterable[str] = (), digits: str = "") -> None:
        self.secrets = sorted({s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True)
        self.digits = digits

    def __bool__(self) -> bool:
        return bool(self.secrets) or len(self.digits) >= SHORTEST

    def and_also(self, secrets: Iterable[str]) -> "Known":
        """These, and others."""
        more = [*secrets]
        return Known([*self.secrets, *more], self.digits) if more else self

    # ---- texts

    def text(self, text: str) -> str:
        """A text without them; the same object if it has none."""
        if not self or isinstance(text, Redacted):
            return text
        made = self._pattern.sub(MASK, text) if self._pattern is not None else text
        if self._parts or self._ways:
            made = masked_places(made, self._places(made))
        return text if made == text else made

    @functools.cached_property
    def _parts(self) -> frozenset[str]:
        """All runs of six digits in them."""
        numbers = [d for s in self.secrets if (d := re.sub(r"[\s/.,_-]", "", s)).isdecimal()]
        runs = [digits_of(number) for number in (*numbers, self.digits)]
        return frozenset(run[i : i + SHORTEST] for run in runs for i in range(len(run) - SHORTEST + 1))

    @functools.cached_property
    def _ways(self) -> frozenset[tuple[int | None, str]]:
        """How the dates among them may be said."""
        return frozenset(way for secret in self.secrets for way in ways_to_write(secret) if len(way[1]) > 2)

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        forms: list[str] = []
        for secret in self.secrets:
            # As it is, and as it is escaped in JSON.
            forms += dict.fromkeys((secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]))
        return re.compile("|".join(map(re.escape, forms)), re.IGNORECASE) if forms else None

    def _has(self, digits: str) -> bool:
        windows = len(digits) - SHORTEST + 1
        if windows <= 0:
            return False
        if windows > len(self._parts):
            return any(part in digits for part in self._parts)
        return any(digits[i : i + SHORTEST] in self._parts for i in range(windows))

    def _places(self, text: str) -> Sequence[tuple[int, int]]:
        head = head_of(text)
        shown = text[:head]
        places = [
            (number.start, number.end)
            for number in numbers_in(shown)
            if any(self._has(said) or (None, said) in self._ways for said in number.readings)
        ]
        if self._ways:
            places += [(date.start, date.end) for date in dates_in(shown) if (date.month, date.digits) in self._ways]
        for run in _ESCAPED.finditer(text):
            letters = (chr(int(code, 16)) for code in re.findall(r"u([0-9a-fA-F]{4})", run.group()))
            if self._has(digits_of("".join(letters))):
                places.append(run.span())
        return places + [
            (head + start, head + end)
            for start, end, digits in blunt_runs(text[head:], SHORTEST)
            if not digits or self._has(digits)
        ]

    # ---- anything else

    def value(self, value: Any, *, keep: bool = False, deep: int = _DEEP) -> Any:
        """A value without them, at any depth; the same object if it has none.

        Args:
            value: what may hold some.
            keep: whether what is masked can still be read in this process, by the tool that gets it.
            deep: how deep it is searched.
        """
        if not self or value is None or isinstance(value, bool | Redacted) or is_secret(value) or deep <= 0:
            return value
        if isinstance(value, str):
            text = self.text(value)
            return value if text is value else _kept(value, text) if keep else text
        if isinstance(value, int | float):
            return (_kept(value, MASK) if keep else MASK) if self._has(_digits_of(value)) else value
        if isinstance(value, Mapping):
            pairs = [(k, v, self.value(v, keep=keep, deep=deep - 1)) for k, v in self.torn(value, keep).items()]
            made = {self.value(k, keep=keep, deep=1) if isinstance(k, str | int) else k: new for k, _, new in pairs}
            same = len(made) == len(value) and all(
                k is old and new is value[old] for (k, new), old in zip(made.items(), value, strict=True)
            )
            return value if same else made
        if isinstance(value, list | tuple | set | frozenset):
            whole = dict(enumerate(value))
            items = [self.value(item, keep=keep, deep=deep - 1) for item in self.torn(whole, keep).values()]
            if all(new is old for new, old in zip(items, whole.values(), strict=True)):
                return value
            return (getattr(type(value), "_make", None) or type(value))(items)
        if isinstance(value, bytes):
            shown = self.text(decoded := value.decode(errors="replace"))
            return value if shown is decoded else shown.encode()
        return self._object(value, deep)

    def torn(self, container: Mapping[Any, Any], keep: bool = False) -> Mapping[Any, Any]:
        """A container in which a number that is torn into several short items is masked."""
        short = {k: d for k, v in container.items() if _is_short(v) and (d := _digits_of(v))}
        if len(short) < 2:
            return container
        masked, at, joined = set[Any](), 0, "".join(short.values())
        if self._has(joined):
            for key, digits in short.items():
                first, at = max(at - SHORTEST + 1, 0), at + len(digits)
                if self._has(joined[first : at + SHORTEST - 1]):
                    masked.add(key)
        masked |= self._torn_words({k: container[k] for k in short})
        return {k: (_kept(v, MASK) if keep else MASK) if k in masked else v for k, v in container.items()}

    def _torn_words(self, items: Mapping[Any, Any]) -> set[Any]:
        """The items that are the words of a number, one by one: "forty", "one", "eleven"."""
        if not any(isinstance(item, str) and item.isalpha() for item in items.values()):
            return set()
        ends, said = dict[Any, int](), ""
        for key, item in items.items():
            said += f"{item} "
            ends[key] = len(said)
        places = self._places(said)
        return {k for k, end in ends.items() if any(a < end <= b + 1 or a < end - 1 <= b for a, b in places)}

    def _object(self, value: Any, deep: int) -> Any:
        if isinstance(value, BaseMessage):
            return self.message(value)
        if isinstance(value, BaseException):
            return self.error(value)
        if isinstance(value, BaseModel):
            changed = {k: new for k, v in value.__dict__.items() if (new := self.value(v, deep=deep - 1)) is not v}
            return value.model_copy(update=changed) if changed else value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            changed = {k: new for k, v in found.items() if (new := self.value(v, deep=deep - 1)) is not v}
            return dataclasses.replace(value, **changed) if changed else value
        return value

    def message(self, message: Any) -> Any:
        """A message without them, also in its artifact, its tool calls, and what the provider has added."""
        changed: dict[str, Any] = {}
        for name in ("content", "artifact", "additional_kwargs", "response_metadata", "tool_calls"):
            found = getattr(message, name, None)
            if found and (new := self.value(found)) is not found:
                changed[name] = new
        return message.model_copy(update=changed) if changed else message

    # ---- errors

    def error(self, error: E) -> E:
        """The same error without them: its text, its attributes, its causes. One that can't be changed is replaced."""
        return cast(E, self._error(error, set())) if self else error

    def _error(self, error: BaseException, seen: set[int]) -> BaseException:
        if id(error) in seen:
            return error
        seen.add(id(error))
        cause, context, hidden = error.__cause__, error.__context__, error.__suppress_context__
        try:
            for name, found in [("args", error.args), *getattr(error, "__dict__", {}).items()]:
                inside = isinstance(found, BaseException)
                new = self._error(found, seen) if inside else self.value(found)
                if new is not found:
                    setattr(error, name, new)
            inner = [self._error(one, seen) is one for one in getattr(error, "exceptions", ())]
            same = all(inner) and self._is_clean(error)
        except Exception:  # its class does not let it be changed, or printed
            same = False
        made = error if same else self._replaced(error)
        made.__cause__ = self._error(cause, seen) if cause is not None else None
        made.__context__ = self._error(context, seen) if context is not None else None
        made.__suppress_context__ = hidden
        return made

    def _is_clean(self, error: BaseException) -> bool:
        printed = f"{error} {error!r}"
        return self.text(printed) == printed

    def _replaced(self, error: BaseException) -> BaseException:
        if isinstance(error, ValidationError) and self._is_clean(made := without_input(error)):
            return made.with_traceback(error.__traceback__)
        try:
            told = self.text(str(error))
        except Exception:
            told = "its text can't be printed"
        return RuntimeError(f"{type(error).__name__}: {told}").with_traceback(error.__traceback__)


NOTHING = Known()
known_here: ContextVar[Known] = ContextVar("graph_voice_known_secrets", default=NOTHING)
"""What is known to be secret where a tool runs."""


def known_of(messages: Iterable[BaseMessage], userdata: Any = None, *, open_words: bool = False) -> Known:
    """What is known to be secret in a conversation, to an agent that takes secrets.

    Args:
        messages: the conversation. Its redacted words and arguments are known within this process only.
        userdata: whose secrets are known too.
        open_words: whether the caller's words were never redacted (a run without a `Conversation`), so that all numbers
            in them may be secrets.
    """
    secrets = set(secret_texts(userdata))
    digits: list[str] = []
    for message in messages:
        if isinstance(message, HumanMessage):
            digits.append(redacted_digits(message))
            if open_words:
                digits += [digits_said(text) for text in texts_of(message) if not isinstance(text, Redacted)]
        elif isinstance(message, AIMessage):
            for call in message.tool_calls:
                secrets.update(taken(call["args"]))
    return Known(secrets, "".join(digits))


def everything(value: Any, deep: int = _DEEP) -> Any:
    """A value in which all is masked, but for names, yes and no: it stands where no tool needs it."""
    if value is None or isinstance(value, bool | Redacted) or is_secret(value):
        return value
    if isinstance(value, Mapping) and deep:
        return {k: everything(v, deep - 1) for k, v in value.items()}
    if isinstance(value, list | tuple) and deep:
        return [everything(item, deep - 1) for item in value]
    return _kept(value, MASK) if value != MASK else value


def without_input(error: ValidationError) -> ValidationError:
    """A validation error that does not show the wrong value, only what is wrong with it."""
    details: Any = error.errors(include_url=False)
    return ValidationError.from_exception_data(error.title, details, hide_input=True)


def _kept(value: Any, shown: str) -> Redacted:
    return Redacted(Misplaced(value), shown)


def _is_short(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (
        isinstance(value, str) and not isinstance(value, Redacted) and len(value) <= _SHORT_TEXT
    )


def _digits_of(value: Any) -> str:
    """The digits of a number, or of a text that is nothing but one, in digits or in words."""
    if isinstance(value, float):
        return digits_of(f"{value:.0f}" if "e" in repr(value) else repr(value))
    if isinstance(value, int):
        return str(abs(value)) if abs(value) < _LARGEST else ""
    if not any(c.isalpha() for c in value):
        return digits_of(value)
    found = numbers_in(value)
    return found[0].readings[0] if len(found) == 1 and len(value.strip()) == found[0].end - found[0].start else ""
