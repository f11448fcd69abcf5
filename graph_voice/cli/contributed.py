"""Commands of other distributions: entry points of the group `graph_voice.commands`, imported when run.

An entry point's name is the command's name, and it leads to a function that typer can register.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from importlib import metadata

import typer
from typer.main import get_command

from graph_voice.errors import MissingDependencyError

GROUP = "graph_voice.commands"


@dataclass(frozen=True)
class _Known:
    """A command that is always shown, whether its extra is installed or not."""

    extra: str
    help: str


_KNOWN = {
    "talk": _Known("offline", "Talk to a graph by voice."),
    "demo": _Known("offline", "Hear a whole call, with speech recognized and synthesized on this machine."),
    "serve": _Known("offline", "Talk to a graph in the browser, and watch what it does."),
}


def add_contributed(app: typer.Typer, *, taken: Container[str]) -> None:
    """Register every contributed command under its name, except for names that are `taken`."""
    found = {entry.name: entry for entry in _entry_points() if entry.name not in taken}
    for name in (*_KNOWN, *sorted(set(found) - set(_KNOWN))):
        known = _KNOWN.get(name)
        app.command(
            name,
            help=known.help if known else f"Added by {_distribution(found[name])}.",
            # The function is not imported yet, so its arguments, `--help` among them, go through as they are.
            add_help_option=False,
            context_settings={
                "allow_extra_args": True,
                "allow_interspersed_args": False,
                "ignore_unknown_options": True,
                "help_option_names": [],
            },
        )(_runner(name, found.get(name)))


def _entry_points() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUP)


def _distribution(entry: metadata.EntryPoint | None) -> str:
    return entry.dist.name if entry is not None and entry.dist is not None else "another distribution"


def _runner(name: str, entry: metadata.EntryPoint | None) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["--help", "-h"]})
        app.command(name)(_function(name, entry))
        get_command(app)(args=context.args, prog_name=f"graph-voice {name}")

    return run


def _function(name: str, entry: metadata.EntryPoint | None) -> Callable[..., None]:
    known = _KNOWN.get(name)
    if known:
        cure = f'Install it with: pip install "graph-voice[{known.extra}]"'
    else:
        cure = f"Reinstall the package that adds it: {_distribution(entry)}."
    if entry is None:
        raise MissingDependencyError(f"`graph-voice {name}` is not installed. {cure}")
    try:
        function = entry.load()
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(f"`graph-voice {name}` can't be loaded: {error}. {cure}") from error
    if not callable(function):
        raise MissingDependencyError(f"`graph-voice {name}` is not a function: {entry.value}. {cure}")
    return function  # type: ignore[no-any-return]  # only typer can tell whether it can register this
