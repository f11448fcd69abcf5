"""One call of a simulation: played, checked, judged, and written down as a `Run`."""

import contextlib
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph import StateGraph
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from graph_voice import events
from graph_voice.agents.tool_errors import ToolError
from graph_voice.errors import UserdataError
from graph_voice.graph.build import definition_of
from graph_voice.secrets.known import Known, known_of
from graph_voice.testing.front_end import PlanError
from graph_voice.testing.invariants import invariants
from graph_voice.testing.script import ScriptError
from graph_voice.testing.scripted_call import Call
from graph_voice.testing.simulation.judges import Evidence, Verdict
from graph_voice.testing.simulation.lines import CALLER, Line, lines_of
from graph_voice.testing.simulation.persona import Caller, HangUp, Say, Silence, Tokens
from graph_voice.testing.simulation.results import Effect, Run, Usage
from graph_voice.testing.simulation.scenario import Expected, Scenario, Setup
from graph_voice.turn.turn import Turn
from graph_voice.userdata.channel import UserdataChannel, explain, public_fields
from graph_voice.userdata.plain import fields_of

__all__ = ["PlayPlan", "play"]

OVER = {"caller": "the caller hung up", "agents": "the agents ended the call", "limit": "too many turns"}
_MOMENT = 1.0
"""Seconds."""


@dataclass
class PlayPlan:
    """Everything that one call of a simulation needs."""

    scenario: Scenario
    number: int
    graph: Any
    caller: Caller
    setup: Setup
    llm: Any = None
    front_end: Any = "core"
    max_turns: int = 30
    config: Mapping[str, Any] | None = None
    judge: Callable[[Evidence, Tokens], Awaitable[list[Verdict]]] | None = None


@dataclass
class _Played:
    """What one call left."""

    phone: Call[Any]
    ended: str = ""
    error: str = ""
    problems: list[str] = field(default_factory=list)
    mocked: list[Effect] = field(default_factory=list)
    notes: list[Line] = field(default_factory=list)
    """What the caller wanted to do and could not."""

    @property
    def lines(self) -> list[Line]:
        return sorted([*lines_of(self.phone.happenings), *self.notes], key=lambda line: (line.at, line.kind != "note"))


async def play(plan: PlayPlan) -> Run:
    """Play one call. Whatever goes wrong in it is written down in the `Run`: this raises nothing."""
    mocked: list[Effect] = []
    try:
        played = _Played(_phone(plan, mocked), mocked=mocked)
    except Exception as error:
        return _broken(plan, error)
    try:
        async with played.phone as phone:
            played.ended = await _talk(plan, phone, played)
    except Exception as error:
        played.error = _told(error)
    if not played.error:
        played.problems = await _checked(plan, played)
    return await _written(plan, played)


def _phone(plan: PlayPlan, mocked: list[Effect]) -> Call[Any]:
    own, given = plan.scenario.own, dict(plan.setup.options)
    mocks = {
        agent: {name: _mock(answer, _arguments(plan.graph, agent, name)) for name, answer in tools.items()}
        for agent, tools in own.mocks.items()
    }
    for agent, tools in dict(given.pop("mocks", None) or {}).items():
        mocks[agent] = {**mocks.get(agent, {}), **tools}
    options: dict[str, Any] = {"llm": plan.llm, **given}
    if plan.config:
        options["config"] = {**plan.config, **(options.get("config") or {})}
    if own.userdata is not None and "userdata" not in options:
        options["userdata"] = _userdata(plan.graph, own.userdata)
    noted = {agent: {n: _noted(agent, n, fake, mocked) for n, fake in tools.items()} for agent, tools in mocks.items()}
    return Call(plan.graph, front_end=plan.front_end, mocks=noted, check=False, **options)


async def _talk(plan: PlayPlan, phone: Call[Any], played: _Played) -> str:
    """Let the caller act until somebody ends the call. Returns who did."""
    for _ in range(plan.max_turns):
        if await _is_over(phone):
            return OVER["agents"]
        match move := await plan.caller.next(played.lines):
            case HangUp(reason=reason):
                _note(phone, played, f"hangs up{f': {reason}' if reason else ''}")
                return OVER["caller"]
            case Silence(seconds=seconds):
                _note(phone, played, f"is silent for {seconds:g} seconds")
                await phone.silence(seconds)
            case Say():
                await _say(phone, played, move)
    if await _is_over(phone):
        return OVER["agents"]
    played.problems.append(f"After {plan.max_turns} turns the call was still going on.")
    return OVER["limit"]


async def _is_over(phone: Call[Any]) -> bool:
    """Whether the agents have ended the call. A front end may need a moment for it."""
    ended = any(isinstance(entry.what, events.Ended) and entry.what.ends_call for entry in phone.happenings)
    if ended and not phone.over:
        await phone.silence(_MOMENT)
    return phone.over


async def _say(phone: Call[Any], played: _Played, move: Say) -> None:
    if move.cut_in is not None:
        phone.barge_in(move.cut_in, after_words=move.after_words)
    try:
        await phone.says(move.text)
    except PlanError:  # the answer had fewer words
        _note(phone, played, f"did not get to cut in with: {move.cut_in}")
        if not phone.over and move.cut_in is not None:
            await phone.says(move.cut_in)


def _note(phone: Call[Any], played: _Played, text: str) -> None:
    played.notes.append(Line(at=round(phone.now, 3), who=CALLER, kind="note", text=text))


# ---- what the call begins with


def _userdata(graph: Any, given: Mapping[str, Any]) -> Any:
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    channel = compiled.channels.get("userdata")
    if not isinstance(channel, UserdataChannel):
        raise UserdataError("the scenario gives userdata, but this graph has none: leave it out.")
    kind = channel.ValueType
    if issubclass(kind, BaseModel) and kind.model_config.get("extra") != "allow":
        known = {name for key, f in kind.model_fields.items() for name in (key, f.alias, f.validation_alias)}
        if unknown := sorted(given.keys() - known):
            fields = ", ".join(kind.model_fields)
            raise UserdataError(f"the scenario's userdata: {kind.__name__} has no {unknown[0]!r}; it has {fields}.")
    try:
        return TypeAdapter(channel.ValueType).validate_python(given)
    except ValidationError as error:
        raise UserdataError(
            f"the scenario's userdata does not fit {channel.ValueType.__name__}: {explain(error)}"
        ) from error


def _arguments(graph: Any, agent: str, tool: str) -> list[str]:
    """The names of the tool's arguments; empty where they are not known."""
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    definition = definition_of(compiled, agent) if agent in compiled.nodes else None
    found = next((t for t in definition.all_tools if t.name == tool), None) if definition is not None else None
    return list(found.args) if found is not None else []


def _mock(answer: Any, arguments: Sequence[str]) -> Callable[..., Any]:
    """A mock that answers with a text, with JSON, or with an error. LiveKit passes the arguments that it declares."""

    def mock(*_: Any, **__: Any) -> str:
        if isinstance(answer, Mapping) and set(answer) == {"error"}:
            raise ToolError(str(answer["error"]))
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)

    named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in arguments]
    if named:
        mock.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    return mock


def _noted(agent: str, tool: str, fake: Callable[..., Any], into: list[Effect]) -> Callable[..., Any]:
    """The mock, which writes down that it ran."""

    @functools.wraps(fake)
    async def mock(*given: Any, **args: Any) -> Any:
        named = args
        if given:  # LiveKit passes them by position
            named = dict(zip(inspect.signature(fake).parameters, given, strict=False)) | args
        effect = Effect(agent=agent, tool=tool, args=named, outcome="failed", mocked=True)
        into.append(effect)
        made = fake(*given, **args)
        found = await made if inspect.isawaitable(made) else made
        effect.outcome = "done"
        return found

    return mock


# ---- how it ended


async def _checked(plan: PlayPlan, played: _Played) -> list[str]:
    """What is wrong with the call: its end, the final state, the invariants, the program's own check."""
    found = list(played.problems)
    try:
        invariants(played.phone)
    except AssertionError as error:
        broken = str(error).split("\nThe call:")[0].splitlines()[1:]
        found += [f"broken invariant {line.removeprefix('- ')}" for line in broken]
    found += _unexpected(plan.scenario.own.expect, played)
    if plan.setup.check is not None:
        try:
            made = plan.setup.check(played.phone)
            said = await made if inspect.isawaitable(made) else made
        except AssertionError as error:
            said = str(error).splitlines()[0] if str(error) else "the check of the final state failed"
        except Exception as error:
            played.error = f"the check of the final state raised {_told(error)}"
            return found
        if isinstance(said, str) and said:
            found.append(said)
    return found


def _unexpected(expected: Expected, played: _Played) -> list[str]:
    phone, found = played.phone, []
    if expected.userdata:
        held = _plain(fields_of(phone.userdata))
        found += [f"userdata.{what}" for what in _differences(expected.userdata, held)]
    if expected.active_agent is not None and phone.active_agent != expected.active_agent:
        found.append(f"the active agent is {phone.active_agent}, not {expected.active_agent}")
    acted = [effect.tool for effect in _effects(played) if effect.outcome != "asking"]
    for tool, times in expected.tools.items():
        if acted.count(tool) != times:
            found.append(f"the tool {tool} acted {acted.count(tool)} times, not {times}")
    return found


