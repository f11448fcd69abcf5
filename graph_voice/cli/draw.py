"""`graph-voice draw`: a picture of a graph, made offline."""

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from graph_voice.cli.options import OutputError


class Format(StrEnum):
    """The format of a drawing."""

    SVG = "svg"
    MERMAID = "mermaid"
    ASCII = "ascii"


_BY_SUFFIX = {
    ".svg": Format.SVG,
    ".mmd": Format.MERMAID,
    ".mermaid": Format.MERMAID,
    ".txt": Format.ASCII,
}


def draw(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="path.py:attribute or package.module:attribute; the attribute `graph` is the default.",
        ),
    ],
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="Default: from the output's suffix, or else ascii on a terminal, svg elsewhere.",
        ),
    ] = None,
    agents: Annotated[bool, typer.Option("--agents", help="Only agents and their handoffs.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="Each tool by its name.")] = False,
    active: Annotated[
        str | None, typer.Option("--active", metavar="AGENT", help="Highlight this agent as the active one.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Write to this file instead of stdout."),
    ] = None,
) -> None:
    """Draw a graph: agents, tools and handoffs. Nothing leaves this machine.

    Example: graph-voice draw graphs/intake.py:graph --agents -o intake.svg
    """
    chosen = _chosen(format, output)
    if tools and agents:
        raise typer.BadParameter("--agents leaves the tools out: give one of the two", param_hint="--tools")
    # Imported here, so that the command line itself needs neither LangGraph nor a model's package.
    from graph_voice import drawing
    from graph_voice.launch import loading

    with redirect_stdout(sys.stderr):  # what a user's file prints is not part of the drawing
        target = loading.load_graph(graph)
    draw_as = {Format.SVG: drawing.to_svg, Format.MERMAID: drawing.to_mermaid, Format.ASCII: drawing.to_ascii}
    drawn = draw_as[chosen](target, agents_only=agents, active=active, tools=tools)
    if output is None:
        # Bytes where there are any: SVG is UTF-8 whatever the terminal's locale says.
        sys.stdout.write(drawn) if sys.stdout.isatty() else _write_bytes(drawn)
        return
    try:
        output.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't write {output}: {error.strerror or error}") from error
    sys.stderr.write(f"wrote {output}\n")


def _write_bytes(drawn: str) -> None:
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(drawn)
        return
    sys.stdout.flush()
    buffer.write(drawn.encode())
    buffer.flush()


def _chosen(asked: Format | None, output: Path | None) -> Format:
    on_terminal = output is None and sys.stdout.isatty()
    if asked is Format.SVG and on_terminal:
        raise typer.BadParameter(
            "SVG is not for a terminal: write it to a file with --output graph.svg, or choose --format ascii",
            param_hint="--format",
        )
    if asked is not None:
        return asked
    if on_terminal:
        return Format.ASCII
    if output is None:
        return Format.SVG
    if output.suffix.lower() not in _BY_SUFFIX:
        raise typer.BadParameter(
            f"{output.suffix or 'no suffix'} is not a known format: use {', '.join(_BY_SUFFIX)}, or add --format",
            param_hint="--output",
        )
    return _BY_SUFFIX[output.suffix.lower()]
