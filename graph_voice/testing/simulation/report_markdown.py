"""A report as Markdown, for people and for a pull request's page."""

from collections.abc import Iterable, Sequence

from graph_voice.testing.simulation.compare import compare
from graph_voice.testing.simulation.lines import CALLER, Line
from graph_voice.testing.simulation.results import Rate, Results, Run

__all__ = ["markdown", "summary"]


COMPARED = ("", "before", "now", "difference", "95% interval", "")


def markdown(report: Results, earlier: Results | None = None) -> str:
    """The whole report: rates, what was used, and each call that did not pass with its transcript."""
    parts = [
        f"# Simulated calls: {report.graph}",
        summary(report),
        "## Scenarios",
        _table(("scenario", "passed", "share", "95% interval"), (_row(n, r) for n, r in report.scenarios.items())),
    ]
    if report.judges:
        rows = (_row(n, r) for n, r in report.judges.items())
        parts += ["## Judges", _table(("judge", "passed", "share", "95% interval"), rows)]
    if earlier is not None:
        parts += ["## Compared with the earlier report", _table(COMPARED, compare(earlier, report).rows)]
    parts += ["## What it took", _used(report)]
    if report.effects:
        parts += ["## What the tools did", _table(("tool", "times"), ((t, str(n)) for t, n in report.effects.items()))]
    if report.failures:
        parts.append("## Calls that did not pass")
        parts += [_call(run) for run in report.failures]
    return "\n\n".join(parts) + "\n"


def summary(report: Results) -> str:
    """The most important numbers, in a few lines."""
    models = ", ".join(f"{side} {model}" for side, model in report.models.items() if model)
    errors = sum(run.status == "error" for run in report.runs)
    lines = [
        f"**{report.rate}** of the calls passed (95% interval). {report.stopped}".strip(),
        f"Front end {report.front_end}, {report.clock} clock, seed {report.seed}{f'; {models}' if models else ''}.",
    ]
    if errors:
        lines.append(f"{errors} of them could not be played or judged to the end.")
    return "\n".join(lines)


def _used(report: Results) -> str:
    rows = [(f"tokens of the {side}", f"{u.input} read, {u.output} written") for side, u in report.tokens.items()]
    if report.latency:
        told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in report.latency.items())
        rows.append(("seconds to the agents' first words", told))
    rows.append(("seconds of calls", f"{sum(run.seconds for run in report.runs):.0f}"))
    rows.append(("turns of the callers", str(sum(run.turns for run in report.runs))))
    return _table(("", ""), rows)


def _call(run: Run) -> str:
    why = "\n".join(f"- {_inline(reason)}" for reason in run.reasons)
    extra = f" {run.manner}" if run.manner else ""
    return (
        f"### {_inline(run.name)}: {run.status}\n\n{why}\n\n{run.ended or 'It did not begin'}; {run.turns} turns, "
        f"{run.seconds:.0f} seconds.{extra}\n\n{transcript(run.lines)}"
    )


def transcript(lines: Sequence[Line]) -> str:
    """A call's lines as a Markdown list: what was cut off is struck through."""
    return "\n".join(f"- `{line.at:6.1f}s` {_line(line)}" for line in lines)


def _line(line: Line) -> str:
    if line.kind == "says":
        cut = f" ~~{_inline(line.unheard)}~~" if line.unheard else ""
        return f"**{_inline(line.who)}**: {_inline(line.text)}{cut}"
    if line.kind == "note" and line.who == CALLER:
        return f"*the caller {_inline(line.text)}*"
    return f"*{_inline(line.text if line.kind != 'calls' else f'{line.who} calls {line.text}')}*"


def _row(name: str, rate: Rate) -> tuple[str, ...]:
    low, high = rate.interval
    return name, f"{rate.passed} of {rate.total}", f"{rate.share:.0%}", f"{low:.0%} to {high:.0%}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_inline(cell) for cell in row)} |" for row in lines)


def _inline(text: str) -> str:
    """The text in one line, as no Markdown and no HTML."""
    plain = " ".join(text.split())
    for sign in "\\`*_[]|~":
        plain = plain.replace(sign, f"\\{sign}")
    return plain.replace("&", "&amp;").replace("<", "&lt;")
