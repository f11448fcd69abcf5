"""The example sentences beside a graph: what `IntentRouter` answers from, and what a simulated caller says.

`graphs/customer_service.py` has its examples in `graphs/customer_service.examples.yaml`. The format is described in
docs/offline.md.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from graph_voice.errors import GraphVoiceError
from graph_voice.launch.loading import source_of
from graph_voice_livekit.offline.offers import OFFER, Offer, chosen, offers_in
from graph_voice_livekit.offline.slot_types import SLOT_TYPES, SlotValue
from graph_voice_livekit.offline.slots import PLACEHOLDER, compiled, fill, placeholders, texts_in
from graph_voice_livekit.offline.words import same_key

__all__ = ["AgentExamples", "Caller", "ExampleStep", "Examples", "ExamplesError", "Intent", "Reading", "Slot"]


class ExamplesError(GraphVoiceError, ValueError):
    """An examples file is missing, is not YAML, or holds something that the router can't use."""


@dataclass(frozen=True)
class Reading:
    """One place where a pattern matches some words."""

    start: int
    end: int
    slots: dict[str, SlotValue]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Sentences = Annotated[tuple[str, ...], BeforeValidator(_many)]


class Slot(_Model):
    """What kind of words a pattern's `{slot}` stands for."""

    type: Literal[
        "name",
        "integer",
        "count",
        "amount",
        "time",
        "date",
        "email",
        "phone",
        "digits",
        "choice",
        "regex",
        "words",
        "listed",
    ]
    regex: str | None = None
    """For the type `regex`: what the slot's text must match."""
    choices: dict[str, Sentences] = Field(default_factory=dict)
    """For the type `choice`: each value, and other words for it. The value's own words and a plural s count too."""
    minimum: int | None = None
    """For numbers: the least that is accepted. For the type `digits`: the least number of digits."""
    maximum: int | None = None
    default: str | int | float | None = None
    """The value where a pattern that matches has no such slot."""
    tool: str | None = None
    """For the type `listed`: the tool whose result lists what the caller may choose from."""
    line: str | None = None
    """For the type `listed`: a regex for one line of the result; its group `id` is the slot's value."""
    says: str | None = None
    """For the type `listed`: how one is said, by the groups of `line`: "{day} at {clock}"."""
    offered: tuple[Offer, ...] = Field(default=(), exclude=True, init=False)
    """What the tool has listed in this call. The router sets it."""
    question: str = Field(default="", exclude=True, init=False)
    """What the agent has said of it last. The router sets it."""
    asked: Sentences = ()
    """Words of a question that make a bare answer ("Ann.") an answer to it. Default: the slot's name."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_its_regex(self) -> Self:
        if (self.type == "regex") != (self.regex is not None):
            raise ValueError('a slot of type regex, and no other, has a regex: write {type: regex, regex: "..."}')
        if (self.type == "choice") != bool(self.choices):
            raise ValueError("a slot of type choice, and no other, has choices: write {type: choice, choices: {...}}")
        if (self.type == "listed") != bool(self.tool and self.line and self.says):
            raise ValueError(
                "a slot of type listed, and no other, has a tool, a line and what it says: write "
                '{type: listed, tool: list_times, line: "(?P<id>\\\\S+) (?P<time>.*)", says: "{time}"}'
            )
        if self.line and not {"id", *placeholders(self.says or "")} <= set(re.compile(self.line).groupindex):
            raise ValueError(
                f"the line {self.line!r} lacks a group: write (?P<id>...), and one for each slot of `says`"
            )
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ValueError(f"the regex {self.regex!r} is none: {error}; write a Python regex") from error
        return self

    @property
    def takes(self) -> str:
        """The name of its type, or the regex of what it takes."""
        if self.type == "listed":
            return OFFER
        if self.type != "choice":
            return self.regex or self.type
        words = sorted((self._plural(word) for word in self._values), key=len, reverse=True)
        return rf"\b(?i:{'|'.join(words)})\b"

    @property
    def _values(self) -> dict[str, str]:
        own = {key.replace("_", " ").lower(): key for key in self.choices}
        return own | {word.lower(): key for key, others in self.choices.items() for word in others}

    @staticmethod
    def _plural(word: str) -> str:
        return r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", word))) + ("" if word.endswith("s") else "(?:e?s)?")

    def value(self, text: str) -> SlotValue | None:
        """Return what `text` means in this slot, or None if it means nothing or is out of range."""
        text = text.strip(" .,!?;:")
        if self.type == "choice":
            return next(key for word, key in self._values.items() if re.fullmatch(f"(?i:{self._plural(word)})", text))
        if self.type == "listed":
            return chosen(self.offered, self.question, text)
        if self.type == "regex":
            return text
        value = SLOT_TYPES[self.type].value(text)
        size = value if not isinstance(value, str) else len(value.lstrip("+"))
        low, high = self.minimum, self.maximum
        if self.type == "phone":
            low, high = low or 7, high or 15
        elif self.type not in _MEASURED:
            return value
        fits = size is not None and (low or 0) <= size and (high is None or size <= high)
        return value if fits else None


_MEASURED = ("integer", "count", "amount", "digits")


class Intent(_Model):
    """Something that a caller may want from an agent, and what the router does about it."""

    name: str
    examples: Sentences = ()
    """Sentences that mean this. Ten different ones work better than thirty similar ones."""
    patterns: Sentences = ()
    """Sentences with slots; each place where one matches fills the slots."""
    asked: Sentences = ()
    """If there are any: it counts only when the agent's last words contain one of these ("right" for "Yes.")."""
    tool: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    """The tool's arguments, slots at any depth. `"{age}"` alone keeps its type; in a longer text it becomes text."""
    several: bool = False
    """Whether two different matches are two tool calls. Otherwise they are one, or none if they contradict."""
    times: str | None = None
    """A slot with a number, "{count}": as many tool calls."""
    adds: bool = False
    """Whether "one more", "also" and the like put a list behind that of the tool's last call, which is not replaced."""
    say: Sentences = ()
    """What is said before the tool is called."""
    reply: Sentences = ()
    """The answer; if there is a tool, the answer when it can't be called."""

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if not (self.examples or self.patterns):
            raise ValueError(f"intent {self.name!r} has neither examples nor patterns: write `examples: [...]`")
        if not (self.tool or self.reply):
            raise ValueError(f"intent {self.name!r} does nothing: write `tool: name` or `reply: [...]`")
        if (self.args or self.say) and not self.tool:
            raise ValueError(f"intent {self.name!r} has `args` or `say` but no tool: write `tool: name`")
        if missing := self.slots - placeholders(" ".join(self.patterns)):
            raise ValueError(
                f"intent {self.name!r} wants {_listed(missing)} in `args`, which none of its patterns fills: "
                f'write `patterns: ["... {{{min(missing)}}} ..."]`'
            )
        return self

    @property
    def slots(self) -> frozenset[str]:
        """The slots that the tool's arguments need."""
        return placeholders(" ".join(texts_in(self.args)))

    def call_args(self, slots: Mapping[str, SlotValue]) -> dict[str, Any] | None:
        """Return the tool's arguments, or None if one of the slots that they need is not in `slots`."""
        if not self.slots <= slots.keys():
            return None
        return {key: fill(value, slots) for key, value in self.args.items()}


class AgentExamples(_Model):
    """What one agent of a graph says and understands."""

    enter: Sentences = Field(min_length=1)
    instructions: Sentences = ()
    intents: tuple[Intent, ...] = ()
    after: dict[str, Sentences] = Field(default_factory=dict)
    error: Sentences = ("I'm sorry, that did not work. Is there something else I can do?",)
    fallback: Sentences = Field(min_length=1)

    @property
    def tools(self) -> frozenset[str]:
        """The tools that this agent's intents call."""
        return frozenset(intent.tool for intent in self.intents if intent.tool)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        names = [intent.name for intent in self.intents]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two intents are called {_listed(twice)}: give each a name of its own")
        meant: dict[tuple[str, ...], Intent] = {}
        for intent in self.intents:
            for sentence in intent.examples:
                other = meant.setdefault(same_key(sentence), intent)
                if other is not intent and not (other.asked or intent.asked):
                    raise ValueError(
                        f"{sentence!r} is an example of two intents, {other.name!r} and {intent.name!r}: "
                        "leave it to one of them, or write `asked: [...]`, the question's words, where it is an answer"
                    )
        for tool in sorted(self.tools - self.after.keys()):
            if not tool.startswith("transfer_to_"):
                raise ValueError(f'tool {tool!r} has no reply to its result: write `after: {{{tool}: ["{{output}}"]}}`')
        lists = {"enter": self.enter, "error": self.error, "fallback": self.fallback}
        lists |= {f"after.{tool}": sentences for tool, sentences in self.after.items()}
        lists |= {f"intents.{intent.name}.reply": intent.reply for intent in self.intents}
        lists |= {f"intents.{intent.name}.say": intent.say for intent in self.intents}
        for place, sentences in lists.items():
            free = {"output"} if place.startswith("after.") else set()
            if sentences and all(placeholders(sentence) - free for sentence in sentences):
                raise ValueError(f"each sentence of `{place}` has a slot: write one without, for when it is unknown")
        return self


