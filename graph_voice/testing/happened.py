"""What happened in a call, as a list: speech as it was heard, tool calls, their results, and handoffs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from graph_voice import events
from graph_voice.testing.prompts import PromptError
from graph_voice.testing.script import ScriptError
from graph_voice.turn.tool_run import ToolRun
from graph_voice.turn.turn import Turn

__all__ = [
    "AgentHandoff",
    "CallerSaid",
    "Effects",
    "FunctionCall",
    "FunctionCallOutput",
    "Happening",
    "Item",
    "Message",
    "items_of",
    "require_answers",
    "transcript",
]


@dataclass(frozen=True)
class CallerSaid:
    """Words of the caller."""

    text: str
    how: str = "says"
    """"says", "types", "cuts in", or "guess" (words that the front end took for the whole turn)."""


@dataclass(frozen=True)
class Happening:
    """Something that happened."""

    at: float
    """Seconds since the call began."""
    what: events.Event | CallerSaid
    turn: Turn | None = None
    """None for what the caller or the program says, and for a question that is asked again."""


@dataclass(frozen=True)
class Item:
    """The base of what `Result.expect` checks. LiveKit's `RunEvent`s, with the agent's name."""


@dataclass(frozen=True)
class Message(Item):
    """An agent's words, as far as they were heard."""

    agent: str
    text: str
    interrupted: bool = False
    message_id: str = ""
    role: str = "assistant"


@dataclass(frozen=True)
class FunctionCall(Item):
    """A model called a tool."""

    agent: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True)
class FunctionCallOutput(Item):
    """The result of a tool call."""

    agent: str
    name: str
    output: str
    is_error: bool = False
    call_id: str = ""


@dataclass(frozen=True)
class AgentHandoff(Item):
    """Another agent became active."""

    old_agent: str
    new_agent: str


def items_of(entries: Iterable[Happening]) -> list[Item]:
    """The items that count: without discarded turns, words that nobody heard, and handoffs that were undone."""
    found: list[Item] = []
    seen: set[str] = set()
    for entry in entries:
        if entry.turn is not None and entry.turn.state.happened:
            found += _items(entry.turn, entry.what, seen)
        elif entry.turn is None and isinstance(entry.what, events.Say):
            found.append(Message(entry.what.agent, entry.what.text.strip(), message_id=entry.what.message_id))
    return found


def _items(turn: Turn, what: events.Event | CallerSaid, seen: set[str]) -> Iterator[Item]:
    match what:
        case (
            events.Text(agent=agent, message_id=message_id)
            | events.Say(agent=agent, message_id=message_id)
            | events.Interrupt(agent=agent, message_id=message_id)
        ) if message_id not in seen:
            spoken = turn.record.spoken(message_id)
            if spoken is not None and spoken[1].heard:
                seen.add(message_id)
                yield Message(agent, spoken[1].heard.strip(), spoken[1].cut, message_id)
        case events.ToolCalls(agent=agent, message_id=message_id, calls=calls):
            # A batch that was cut off before any of its tool calls began does not count.
            step = turn.record.spoken(message_id)
            if step is not None and all(call.status in ("waiting", "refused") for call in step[0].calls.values()):
                return
            for call in calls:
                yield FunctionCall(agent, call.name, dict(call.args), call.id)
        case events.ToolResult(agent=agent, call_id=call_id, name=name, output=output, is_error=is_error):
            asked = turn.record.call(call_id)
            if asked is not None and asked[1].status == "refused":
                return
            if turn.record.handoffs.was_rejected(call_id) and asked is not None and asked[1].result is not None:
                output, is_error = asked[1].result.text, True
            yield FunctionCallOutput(agent, name, output, is_error, call_id)
        case events.HandedOff(old_agent=old, new_agent=new):
            if turn.record.handoffs.of(what).happened:
                yield AgentHandoff(old, new)


