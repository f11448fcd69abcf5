"""Playing a recorded call again, on a virtual clock: what the script must be, and what happens with it."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import StateGraph
from pydantic import TypeAdapter, ValidationError

from graph_voice import events
from graph_voice.agents.tool_errors import ToolError
from graph_voice.errors import UserdataError
from graph_voice.graph.build import definition_of
from graph_voice.testing.clock import run
from graph_voice.testing.front_end import PlanError
from graph_voice.testing.models import ScriptedModel
from graph_voice.testing.recorded.call import UNHEARD, Output, RecordedCall, RecordError, Reply
from graph_voice.testing.result import Result
from graph_voice.testing.script import ScriptedReply, call, say
from graph_voice.testing.scripted_call import Call
from graph_voice.turn.record import ModelStep
from graph_voice.userdata.channel import UserdataChannel, explain

__all__ = ["Cut", "Replay", "Step", "answers", "replay", "userdata_of"]

_ROUNDS = 100
_MISSING = "(this was not recorded)"
_UNHEARD = "(this was not heard)"


@dataclass(frozen=True)
class Cut:
    """The caller cuts in."""

    text: str
    after_words: int


@dataclass(frozen=True)
class Step:
    """One thing that the caller does."""

    said: str
    cuts: tuple[Cut, ...] = ()
    turns: tuple[int, ...] = ()
    """The numbers of the recorded turns that it plays."""


@dataclass
class Replay:
    """A recorded call, played again."""

    steps: list[Step]
    script: dict[str, list[ScriptedReply]]
    """Agent -> what its model answers."""
    greeting: Result
    results: list[Result] = field(default_factory=list)
    active_agent: str = ""
    userdata: dict[str, Any] = field(default_factory=dict)
    instructions: dict[str, list[str]] = field(default_factory=dict)
    """Agent -> what its model was told, each text once."""


@dataclass
class _Played:
    replay: Replay
    messages: list[AIMessage]
    made: list[ModelStep]
    """What the models said, in order."""
    lines: dict[str, str]
    """Id of a message -> the fixed lines at its end."""
    fixed: set[str]
    """Ids of messages that no model has made."""
    problem: str = ""


def replay(recorded: RecordedCall, graph: Any, *, mock: Sequence[str] = ()) -> Replay:
    """Play a recorded call again.

    Args:
        recorded: the call.
        graph: its graph.
        mock: tools that answer as they did, instead of running.

    Raises `RecordError` when it does not go as it was recorded.
    """
    draft = _Draft(recorded, [_Entry(r, _words(r.text), n) for n, t in enumerate(recorded.turns) for r in t.replies])
    for _ in range(_ROUNDS):
        played = _in_thread(functools.partial(_play, draft, graph, mock))
        if (better := _better(draft, played)) is None:
            break
        draft = better
    _require_same(draft.call, played)
    return played.replay


@dataclass(frozen=True)
class _Entry:
    """One answer of the script."""

    reply: Reply
    heard: str
    """What was heard, with what the graph itself said."""
    turn: int
    fixed: bool = False
    """Whether no model made it: it is a line of the graph."""
    invented: bool = False
    """Whether it stands for an answer that nobody heard."""


@dataclass(frozen=True)
class _Draft:
    """A call as it may have gone: the recording, with what replays have found out."""

    call: RecordedCall
    entries: list[_Entry]

    def with_entry(self, at: int, *entries: _Entry) -> "_Draft":
        """These in the place of this one."""
        return replace(self, entries=[*self.entries[:at], *entries, *self.entries[at + 1 :]])

    @property
    def recorded(self) -> list[int]:
        """The places of the entries that stand for recorded messages."""
        return [place for place, entry in enumerate(self.entries) if not entry.invented]

    def cut(self, number: int) -> "_Draft":
        """The caller cut in, in this turn, with the words of the next one."""
        turns = list(self.call.turns)
        if turns[number].said is not None and turns[number].words and number + 1 < len(turns):
            turns[number] = replace(turns[number], cut=True)
        return replace(self, call=replace(self.call, turns=tuple(turns)))


def _words(text: str) -> str:
    return " ".join(text.split())


def _in_thread(play: Callable[[], Any]) -> _Played:
    """On a clock and a loop of its own, also where a loop is running."""
    with ThreadPoolExecutor(1, thread_name_prefix="graph_voice.recorded") as pool:
        played: _Played = pool.submit(lambda: run(play())).result()
    return played


# ---- playing


async def _play(draft: _Draft, graph: Any, mock: Sequence[str]) -> _Played:
    recorded, compiled = draft.call, compiled_of(graph)
    script = _script(draft.entries, compiled)
    model = ScriptedModel({agent: _then_missing(lines) for agent, lines in script.items()})
    options: dict[str, Any] = {}
    if recorded.userdata is not None:
        options["userdata"] = userdata_of(compiled, recorded.userdata)
    steps = _steps(recorded)
    problem = ""
    mocks = answers(compiled, {tool: recorded.outputs.get(tool, []) for tool in mock})
    async with Call(compiled, llm=model, check=False, mocks=mocks, **options) as phone:
        found = Replay(steps, {a: lines for a, lines in script.items() if lines}, phone.greeting)
        for step in steps:
            for cut in step.cuts:
                phone.barge_in(cut.text, after_words=cut.after_words)
            try:
                found.results.append(await phone.says(step.said))
            except PlanError as error:
                problem = str(error).split("\nThe call:")[0]
                break
        found.active_agent, found.userdata = phone.active_agent, phone.public_userdata
        found.instructions = model.instructions
        spoken = [m for m in phone.messages if isinstance(m, AIMessage)]
    turns = list({id(h.turn): h.turn for h in phone.happenings if h.turn is not None}.values())
    made = [step for turn in turns if turn.state.happened for step in turn.record.steps()]
    by_id = {step.words.id: step for step in made}
    said = {h.what.message_id for h in phone.happenings if isinstance(h.what, events.Say | events.Interrupt)}
    lines = {i: " ".join(line.heard for line in step.lines if line.heard) for i, step in by_id.items()}
    fixed = {*said, *(m.id or "" for m in spoken if m.id not in by_id)}
    if not problem and model.errors:
        problem = str(model.errors[0])
    return _Played(found, spoken, made, lines, fixed, problem)


def _script(entries: Sequence[_Entry], graph: Any) -> dict[str, list[ScriptedReply]]:
    """Agent -> its answers. Each node has a list, so that no agent is without a script."""
    script: dict[str, list[ScriptedReply]] = {name: [] for name in graph.nodes if name != "__start__"}
    for entry in entries:
        if not entry.fixed:
            calls = [call(c["name"], c["args"] or {}, id=c["id"]) for c in entry.reply.calls]
            text = entry.reply.text + (UNHEARD if entry.reply.cut else "")
            script.setdefault(entry.reply.agent, []).append(say(*([text] if text else []), *calls))
    return script


def _then_missing(lines: Sequence[ScriptedReply]) -> Callable[[Any], ScriptedReply]:
    left: Iterator[ScriptedReply] = iter(list(lines))
    return lambda messages: next(left, say(_MISSING))


def _steps(recorded: RecordedCall) -> list[Step]:
    """What the caller does: turns that were cut off are played together with the words that cut them off."""
    steps: list[Step] = []
    cutting = False
    for number, turn in enumerate(recorded.turns):
        if turn.said is None:
            cutting = False
            continue
        if cutting and steps:
            last, before = steps[-1], recorded.turns[number - 1]
            cuts = (*last.cuts, Cut(turn.said, before.words))
            steps[-1] = replace(last, cuts=cuts, turns=(*last.turns, number))
        else:
            steps.append(Step(turn.said, turns=(number,)))
        cutting = turn.cut
    return steps


def answers(graph: Any, outputs: Mapping[str, Sequence[Output]]) -> dict[str, dict[str, Callable[..., str]]]:
    """Mocks for `Call(mocks=...)`: each of these tools answers one of its outputs after the other, wherever it is.

    Raises `RecordError` for a tool that no agent of the graph has.
    """
    compiled = compiled_of(graph)
    found: dict[str, dict[str, Callable[..., str]]] = {}
    for tool, given in outputs.items():
        owners = [name for name in compiled.nodes if tool in _tools(compiled, name)] or _with_toolsets(compiled)
        if not owners:
            raise RecordError(f"no agent of the graph has the tool {tool!r}, so it can't be mocked.")
        mock = _answering(given)
        for agent in owners:
            found.setdefault(agent, {})[tool] = mock
    return found


def _answering(outputs: Sequence[Output]) -> Callable[..., str]:
    left = iter(list(outputs))

    def mock(*_: Any, **__: Any) -> str:
        output = next(left, _MISSING)
        if isinstance(output, Mapping):
            raise ToolError(output["error"])
        return output

    return mock


def _tools(graph: Any, name: str) -> list[str]:
    definition = definition_of(graph, name)
    return [tool.name for tool in definition.all_tools] if definition is not None else []


def _with_toolsets(graph: Any) -> list[str]:
    """The agents whose tools can't be listed without a call: any tool may be theirs."""
    return [name for name in graph.nodes if (agent := definition_of(graph, name)) is not None and agent.toolsets]


