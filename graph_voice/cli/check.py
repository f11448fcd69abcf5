"""`graph-voice check`: what is wrong with a graph, found without a call."""

import json as _json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from graph_voice.cli.options import SPEAK

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def check(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="path.py:attribute or package.module:attribute; the attribute `graph` is the default.",
        ),
    ],
    speak: Annotated[list[str] | None, typer.Option(metavar="NODE", help=SPEAK)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The findings as a JSON list on stdout.")] = False,
) -> None:
    """Check a graph: agents, tools, handoffs, prompts, models. No model is called.

    Exit codes: 0 without errors, 1 with errors (with --strict also for warnings), 2 for wrong usage.

    Example: graph-voice check graphs/intake.py:graph --strict
    """
    # Imported here, so that the command line itself needs neither LangGraph nor a model's package.
    from graph_voice.checks import Severity, check_file

    with redirect_stdout(sys.stderr):  # what a user's file prints is not a finding
        findings = check_file(graph, speak=speak or ())
    if json:
        sys.stdout.write(_json.dumps([asdict(f) for f in findings], indent=2, ensure_ascii=False) + "\n")
    else:
        console = Console(highlight=False)
        for finding in findings:
            where = f"{finding.where}: " if finding.where else ""
            told = Text.assemble((f"{finding.severity}: ", _STYLES[finding.severity]), where, finding.problem)
            if finding.fix:
                told.append(f"\n  {finding.fix}")
            console.print(told, soft_wrap=True)
        counts = [(sum(f.severity is s for f in findings), s) for s in Severity]
        console.print(", ".join(_counted(n, s) for n, s in counts if n) or "nothing found", soft_wrap=True)
    bad = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(finding.severity in bad for finding in findings):
        raise typer.Exit(1)


def _counted(number: int, severity: str) -> str:
    return f"{number} {severity}{'' if number == 1 or severity == 'info' else 's'}"