def require_answers(entries: Sequence[Happening]) -> None:
    """Raise `AssertionError` if a scripted model had no answer, or was given a prompt that a provider would refuse.

    An agent apologizes when its model fails, so a call may look fine although its script was wrong. Model calls of
    discarded turns do not count.
    """
    failed = [
        str(entry.what.error)
        for entry in entries
        if entry.turn is not None
        and entry.turn.state.happened
        and isinstance(entry.what, events.Failed)
        and isinstance(entry.what.error, ScriptError | PromptError)
    ]
    if failed:
        listed = "\n- ".join(failed)
        raise AssertionError(f"A scripted model did not answer:\n- {listed}\nThe call:\n{transcript(entries)}")


def transcript(entries: Sequence[Happening]) -> str:
    """Who said what, what was heard, where it was cut off, what was done. Each line starts with its time in seconds."""
    lines: list[str] = []
    seen: set[str] = set()
    for entry in entries:
        lines += [f"{entry.at:7.2f}s  {line}" for line in _lines(entry, seen)]
    return "\n".join(lines)


def _lines(entry: Happening, seen: set[str]) -> Iterator[str]:
    turn, lost = entry.turn, ""
    if turn is not None and not turn.state.happened:
        lost = " (discarded)" if turn.state.is_over else " (not committed)"
    match entry.what:
        case CallerSaid(text=text, how=how):
            yield f"caller {how}: {text}"
        case events.Say(agent=agent, text=text) if turn is None:
            yield f"{agent} (outside a turn): {text}"
        case (
            events.Text(agent=agent, message_id=message_id)
            | events.Say(agent=agent, message_id=message_id)
            | events.Interrupt(agent=agent, message_id=message_id)
        ) if message_id not in seen and turn is not None:
            seen.add(message_id)
            found = turn.record.spoken(message_id)
            if found is not None:
                yield f"{agent}: {_spoken(found[1].heard, found[1].produced)}{lost}"
        case events.ToolCalls(agent=agent, calls=calls):
            for call in calls:
                arguments = ", ".join(f"{k}={v!r}" for k, v in call.args.items())
                yield f"{agent} calls {call.name}({arguments}){lost}"
        case events.ToolResult(name=name, output=output, is_error=is_error):
            yield f"    {name} {'fails' if is_error else 'answers'}: {output[:200]}{lost}"
        case events.ToolUpdate(name=name, message=message, silent=silent):
            yield f"    {name} tells{' silently' if silent else ''}: {message}{lost}"
        case events.HandedOff(old_agent=old, new_agent=new) if turn is not None:
            undone = "" if turn.record.handoffs.of(entry.what).happened else " (did not happen)"
            yield f"    {old} -> {new}{undone}{lost}"
        case events.Failed(agent=agent, error=error):
            yield f"    {agent} failed: {error!r}"


def _spoken(heard: str | None, produced: str) -> str:
    heard = (heard or "").strip()
    produced = produced.strip()
    if heard == produced:
        return heard
    if produced.startswith(heard):
        return f"{heard} | CUT, not heard: {produced[len(heard) :].strip()}".strip()
    return f"{heard} | (generated: {produced})"


class Effects:
    """The runs of tools, in the order in which they began. A denied, mocked or malformed tool call has none.

    The runs of a process that crashed stay: they happened.
    """

    def __init__(self) -> None:
        self._runs: list[ToolRun] = []

    def note(self, run: ToolRun) -> None:
        """`Conversation.on_tool`."""
        if run.outcome == "refused":
            self._runs = [known for known in self._runs if known is not run]
        elif not any(known is run for known in self._runs):
            self._runs.append(run)

    def of(self, tool: str) -> list[ToolRun]:
        """The runs of one tool."""
        return [run for run in self._runs if run.tool == tool]

    def count(self, tool: str) -> int:
        """How many times this tool acted. A run that waits in LangGraph's `interrupt()` has not: with the answer, the
        tool runs again from its beginning."""
        return sum(run.outcome != "asking" for run in self.of(tool))

    @property
    def call_ids(self) -> list[str]:
        """The tool call id of each run."""
        return [run.call_id for run in self._runs]

    def __iter__(self) -> Iterator[ToolRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return self._runs[index]

    def __repr__(self) -> str:
        return "\n".join(f"{r.agent}.{r.tool}({r.args}) {r.call_id}: {r.outcome}" for r in self._runs) or "no tool ran"