def userdata_of(graph: Any, given: Mapping[str, Any]) -> Any:
    """JSON data as the graph's userdata. Raises `RecordError` if the graph has none, and `UserdataError`."""
    channel = compiled_of(graph).channels.get("userdata")
    if not isinstance(channel, UserdataChannel):
        raise RecordError("this graph has no userdata; leave it out.")
    try:
        return TypeAdapter(channel.ValueType).validate_python(given)
    except ValidationError as error:
        raise UserdataError(f"the userdata does not fit {channel.ValueType.__name__}: {explain(error)}") from error


def compiled_of(graph: Any) -> Any:
    return graph.compile() if isinstance(graph, StateGraph) else graph


# ---- finding the script


def _better(draft: _Draft, played: _Played) -> _Draft | None:
    """A draft that is nearer to the recording; None when there is nothing to improve. What differs first is mended
    first: all that follows from it differs too."""
    if draft.call.exact:
        return None
    at, place = _first_difference(draft, played)
    unheard = _with_unheard(draft, played, place)
    if unheard is None and at is not None:
        unheard = _without_line(draft, played, at)
    return unheard or _with_cut(draft, played)


def _first_difference(draft: _Draft, played: _Played) -> tuple[int | None, int]:
    """The number of the first message that is not as it was recorded, and of the first step that belongs to it or to
    what follows."""
    places = {step.words.id: number for number, step in enumerate(played.made)}
    for number, (at, message) in enumerate(zip(draft.recorded, played.messages, strict=False)):
        entry = draft.entries[at]
        if _words(message.text) != entry.heard or (message.id in played.fixed and not entry.fixed):
            behind = (places[m.id] for m in played.messages[number:] if m.id in places)
            return number, next(behind, len(places))
    return None, len(places)


