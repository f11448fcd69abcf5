"""Scenarios of simulated callers, in LiveKit's format, and what graph_voice adds to it."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from graph_voice.errors import GraphVoiceError

__all__ = ["OWN", "Expected", "Moves", "Scenario", "ScenarioError", "Setup", "load_scenarios", "named"]

OWN = "graph_voice"
"""The key in a scenario's userdata that holds what graph_voice adds. LiveKit passes it on, as all userdata."""


class ScenarioError(GraphVoiceError, ValueError):
    """A file of scenarios, or what it says of a graph, can't be used."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Model):
    """How a call must end."""

    userdata: dict[str, Any] = Field(default_factory=dict)
    """Fields of the userdata and their values, as JSON; nested objects may name some of their fields only."""
    active_agent: str | None = None
    tools: dict[str, int] = Field(default_factory=dict)
    """Tool -> how many times it, or its mock, must have acted."""


class Moves(_Model):
    """One step of a caller that is a script. Exactly one of `say`, `silence` and `hang_up`."""

    say: str | None = None
    cut_in: str | None = None
    """What they say into the answer."""
    after_words: int = Field(default=3, ge=1)
    silence: float | None = Field(default=None, gt=0)
    """Seconds."""
    hang_up: str | None = None
    """Why."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return {"say": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("say", "silence", "hang_up") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"write one of say, silence, hang_up, not {' and '.join(given) or 'none of them'}")
        if self.cut_in is not None and self.say is None:
            raise ValueError("cut_in belongs to a say: it cuts into its answer")
        return self


class _Own(_Model):
    userdata: dict[str, Any] | None = None
    """The call's userdata at its beginning."""
    mocks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Agent -> tool -> what answers in its place: a text, JSON, or `{error: text}`."""
    caller: list[Moves] | None = None
    expect: Expected = Field(default_factory=Expected)


class Scenario(_Model):
    """One caller: who they are, what they want, what counts as a good call. The fields are LiveKit's."""

    label: str = ""
    instructions: str
    """For the caller's model: who they are, and what they want."""
    agent_expectations: str = Field("", validation_alias=AliasChoices("agent_expectations", "agentExpectations"))
    """For the judge: what counts as a good call."""
    tags: dict[str, str] = Field(default_factory=dict)
    userdata: dict[str, Any] = Field(default_factory=dict)
    """What the application needs to know of the scenario, and `graph_voice`: see `own`."""
    id: str = ""

    @field_validator("tags", mode="before")
    @classmethod
    def _tags(cls, value: Any) -> Any:
        return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in _mapping(value).items()}

    @field_validator("userdata", mode="before")
    @classmethod
    def _userdata(cls, value: Any) -> Any:
        return _mapping(json.loads(value or "{}") if isinstance(value, str) else value)

    @field_validator("agent_expectations", mode="before")
    @classmethod
    def _expectations(cls, value: Any) -> Any:
        return "" if value is None else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.instructions.strip():
            raise ValueError("instructions are empty: say who the caller is, and what they want")
        self.own  # noqa: B018 - what is written wrong in it is an error of the scenario
        return self

    @property
    def name(self) -> str:
        """What people call it: its label, else its id, else how its instructions begin."""
        return self.label.strip() or self.id or " ".join(self.instructions.split())[:60]

    @property
    def own(self) -> _Own:
        """What graph_voice reads in the scenario's userdata: `userdata`, `mocks`, `caller`, `expect`."""
        return _Own.model_validate(_mapping(self.userdata.get(OWN)))


class Setup:
    """What the calls of a scenario begin with, and how their end is checked: what the function `setup` returns.

    Args:
        check: called with the `Call` when it is over. It raises `AssertionError`, or returns what is wrong as a text,
            or returns None.
        options: arguments of `Call`: `userdata`, `mocks`, `context`, `store`, `llm`, `messages`, ...
    """

    def __init__(self, *, check: Callable[..., Any] | None = None, **options: Any) -> None:
        if unknown := options.keys() & {"front_end", "check", "saver", "on_resume"}:
            raise ScenarioError(f"Setup({min(unknown)}=...): the simulation decides this; leave it out.")
        self.check = check
        self.options = options


def load_scenarios(path: str | Path) -> list[Scenario]:
    """Read a file of scenarios, as LiveKit's `scenarios.yaml` (JSON is YAML too).

    Raises `ScenarioError` when there is no such file, or it holds anything else. The message names the scenario.
    """
    import yaml

    where = Path(path)
    try:
        found = yaml.load(where.read_text(encoding="utf-8"), _loader())
    except OSError as error:
        raise ScenarioError(f"{where}: can't be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{where} is not YAML: {error}") from error
    listed = found.get("scenarios") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not listed:
        raise ScenarioError(
            f"{where} holds no scenarios. Write a list: scenarios: [{{label: ..., instructions: ...}}, ...]."
        )
    if isinstance(found, dict) and (unknown := [str(k) for k in found if k not in ("id", "name", "scenarios")]):
        raise ScenarioError(f"{where}: {unknown[0]!r} is not a key of such a file: they are id, name, scenarios.")
    return named([_scenario(one, number, where) for number, one in enumerate(listed, 1)])


def named(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """The scenarios, with different names: the second of two gets " (2)"."""
    seen: dict[str, int] = {}
    made = []
    for scenario in scenarios:
        count = seen[scenario.name] = seen.get(scenario.name, 0) + 1
        made.append(scenario if count == 1 else scenario.model_copy(update={"label": f"{scenario.name} ({count})"}))
    return made


def _scenario(value: Any, number: int, where: Path) -> Scenario:
    label = value.get("label") if isinstance(value, dict) else None
    try:
        return Scenario.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ScenarioError(
            f"{where}, scenario {number}{f' ({label})' if label else ''}: {f'{place}: ' if place else ''}{_say(first)}."
        ) from error


def _say(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        parts: dict[str, type[_Model]] = {"caller": Moves, "expect": Expected}
        inside = parts.get(problem["loc"][0]) if len(problem["loc"]) > 1 else None
        if inside is not None:
            return f"there is no such key. What it may have: {', '.join(inside.model_fields)}"
        return (
            "there is no such key. A scenario has label, instructions, agent_expectations, tags, userdata and id; what "
            f"graph_voice adds is in userdata.{OWN}: userdata, mocks, caller, expect"
        )
    return str(problem["msg"]).removeprefix("Value error, ")


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"write an object (key: value), not {value!r:.60}")
    return value


def _loader() -> Any:
    """YAML without dates: `2026-06-15T10:00:00` is a text, as it is for LiveKit, whether or not it is quoted."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
            first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
            for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader
