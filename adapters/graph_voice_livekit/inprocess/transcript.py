"""The log of a call for people: a Markdown file, and lines on the terminal while the call goes on."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from graph_voice_livekit.inprocess.entries import CALLER, CallLog, Handoff, Latency, LogEntry, Note, ToolCall, Utterance
from graph_voice_livekit.inprocess.palette import colors

__all__ = ["LivePrinter", "transcript", "write_transcript"]

NO_SPEECH = "no speech was recognized"


def stamp(seconds: float) -> str:
    """Call seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def write_transcript(log: CallLog, path: str | Path, *, title: str = "Call") -> Path:
    """Write `transcript` to a file."""
    path = Path(path)
    path.write_text(transcript(log, title=title), encoding="utf-8")
    return path


def transcript(log: CallLog, *, title: str = "Call") -> str:
    """The call as Markdown: who said what when; interruptions, handoffs and tool calls in their place."""
    lines = [f"# {title}", "", _headline(log), ""]
    if any(isinstance(entry, Utterance | Handoff | ToolCall | Note) for entry in log.entries):
        lines += ["| time | who | what |", "|---:|:---|:---|"]
        lines += [_row(entry) for entry in log.entries if not isinstance(entry, Latency)]
        lines.append("")
    if not any(entry.speaker == CALLER and entry.text for entry in log.utterances):
        lines += [f"Of the caller {NO_SPEECH}.", ""]
    lines += _latencies(log.latencies)
    lines += _summary(log)
    return "\n".join(lines).rstrip() + "\n"


def _headline(log: CallLog) -> str:
    parts = [f"{log.duration:.1f} s"]
    if log.agents:
        parts.append("agents: " + ", ".join(log.agents))
    parts += [f"{key}: {value}" for key, value in log.extra.items()]
    return " · ".join(parts)


def _row(entry: Utterance | Handoff | ToolCall | Note) -> str:
    time = stamp(entry.at)
    match entry:
        case Utterance():
            name = _cell(entry.speaker)
            who = name if entry.speaker == CALLER else f"**{name}**"
            return f"| {time} | {who} | {_words(entry)} |"
        case Handoff():
            return f"| {time} | ⇒ | *handoff from {_cell(entry.old_agent)} to {_cell(entry.new_agent)}* |"
        case ToolCall():
            return f"| {time} | ⚙ {_cell(entry.agent)} | {_tool(entry)} |"
        case Note():
            return f"| {time} | ⚠ | *{entry.kind}: {_cell(entry.text)}* |"


def _words(entry: Utterance) -> str:
    if entry.speaker == CALLER:
        if entry.said is None:
            words = _cell(entry.text)
        else:
            words = _cell(entry.said)
            if _plain(entry.said) != _plain(entry.text):
                words += f" *(recognized: {_cell(entry.text) or 'nothing'})*"
        return words + (" **[lost: nobody answered]**" if entry.lost else "")
    if not entry.interrupted:
        return _cell(entry.text)
    if entry.dropped:
        return f"**[dropped before its first sound]** ~~{_cell(entry.unheard)}~~".removesuffix(" ~~~~")
    words = f"{_cell(entry.text) or '…'} **[interrupted at {stamp(entry.ended)}]**"
    return words + (f" ~~{_cell(entry.unheard)}~~" if entry.unheard else "")


def _tool(call: ToolCall) -> str:
    text = f"`{call.name}({_arguments(call)})`"
    if call.ended is None:
        return text + " *did not end within the call*"
    if call.output:
        text += " failed: " if call.is_error else " → "
        text += _cell(call.output)
    elif call.is_error:
        text += " failed"
    return f"{text} *({call.ended - call.started:.1f} s)*"


def _arguments(call: ToolCall) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in call.arguments.items()).replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("~", "\\~")


def _plain(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum() or char == " ").strip()


def _latencies(latencies: list[Latency]) -> list[str]:
    if not latencies:
        return []
    lines = [
        "## From the caller's last word to the first sound of the answer",
        "",
        "| asked at | answered by | " + " | ".join(latencies[0].stages) + " | total |",
        "|---:|:---|" + "---:|" * (len(latencies[0].stages) + 1),
    ]
    for each in latencies:
        stages = " | ".join(f"{value:.2f}" for value in each.stages.values())
        lines.append(f"| {stamp(each.end_of_speech)} | {_cell(each.speaker)} | {stages} | **{each.total:.2f} s** |")
    return [
        *lines,
        "",
        "In seconds, one after the other: the silence until speech counts as ended, its recognition, the decision"
        " that the turn is over, an earlier reply that was still heard, tools, the model (with handoffs), the voice."
        " What ran ahead meanwhile (a model that began before the decision) is not counted twice.",
        "",
    ]