def _with_unheard(draft: _Draft, played: _Played, before: int) -> _Draft | None:
    """An agent that ran ahead of a transfer was cut off: its answer was made and not recorded. One stands for it."""
    count: dict[str, int] = {}
    for step in played.made[:before]:
        place = count[step.agent] = count.get(step.agent, -1) + 1
        mine = [i for i, e in enumerate(draft.entries) if not e.fixed and e.reply.agent == step.agent]
        if step.acknowledged or not step.words.produced or step.words.id in played.fixed:
            continue
        unheard = _Entry(Reply(step.agent, _UNHEARD), "", len(draft.call.turns) - 1, invented=True)
        if place >= len(mine):
            return replace(draft, entries=[*draft.entries, unheard])
        entry = draft.entries[mine[place]]
        if not entry.invented:
            return draft.with_entry(mine[place], unheard, entry)
    return None


def _without_line(draft: _Draft, played: _Played, number: int) -> _Draft | None:
    """This answer without what the graph says by itself: all of it, or a line at its end."""
    at, message = draft.recorded[number], played.messages[number]
    entry = draft.entries[at]
    if _words(message.text) == entry.heard or (message.id in played.fixed and _begins(message.text, entry.heard)):
        fixed = draft.with_entry(at, replace(entry, fixed=True))
        return fixed if _words(message.text) == entry.heard else fixed.cut(entry.turn)
    words, whole = _apart(entry.heard, _words(played.lines.get(message.id or "", "")))
    if words is None or words == entry.reply.text:
        return None
    shorter = draft.with_entry(at, replace(entry, reply=replace(entry.reply, text=words, cut=False)))
    return shorter if whole else shorter.cut(entry.turn)


def _begins(text: str, heard: str) -> bool:
    return bool(heard) and _words(text).startswith(f"{heard} ")


def _apart(heard: str, line: str) -> tuple[str | None, bool]:
    """What was heard without the fixed line at its end, and whether the line was heard to its end. None: there is no
    such line."""
    said, fixed = heard.split(), line.split()
    for at in range(len(said)):
        if said[at:] == fixed[: len(said) - at]:
            return " ".join(said[:at]), len(said) - at == len(fixed)
    return None, True


def _with_cut(draft: _Draft, played: _Played) -> _Draft | None:
    """The first turn in which more is heard now than then: the caller has cut in there."""
    for number, (turn, found) in enumerate(zip(draft.call.turns, _heard(draft.call, played.replay), strict=False)):
        if turn.heard != found:
            cut = draft.cut(number) if found.startswith(f"{turn.heard} ") and not turn.cut else draft
            return cut if cut.call != draft.call else None
    return None


# ---- the same?


def _require_same(recorded: RecordedCall, played: _Played) -> None:
    heard = _heard(recorded, played.replay)
    for number, (turn, found) in enumerate(zip(recorded.turns, heard, strict=False)):
        last = number == len(recorded.turns) - 1
        if turn.heard != found and not (last and found.startswith(turn.heard)):  # the call may have ended in a line
            said = f"After {turn.said!r}" if turn.said is not None else "At the beginning"
            raise RecordError(
                f"{recorded.name} does not go as it was recorded. {said} was heard:\n  {turn.heard or '(nothing)'}\n"
                f"Now it is:\n  {found or '(nothing)'}\n{_why(played, number)}"
            )
    if played.problem:
        raise RecordError(f"{recorded.name} does not go as it was recorded: {played.problem}")


def _heard(recorded: RecordedCall, replay: Replay) -> list[str]:
    found = {0: " ".join(replay.greeting.heard.split())} if recorded.turns[0].said is None else {}
    for step, result in zip(replay.steps, replay.results, strict=False):
        between = [" ".join(" ".join(texts).split()) for texts in result.heard_between[1:]]
        found |= dict(zip(step.turns, between, strict=False))
    return [found.get(number, "") for number in range(len(recorded.turns))]


def _why(played: _Played, number: int) -> str:
    if played.problem:
        return f"The reason: {played.problem}"
    return (
        "Tools run in a replay: if one answers another thing today, name it (--mock TOOL), so that it answers as it "
        "did. If the call began with known userdata, give it (--userdata JSON)."
    )
