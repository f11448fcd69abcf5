"""The application that typer runs: our own commands, then those of other distributions."""

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

_COMMANDS: dict[str, Callable[..., None]] = {"chat": chat, "check": check, "draw": draw}


def command() -> Callable[..., Any]:
    """What is called with `args` and `prog_name`. Made anew each time: it knows what is installed now."""
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
    """Tell what went wrong on stderr, in colour only on a terminal. NO_COLOR is honoured by rich."""
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
    # Nothing to do: `main` takes `--debug` out of the arguments; it stands here to be seen in the help.
    del version, debug
