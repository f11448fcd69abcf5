"""The functions that a script for a model is written with: `say`, `call`, `fail`, `hang`."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from graph_voice.errors import GraphVoiceError
from graph_voice.testing.prompts import render_prompt

__all__ = ["Script", "ScriptEntry", "ScriptError", "ScriptedReply", "ScriptedToolCall", "call", "fail", "hang", "say"]


@dataclass(frozen=True)
class ScriptedToolCall:
    """One tool call of a scripted reply."""

    name: str
    args: str
    """The arguments as JSON text."""
    id: str | None = None
    unknown: bool = False


@dataclass(frozen=True)
class ScriptedReply:
    """One scripted reply of a model. Made by `say`, `call`, `fail` and `hang`."""

    text: str = ""
    calls: tuple[ScriptedToolCall, ...] = ()
    first_token: float | None = None
    """Seconds before the first token. None: the model's own setting."""
    per_token: float | None = None
    """Seconds between two tokens. None: the model's own setting."""
    error: BaseException | None = None
    after_tokens: int | None = None
    """The number of tokens after which the error is raised, or after which nothing more comes."""
    hangs: bool = False
    usage: tuple[int, int] | None = None
    """Input and output tokens to report. None: words are counted."""

    @property
    def tokens(self) -> list[str]:
        """The words of the text, each with the space before it. Joined, they are the text."""
        tokens = re.findall(r"\s*\S+|\s+", self.text)
        return tokens if self.after_tokens is None else tokens[: self.after_tokens]


ScriptEntry: TypeAlias = "ScriptedReply | ScriptedToolCall | str | BaseException"
"""A scripted reply: text, or what `say`, `call`, `fail`, `hang` return, or an exception to raise at once."""

Rule: TypeAlias = "tuple[str | re.Pattern[str], ScriptEntry | Sequence[ScriptEntry]]"
Script: TypeAlias = (
    "Sequence[ScriptEntry] | Sequence[Rule] | Callable[[list[BaseMessage]], ScriptEntry] | Mapping[str, Script]"
)


class ScriptError(GraphVoiceError, AssertionError):
    """A scripted model was asked for more, or for something else, than its script holds."""


def say(
    *parts: str | ScriptedToolCall,
    first_token: float | None = None,
    per_token: float | None = None,
    usage: tuple[int, int] | None = None,
) -> ScriptedReply:
    """Say text, then call tools: `say("One moment.", call("look_up", {"id": 3}), call("weather"))`.

    Args:
        parts: text and tool calls. Several tool calls are one batch.
        first_token: seconds before the first token.
        per_token: seconds between two tokens.
        usage: input and output tokens to report.
    """
    texts = [part for part in parts if isinstance(part, str)]
    calls = tuple(part for part in parts if isinstance(part, ScriptedToolCall))
    if any(isinstance(later, str) for later in parts[len(texts) :]):
        raise TypeError("say() takes the text first, then the calls: no provider streams text after its tool calls.")
    return ScriptedReply("".join(texts), calls, first_token, per_token, usage=usage)


def call(
    name: str, args: Mapping[str, Any] | str | None = None, *, id: str | None = None, unknown: bool = False
) -> ScriptedToolCall:
    """Call a tool.

    Args:
        name: the tool's name.
        args: its arguments, or their JSON text (which may be broken, as models' JSON sometimes is).
        id: the tool call's id. Default: `call_1`, `call_2`, ... in the order in which a model makes them.
        unknown: allow a tool that the model was not given, as a confused model may call. Otherwise that is
            an error.
    """
    return ScriptedToolCall(name, args if isinstance(args, str) else json.dumps(dict(args or {})), id, unknown)


def fail(
    error: BaseException,
    after_tokens: int = 0,
    *,
    text: str | None = None,
    first_token: float | None = None,
    per_token: float | None = None,
) -> ScriptedReply:
    """Raise an error, before the first token or after some.

    Args:
        error: what the model raises.
        after_tokens: the number of tokens that come before it.
        text: the text that the tokens are taken from. Default: "1 2 3 ...".
        first_token: seconds before the first token, or before an error that comes instead of it.
        per_token: seconds between two tokens.
    """
    line = _cut("fail", text, after_tokens)
    return replace(line, error=error, first_token=first_token, per_token=per_token)


