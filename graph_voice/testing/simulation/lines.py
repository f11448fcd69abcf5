"""What happened in a call, line by line, as data: for callers, judges and reports."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from graph_voice import events
from graph_voice.testing.happened import CallerSaid, Happening

__all__ = ["CALLER", "Line", "lines_of", "told"]

CALLER = "caller"
"""Who says the caller's lines."""

Kind = Literal["says", "calls", "answers", "fails", "hands off", "note"]


class Line(BaseModel):
    """Something that was said or done in a call that counts: no discarded turns, no guesses."""

    model_config = ConfigDict(frozen=True)

    at: float
    """Seconds since the call began."""
    who: str
    """"caller", or an agent."""
    kind: Kind
    text: str
    """What was heard; of a tool call its name and arguments, or its result."""
    unheard: str = ""
    """What was generated and cut off."""


def lines_of(entries: Sequence[Happening]) -> list[Line]:
    """The lines of a call, in order."""
    found: list[Line] = []
    seen: set[str] = set()
    for entry in entries:
        if entry.turn is None or entry.turn.state.happened:
            found += _lines(entry, seen)
    return found


def told(lines: Sequence[Line]) -> str:
    """The lines as text, for a judge or a report: who said what, what was cut off, what was done."""
    return "\n".join(map(_told, lines)) or "(nothing was said)"


def _told(line: Line) -> str:
    match line.kind:
        case "says":
            cut = f" [cut off, not heard: {line.unheard}]" if line.unheard else ""
            return f"{line.who}: {line.text}{cut}"
        case "calls":
            return f"[{line.who} calls {line.text}]"
        case "answers":
            return f"[{line.text}]"
        case "fails":
            return f"[{line.text}]"
        case "hands off":
            return f"[{line.text}]"
    return f"[{line.text}]"


def _lines(entry: Happening, seen: set[str]) -> Iterator[Line]:
    turn, at, what = entry.turn, round(entry.at, 3), entry.what
    match what:
        case CallerSaid(text=text, how="was not heard with"):
            yield Line(at=at, who=CALLER, kind="note", text=f"the agent did not hear: {text}")
        case CallerSaid(text=text, how=how) if how != "guess":
            yield Line(at=at, who=CALLER, kind="says", text=text)
        case events.Say(agent=agent, text=text) if turn is None:
            yield Line(at=at, who=agent, kind="says", text=text.strip())
        case (
            events.Text(agent=agent, message_id=message_id)
            | events.Say(agent=agent, message_id=message_id)
            | events.Interrupt(agent=agent, message_id=message_id)
        ) if turn is not None and message_id not in seen:
            seen.add(message_id)
            if (spoken := turn.record.spoken(message_id)) is not None:
                heard, produced = (spoken[1].heard or "").strip(), spoken[1].produced.strip()
                rest = produced[len(heard) :].strip() if produced.startswith(heard) else ""
                yield Line(at=at, who=agent, kind="says", text=heard, unheard=rest)
        case events.ToolCalls(agent=agent, calls=calls):
            for call in calls:
                given = ", ".join(f"{k}={v!r}" for k, v in call.args.items())
                yield Line(at=at, who=agent, kind="calls", text=f"{call.name}({given})")
        case events.ToolResult(agent=agent, name=name, output=output, is_error=is_error):
            kind: Kind = "fails" if is_error else "answers"
            yield Line(at=at, who=agent, kind=kind, text=f"{name} {kind}: {output}")
        case events.HandedOff(old_agent=old, new_agent=new) if turn is not None:
            undone = "" if turn.record.handoffs.of(what).happened else " (did not happen)"
            yield Line(at=at, who=old, kind="hands off", text=f"{old} -> {new}{undone}")
        case events.Failed(agent=agent, error=error):
            yield Line(at=at, who=agent, kind="fails", text=f"the model or a node of {agent} failed: {error!r}")
