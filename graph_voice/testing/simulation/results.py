"""What a simulation has found, as data: one `Run` for each call, and what can be counted of them."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from graph_voice.testing.simulation.judges import Verdict
from graph_voice.testing.simulation.lines import Line

__all__ = ["Effect", "Rate", "Results", "Run", "Usage", "wilson"]

_Z = 1.959963984540054
"""Of a normal distribution, 95% lies within this many standard deviations."""


class Rate(NamedTuple):
    """How many of some runs passed."""

    passed: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1; 0 of nothing is 0."""
        return self.passed / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share lies, with 95% confidence: Wilson's score interval."""
        return wilson(self.passed, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.0%} ({self.passed} of {self.total}; {low:.0%} to {high:.0%})"


def wilson(passed: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share, 95%. Of nothing it is (0, 1)."""
    if not total:
        return 0.0, 1.0
    share, z2 = passed / total, _Z**2
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return (0.0 if passed == 0 else center - half), (1.0 if passed == total else center + half)


class _Data(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Effect(_Data):
    """One run of a tool's code, or of its mock."""

    agent: str
    tool: str
    args: dict[str, Any] = Field(default_factory=dict)
    outcome: str = "done"
    mocked: bool = False


class Usage(_Data):
    """What the models of one side have read and written."""

    input: int = 0
    output: int = 0


class Run(_Data):
    """One call."""

    scenario: str
    number: int
    """From 1, of this scenario."""
    status: Literal["passed", "failed", "error"]
    """"error": the call could not be played or judged to the end, so nothing is known of the agents."""
    ended: str
    """Who ended the call: "the caller hung up", "the agents ended the call", "too many turns"."""
    manner: str = ""
    """How the caller spoke, besides what the scenario says."""
    problems: list[str] = Field(default_factory=list)
    """What was wrong with the final state, the invariants, the agents' models."""
    verdicts: list[Verdict] = Field(default_factory=list)
    lines: list[Line] = Field(default_factory=list)
    effects: list[Effect] = Field(default_factory=list)
    turns: int = 0
    """How often the caller has spoken."""
    seconds: float = 0.0
    """How long the call was, by its own clock."""
    latencies: list[float] = Field(default_factory=list)
    """Of each turn: seconds from its start to the agents' first words, by the call's clock."""
    tokens: dict[str, Usage] = Field(default_factory=dict)
    """"agents", "caller", "judges"."""
    active_agent: str = ""
    userdata: dict[str, Any] = Field(default_factory=dict)
    """At the end, without secrets."""
    trajectory: list[dict[str, Any]] = Field(default_factory=list)
    """The messages in OpenAI's format, without secrets."""
    error: str = ""

    @property
    def name(self) -> str:
        return f"{self.scenario} #{self.number}"

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def reasons(self) -> list[str]:
        """Why it did not pass."""
        judged = [f"{v.judge}: {v.reason}" for v in self.verdicts if v.verdict in ("fail", "error")]
        return [*([self.error] if self.error else []), *self.problems, *judged]


class Results(_Data):
    """What a simulation has found.

    A run passes when the final state is as expected, the invariants hold, and no judge says "fail". "maybe" fails no
    run, and does not count as passed in the judge's own rate.
    """

    graph: str
    """Its path or name."""
    front_end: str = "core"
    clock: str = "virtual"
    seed: int = 0
    models: dict[str, str] = Field(default_factory=dict)
    """"agents", "caller", "judges"."""
    runs: list[Run] = Field(default_factory=list)
    seconds: float = 0.0
    """How long the simulation took, in real time."""
    planned: int | None = None
    """How many calls there were to be, if the simulation was stopped before they were over."""

    @property
    def stopped(self) -> str:
        """What is to be told if the simulation was stopped."""
        return f"It was stopped: {len(self.runs)} of {self.planned} calls were over." if self.planned else ""

    # ---- counted

    @property
    def rate(self) -> Rate:
        """How many runs passed."""
        return _rate(self.runs)

    @property
    def scenarios(self) -> dict[str, Rate]:
        """Scenario -> how many of its runs passed."""
        names = dict.fromkeys(run.scenario for run in self.runs)
        return {name: _rate(run for run in self.runs if run.scenario == name) for name in names}

    @property
    def judges(self) -> dict[str, Rate]:
        """Judge -> how many of the calls that it judged passed. Calls that gave it nothing to judge are left out."""
        given = [v for run in self.runs for v in run.verdicts if v.verdict != "n/a"]
        names = dict.fromkeys(v.judge for v in given)
        return {n: Rate(*_count((v for v in given if v.judge == n), lambda v: v.verdict == "pass")) for n in names}

    @property
    def failures(self) -> list[Run]:
        """The runs that did not pass."""
        return [run for run in self.runs if not run.passed]

    @property
    def latency(self) -> dict[str, float]:
        """Seconds until the agents' first words: median, 95th percentile, longest. Empty when nothing was measured."""
        found = sorted(t for run in self.runs for t in run.latencies)
        if not found:
            return {}
        at_95 = found[min(len(found) - 1, math.ceil(0.95 * len(found)) - 1)]
        return {"median": statistics.median(found), "p95": at_95, "longest": found[-1]}

    @property
    def tokens(self) -> dict[str, Usage]:
        """What all runs together have used."""
        whole: dict[str, Usage] = {}
        for run in self.runs:
            for side, used in run.tokens.items():
                known = whole.setdefault(side, Usage())
                whole[side] = Usage(input=known.input + used.input, output=known.output + used.output)
        return whole

    @property
    def effects(self) -> dict[str, int]:
        """Tool -> how many times it acted, in all runs."""
        acted = [e.tool for run in self.runs for e in run.effects if e.outcome != "asking"]
        return {tool: acted.count(tool) for tool in dict.fromkeys(acted)}


def _rate(runs: Iterable[Run]) -> Rate:
    return Rate(*_count(runs, lambda run: run.passed))


def _count(found: Iterable[Any], passes: Callable[[Any], bool]) -> tuple[int, int]:
    listed: Sequence[Any] = list(found)
    return sum(map(passes, listed)), len(listed)