class ExampleStep(_Model):
    """What a simulated caller says next."""

    say: Sentences = Field(min_length=1)
    """Ways to say it; one is chosen."""
    interrupts: bool = False
    """Whether it is said while the agent speaks, instead of afterwards."""
    expect_handoff: str | None = None
    """The agent that should be active after this."""
    end: bool = False
    """Whether the caller hangs up after the answer to this."""


class Caller(_Model):
    """A simulated caller: for each agent, what is said in order while that agent is active."""

    steps: dict[str, tuple[ExampleStep, ...]]


class Examples(_Model):
    """An examples file (the format is in this module's docstring)."""

    about: str = ""
    slots: dict[str, Slot] = Field(default_factory=dict)
    outside: Sentences = ()
    agents: dict[str, AgentExamples] = Field(min_length=1)
    caller: Caller | None = None
    source: str = Field(default="these examples", exclude=True)
    """The file, for messages. Set by `load`."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a file. `graphs/x.py` (or `graphs/x.py:graph`) means `graphs/x.examples.yaml`, a folder
        `graphs/x` means `graphs/x/graph.examples.yaml`.

        Raises `ExamplesError`, which names the file, the section, and what to write instead.
        """
        path = Path(re.sub(r"\.py$", ".examples.yaml", source_of(str(path))))
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ExamplesError(
                f"{path}: can't be read ({error.strerror}). Write the example sentences of the graph there, "
                "in the format that docs/offline.md describes."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ExamplesError(
                f"{path}: is not YAML: {error}. Put sentences with a colon, or with a ? in brackets, in quotes."
            ) from error
        if not isinstance(data, dict):
            raise ExamplesError(f"{path}: holds no sections. Write `agents:` with a section for each agent.")
        try:
            return cls.model_validate({**data, "source": str(path)})
        except ValidationError as error:
            raise ExamplesError(f"{path}: " + "; ".join(_complaints(error, data))) from error

    @model_validator(mode="after")
    def _names_what_exists(self) -> Self:
        for name, agent in self.agents.items():
            spoken = [p for intent in agent.intents for p in intent.patterns]
            for pattern in [*spoken, *agent.instructions]:
                for slot, kind in PLACEHOLDER.findall(pattern):
                    where = f"agents.{name}: the pattern {pattern!r} has"
                    if slot not in self.slots:
                        raise ValueError(
                            f"{where} an undeclared slot: write `slots: {{{slot}: name}}`, or another type"
                        )
                    if kind and kind not in SLOT_TYPES:
                        raise ValueError(f"{where} the type {kind!r}: write one of {_listed(SLOT_TYPES)}")
                    if "words" in (kind, self.slots[slot].type) and pattern in spoken:
                        raise ValueError(
                            f"{where} a slot that takes any words, so it would act on what it did not understand: "
                            f"give the slot {slot!r} a type, such as {_listed(SLOT_TYPES.keys() - {'words'})}"
                        )
        for name, steps in self.caller.steps.items() if self.caller else ():
            for target in {name, *(step.expect_handoff or name for step in steps)} - self.agents.keys():
                raise ValueError(f"caller.steps.{name}: {target!r} is no agent: write one of {_listed(self.agents)}")
        return self

    def offering(self, results: Mapping[str, str], question: str) -> Self:
        """The same, with what the tools have listed: `results` are the latest of each tool."""
        listed = {
            name: slot.model_copy(
                update={"offered": offers_in(results[slot.tool], slot.line, slot.says), "question": question}
            )
            for name, slot in self.slots.items()
            if slot.tool in results and slot.tool and slot.line and slot.says
        }
        return self.model_copy(update={"slots": self.slots | listed}) if listed else self

    def find(self, pattern: str, text: str) -> Iterator[Reading]:
        """Find each place of `text` that `pattern` matches."""
        regex = compiled(pattern, tuple((name, slot.takes) for name, slot in self.slots.items()))
        for found in regex.finditer(text):
            values = {name: self.slots[name].value(words) for name, words in found.groupdict().items()}
            known = {name: value for name, value in values.items() if value is not None}
            if len(known) == len(values):
                yield Reading(found.start(), found.end(), self.defaults | known)

    def read(self, pattern: str, text: str) -> dict[str, SlotValue] | None:
        """Return the slots of the first place where `pattern` matches `text`, or None if it does not match."""
        return next((found.slots for found in self.find(pattern, text)), None)

    @cached_property
    def internal_names(self) -> frozenset[str]:
        """The names of agents and tools that are no words: nobody should hear them."""
        names = {*self.agents, *(tool for agent in self.agents.values() for tool in agent.tools | agent.after.keys())}
        return frozenset(name for name in names if "_" in name)

    @cached_property
    def defaults(self) -> dict[str, SlotValue]:
        """The slots that have a value anyway."""
        return {name: slot.default for name, slot in self.slots.items() if slot.default is not None}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _complaints(error: ValidationError, data: Any) -> list[str]:
    """Tell for each fault in which section it is and what to write."""
    keys = {key for model in (Examples, Slot, AgentExamples, Intent, Caller, ExampleStep) for key in model.model_fields}
    found = []
    for fault in error.errors():
        hint, inner = fault["msg"].removeprefix("Value error, "), data
        place: list[str] = []
        for key in fault["loc"]:
            nested = dict(enumerate(inner)) if isinstance(inner, list) else inner
            inner = nested.get(key) if isinstance(nested, dict) else None
            name = inner.get("name", key) if isinstance(inner, dict) and isinstance(key, int) else key
            place.append(str(name))
        if fault["type"] == "extra_forbidden":
            close = difflib.get_close_matches(place[-1], keys, n=1)
            hint = f"is no key here; write {f'`{close[0]}`' if close else 'one that docs/offline.md lists'}"
        elif fault["type"] in ("missing", "too_short"):
            hint = f"is missing or empty; write `{place[-1]}:` with at least one entry"
        elif fault["type"] == "string_type":
            hint = "is not text; write it in quotes (a brace, a colon or a bare yes means more in YAML)"
        found.append(f"{'.'.join(place)}: {hint}" if place else hint)
    return found