def _differences(expected: Mapping[str, Any], held: Any, path: str = "") -> list[str]:
    found = []
    for name, value in expected.items():
        there = held.get(name) if isinstance(held, Mapping) else None
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            found += _differences(value, there, f"{path}{name}.")
        elif there != value and not (value in (None, "", [], {}) and there in (None, "", [], {})):
            found.append(f"{path}{name} is {there!r}, not {value!r}")
    return found


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, fallback=str)


def _effects(played: _Played) -> list[Effect]:
    ran = [Effect(agent=r.agent, tool=r.tool, args=dict(r.args), outcome=r.outcome) for r in played.phone.effects]
    return [*ran, *played.mocked]


# ---- written down


async def _written(plan: PlayPlan, played: _Played) -> Run:
    phone = played.phone
    caller_tokens, judge_tokens = getattr(plan.caller, "tokens", Tokens()), Tokens()
    if not phone.happenings and played.error:
        return _broken(plan, played.error)
    known = _known(phone)
    lines = [_redacted(line, known) for line in played.lines]
    trajectory: list[dict[str, Any]] = _plain(known.value(phone.trajectory()))
    verdicts: list[Verdict] = []
    if plan.judge is not None and not played.error:
        evidence = Evidence(plan.scenario, lines, trajectory, _instructions(phone, lines, known))
        verdicts = await plan.judge(evidence, judge_tokens)
    entries = phone.happenings
    used = [e.what for e in entries if isinstance(e.what, events.Usage)]
    failed = [e.what.error for e in entries if isinstance(e.what, events.Failed)]
    error = played.error or next((_told(e) for e in failed if isinstance(e, ScriptError)), "")
    bad = bool(played.problems) or any(v.verdict == "fail" for v in verdicts)
    unknown = bool(error) or any(v.verdict == "error" for v in verdicts)
    return Run(
        scenario=plan.scenario.name,
        number=plan.number,
        status="failed" if bad and not error else "error" if unknown else "passed",
        ended=played.ended,
        manner=getattr(plan.caller, "manner", ""),
        problems=[known.text(problem) for problem in played.problems],
        verdicts=verdicts,
        lines=lines,
        effects=[Effect.model_validate(_plain(known.value(e.model_dump()))) for e in _effects(played)],
        turns=sum(line.who == CALLER and line.kind == "says" for line in lines),
        seconds=round(max((line.at for line in lines), default=0.0), 3),
        latencies=_latencies([e.turn for e in entries if e.turn is not None]),
        tokens={
            "agents": Usage(input=sum(u.input_tokens for u in used), output=sum(u.output_tokens for u in used)),
            "caller": Usage(input=caller_tokens.input, output=caller_tokens.output),
            "judges": Usage(input=judge_tokens.input, output=judge_tokens.output),
        },
        active_agent=phone.active_agent,
        userdata=_plain(known.value(public_fields(phone.state.get("userdata")))),
        trajectory=trajectory,
        error=known.text(error),
    )


def _redacted(line: Line, known: Known) -> Line:
    return line.model_copy(update={"text": str(known.text(line.text)), "unheard": str(known.text(line.unheard))})


def _known(phone: Call[Any]) -> Known:
    return known_of(phone.messages, phone.state.get("userdata"))


def _instructions(phone: Call[Any], lines: Sequence[Line], known: Known) -> dict[str, str]:
    """What the agents that spoke or acted were told, where it can be rendered from the final userdata."""
    found = {}
    for name in dict.fromkeys(line.who for line in lines if line.who != CALLER):
        definition = definition_of(phone.conversation.graph, name)
        with contextlib.suppress(Exception):  # a function of the userdata, which may have become another since
            if definition is not None:
                found[name] = str(known.text(definition.render(phone.state.get("userdata"))))
    return found


def _latencies(turns: Sequence[Turn]) -> list[float]:
    different = list({id(turn): turn for turn in turns if turn.state.happened}.values())
    found = [turn.timings.get("time_to_first_text_ms") for turn in different]
    return [round(ms / 1000, 4) for ms in found if ms is not None]


def _broken(plan: PlayPlan, error: Exception | str) -> Run:
    told = error if isinstance(error, str) else _told(error)
    return Run(scenario=plan.scenario.name, number=plan.number, status="error", ended="", error=told)


def _told(error: BaseException) -> str:
    text = str(error).strip().split("\nThe call:")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
