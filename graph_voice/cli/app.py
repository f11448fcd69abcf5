"""The application that typer runs: the library's commands, then those of other distributions."""

import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.main import get_command

from graph_voice.cli.chat import chat
from graph_voice.cli.check import check
from graph_voice.cli.contributed import add_contributed
from graph_voice.cli.draw import draw
from graph_voice.cli.record_test import record_test
from graph_voice.cli.simulate import simulate

_COMMANDS: dict[str, Callable[..., None]] = {
    "chat": chat,
    "check": check,
    "draw": draw,
    "simulate": simulate,
    "record-test": record_test,
}


def command() -> Callable[..., Any]:
    """The command, to be called with `args` and `prog_name`. It is made each time, so it knows what is installed."""
    app = typer.Typer(
        help="Voice agents as LangGraph graphs, spoken by LiveKit.",
        add_completion=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    for name, function in _COMMANDS.items():
        app.command(name)(function)
    add_contributed(app, taken=_COMMANDS)
    return get_command(app)


def report(message: str) -> None:
    """Report on stderr what went wrong, in color only on a terminal. rich respects NO_COLOR."""
    console = Console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"graph-voice {metadata.version('graph-voice')}\n")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    # Nothing to do: `main` removes `--debug` from the arguments. It is declared here so that the help shows it.
    del version, debug