def _summary(log: CallLog) -> list[str]:
    caller = [entry for entry in log.utterances if entry.speaker == CALLER]
    agents = [entry for entry in log.utterances if entry.speaker != CALLER and not entry.dropped]
    lines = ["## Summary", ""]
    lines.append(f"- {len(caller)} utterances of the caller ({_spoken(caller):.1f} s of speech)")
    for name in log.agents:
        own = [entry for entry in agents if entry.speaker == name]
        lines.append(f"- {len(own)} of {name} ({_spoken(own):.1f} s)")
    interrupted = [entry for entry in agents if entry.interrupted]
    if dropped := sum(entry.dropped for entry in log.utterances):
        lines.append(f"- {dropped} dropped before their first sound, because the caller spoke again")
    lines.append(
        f"- {len(interrupted)} interrupted; {len(log.handoffs)} handoffs; {len(log.tool_calls)} tool calls,"
        f" {sum(call.is_error for call in log.tool_calls)} of them failed"
    )
    if log.latencies:
        totals = [each.total for each in log.latencies]
        lines.append(
            f"- answer after {statistics.median(totals):.2f} s (median of {len(totals)};"
            f" {min(totals):.2f} to {max(totals):.2f})"
        )
    if interrupted:
        lines.append(
            "- where a reply was interrupted, its words are those LiveKit counts as heard: exact if the voice"
            " reports the time of each word, else estimated from its pace"
        )
    return lines


def _spoken(entries: Iterable[Utterance]) -> float:
    return sum(entry.ended - entry.started for entry in entries)


class LivePrinter:
    """Prints each entry of a call as it is completed; in color where the terminal has some.

    Args:
        console: where to; standard output by default.
        agents: the names of the graph's agents in its order, which is that of their colors.
    """

    def __init__(self, console: Console | None = None, agents: Sequence[str] = ()) -> None:
        self._console = console or Console(highlight=False)
        self._agents: list[str] = list(agents)

    def __call__(self, entry: LogEntry) -> None:
        match entry:
            case Utterance():
                self._print(entry.at, entry.speaker, self._words(entry), f"bold {self._color(entry.speaker)}")
            case Handoff():
                text = Text.assemble(entry.old_agent, " ⇒ ", (entry.new_agent, self._color(entry.new_agent)))
                self._print(entry.at, "handoff", text)
            case ToolCall():
                output = f" → {entry.output}" if entry.output else ""
                style = "red" if entry.is_error else "dim"
                self._print(entry.at, "tool", Text(f"{entry.name}({_arguments(entry)}){output}", style=style))
            case Latency():
                stages = ", ".join(f"{name} {value:.2f}" for name, value in entry.stages.items())
                self._print(entry.at, "", Text(f"answered after {entry.total:.2f} s ({stages})", style="dim"))
            case Note():
                self._print(entry.at, entry.kind, Text(entry.text, style="yellow"))

    def _words(self, entry: Utterance) -> Text:
        text = Text(entry.text if entry.said is None else entry.said)
        if entry.said is not None and _plain(entry.said) != _plain(entry.text):
            text.append(f" (recognized: {entry.text or 'nothing'})", style="dim")
        if entry.interrupted:
            text.append("[dropped before its first sound]" if entry.dropped else " [interrupted]", style="bold red")
            text.append(f" {entry.unheard}", style="dim strike")
        if entry.lost:
            text.append(" [lost]", style="bold red")
        return text

    def _color(self, speaker: str) -> str:
        if speaker != CALLER and speaker not in self._agents:
            self._agents.append(speaker)
        return colors(self._agents, dark=True)[speaker]

    def _print(self, at: float, who: str, text: Text, style: str = "dim") -> None:
        line = Text.assemble((f"{stamp(at):>7} ", "dim"), (f"{who:>14} ", style), text)
        self._console.print(line, soft_wrap=True)
