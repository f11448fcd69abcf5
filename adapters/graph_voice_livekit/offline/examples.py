"""The example sentences beside a graph: what `IntentRouter` answers from, and what a simulated caller says.

`graphs/customer_service.py` has its examples in `graphs/customer_service.examples.yaml`:

```yaml
about: Acorn Broadband, a fictional internet provider.   # for the reader only
slots:                        # what a pattern may take from the caller's words
  name: name                  # words that begin with a capital, at most three
  age: {type: integer, minimum: 1, maximum: 120, asked: [age, old]}
  city: words                 # at most four words, up to a comma, a stop, "and", "but"...
  code: {type: regex, regex: "[A-Z]{2}[0-9]"}
outside:                      # what no intent is for: sentences like these get a `fallback`
  - What is the weather like?
agents:
  billing:                    # the agent's name = its node in the graph
    enter:                    # first reply, or a reply that is not an answer to the caller
      - Hello {name}, you are through to billing.
      - You are through to billing.
    instructions:             # patterns that read slots from a reply's instructions, which are not followed
      - "greet {name} by name"
    intents:
      - name: balance         # an intent calls a tool (and may `say` something first)...
        examples: ["How much do I owe?", "When is my bill due?"]
        tool: look_up_balance
        say: [Let me look.]
      - name: gives_age       # ...with arguments from slots...
        patterns: ["I'm {age}", "I'm {age} years old", "{age}"]
        examples: [I would rather tell you how old I am.]
        tool: record_age
        args: {age: "{age}"}
        reply: ["How old are you?"]       # if the tool is not bound now, or a slot is missing
      - name: hours           # ...or answers
        examples: ["When are you open?"]
        reply: [We are open all day.]
    after:                    # reply to a tool's result; {output} is the result as a sentence
      look_up_balance: ["{output} Anything else?"]
      record_age: [Thank you.]
    error: [Sorry, that did not work.]  # reply to a failed tool; its text is never spoken
    fallback: [Sorry, I can help with bills only.]
caller:                       # a simulated caller, for demos; each agent's steps are said in order
  steps:
    billing:
      - say: ["How much do I owe?", "What is my balance?"]
      - say: ["Wait, which day was that?"]
        interrupts: true      # said while the agent answers the step before (or greets)
      - say: [Goodbye.]
        end: true
```

The router's seed chooses one of several sentences, from those that use the most known slots, so each list needs one
sentence without slots. Slots come from the caller's words, from the arguments of earlier tool calls and from
`instructions`. A pattern may give the type of a slot itself (`"my name is {name:words}"`). A pattern that is just
one slot (`"{age}"`) is the answer to a question; it counts only if the agent's last words contain one of the slot's
`asked` words (by default the slot's name). `'m`, `'s` also match " am" and " is".
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from graph_voice.errors import GraphVoiceError
from graph_voice.launch.loading import source_of
from graph_voice_livekit.offline.slots import (
    PLACEHOLDER,
    SLOT_TYPES,
    SlotValue,
    compiled,
    fill,
    is_bare,
    placeholders,
    spoken_integer,
    texts_in,
)

__all__ = ["AgentExamples", "Caller", "ExampleStep", "Examples", "ExamplesError", "Intent", "Slot"]


class ExamplesError(GraphVoiceError, ValueError):
    """An examples file is missing, is not YAML, or holds something that the router can't use."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Sentences = Annotated[tuple[str, ...], BeforeValidator(_many)]


class Slot(_Model):
    """What kind of words a pattern's `{slot}` stands for."""

    type: Literal["words", "name", "integer", "regex"] = "words"
    regex: str | None = None
    """For the type `regex`: what the slot's text must match."""
    minimum: int | None = None
    """For the type `integer`: the least number that is accepted."""
    maximum: int | None = None
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
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ValueError(f"the regex {self.regex!r} is none: {error}; write a Python regex") from error
        return self

    def value(self, text: str) -> SlotValue | None:
        """Return what `text` means in this slot, or None if it is not a number or out of range."""
        text = text.strip(" .,!?;:")
        if self.type != "integer":
            return text.title() if self.type == "name" and text.islower() else text
        number = spoken_integer(text)
        if number is None or number < (self.minimum or 0):
            return None
        return number if self.maximum is None or number <= self.maximum else None


class Intent(_Model):
    """Something that a caller may want from an agent, and what the router does about it."""

    name: str
    examples: Sentences = ()
    """Sentences that mean this. Ten different ones work better than thirty similar ones."""
    patterns: Sentences = ()
    """Sentences with slots; the first that matches fills the slots."""
    tool: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    """The tool's arguments, slots at any depth. `"{age}"` alone keeps its type; in a longer text it becomes text."""
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
                f"in the format of the docstring of {__name__}."
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
            for pattern in [*(p for intent in agent.intents for p in intent.patterns), *agent.instructions]:
                for slot, kind in PLACEHOLDER.findall(pattern):
                    where = f"agents.{name}: the pattern {pattern!r} has"
                    if slot not in self.slots:
                        raise ValueError(f"{where} an undeclared slot: write `slots: {{{slot}: words}}`")
                    if kind and kind not in SLOT_TYPES:
                        raise ValueError(f"{where} the type {kind!r}: write one of {_listed(SLOT_TYPES)}")
        for name, steps in self.caller.steps.items() if self.caller else ():
            for target in {name, *(step.expect_handoff or name for step in steps)} - self.agents.keys():
                raise ValueError(f"caller.steps.{name}: {target!r} is no agent: write one of {_listed(self.agents)}")
        return self

    def read(self, pattern: str, text: str) -> dict[str, SlotValue] | None:
        """Return the slots that `pattern` finds in `text`, or None if it does not match."""
        regex = compiled(pattern, tuple((name, slot.regex or slot.type) for name, slot in self.slots.items()))
        for part in re.findall(r"[^.,!?;]+(?=[.,!;]|$)", text) if is_bare(pattern) else [text]:
            if found := regex.fullmatch(part.strip()) if is_bare(pattern) else regex.search(part):
                values = {name: self.slots[name].value(words) for name, words in found.groupdict().items()}
                known = {name: value for name, value in values.items() if value is not None}
                if len(known) == len(values):
                    return known
        return None


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
            hint = f"is no key here; write {f'`{close[0]}`' if close else f'one that {__name__} lists'}"
        elif fault["type"] in ("missing", "too_short"):
            hint = f"is missing or empty; write `{place[-1]}:` with at least one entry"
        elif fault["type"] == "string_type":
            hint = "is not text; write it in quotes (a brace, a colon or a bare yes means more in YAML)"
        found.append(f"{'.'.join(place)}: {hint}" if place else hint)
    return found