def hang(after_tokens: int = 0, *, text: str | None = None) -> ScriptedReply:
    """Never say anything more, at once or after some tokens: a provider that has stalled."""
    return replace(_cut("hang", text, after_tokens), hangs=True)


def _cut(name: str, text: str | None, after_tokens: int) -> ScriptedReply:
    counted = " ".join(map(str, range(1, after_tokens + 1)))
    line = ScriptedReply(counted if text is None else text, after_tokens=after_tokens)
    if len(line.tokens) < after_tokens:
        raise ValueError(
            f"{name}(after_tokens={after_tokens}) needs a longer text: {text!r} has {len(line.tokens)} tokens."
        )
    return line


def as_reply(entry: object) -> ScriptedReply:
    """The reply that an entry of a script stands for."""
    match entry:
        case ScriptedReply():
            return entry
        case ScriptedToolCall():
            return ScriptedReply(calls=(entry,))
        case str():
            return ScriptedReply(entry)
        case asyncio.CancelledError():
            raise TypeError("A script can't raise CancelledError: cancel the task that runs the model instead.")
        case BaseException():
            return ScriptedReply(error=entry, after_tokens=0)
    raise TypeError(
        f"A script holds text, say(...), call(...), fail(...), hang(...) or an exception, not {entry!r}. "
        "A tool call with text is say('text', call('tool', {...}))."
    )


class Reader:
    """Reads one script: keeps the place in a list, finds the rule that fits, or asks the function."""

    def __init__(self, script: Any, owner: str) -> None:
        self._owner = owner
        self._script = script
        self._place = 0
        self._rules: list[tuple[re.Pattern[str], list[ScriptedReply]]] | None = None
        if callable(script):
            return
        entries = list(script)
        if any(isinstance(entry, tuple) for entry in entries):
            self._rules = [_rule(entry) for entry in entries]
        else:
            self._script = [as_reply(entry) for entry in entries]

    def next(self, messages: list[BaseMessage]) -> ScriptedReply:
        """Return the reply to this prompt."""
        if callable(self._script):
            return as_reply(self._script(messages))
        if self._rules is not None:
            return self._by_rule(self._rules, messages)
        if self._place == len(self._script):
            raise ScriptError(
                f"The script of {self._owner} has {self._place} replies, and one more was asked for. "
                f"It was given:\n{render_prompt(messages, last=6)}"
            )
        self._place += 1
        line: ScriptedReply = self._script[self._place - 1]
        return line

    def _by_rule(
        self, rules: list[tuple[re.Pattern[str], list[ScriptedReply]]], messages: list[BaseMessage]
    ) -> ScriptedReply:
        humans = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
        human = humans[-1] if humans else -1
        text = messages[human].text if human >= 0 else ""
        step = sum(isinstance(message, AIMessage) for message in messages[human + 1 :])
        for pattern, lines in rules:
            if pattern.search(text) is None:
                continue
            if step < len(lines):
                return lines[step]
            raise ScriptError(
                f"The rule {pattern.pattern!r} of {self._owner} has {len(lines)} steps, and this is step "
                f"{step + 1} after the human's message:\n{render_prompt(messages, last=6)}"
            )
        raise ScriptError(
            f"No rule of {self._owner} fits {text!r}. The patterns are {[p.pattern for p, _ in rules]}. "
            f"It was given:\n{render_prompt(messages, last=6)}"
        )


def _rule(entry: object) -> tuple[re.Pattern[str], list[ScriptedReply]]:
    if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str | re.Pattern)):
        raise TypeError(f"A list of rules holds (pattern, reply or list of replies) only, not {entry!r}.")
    pattern, replies = entry
    lines = [as_reply(reply) for reply in (replies if isinstance(replies, list | tuple) else [replies])]
    return re.compile(pattern, re.IGNORECASE) if isinstance(pattern, str) else pattern, lines
