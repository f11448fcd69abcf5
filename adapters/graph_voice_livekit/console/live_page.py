"""How a graph of this program is opened in the live page: the command to write. Nothing is started."""

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from graph_voice.launch.loading import DEFAULT_ATTRIBUTE

__all__ = ["PORT", "ServeCommand", "serve_command"]

PORT = 8484
"""Where the live page listens, if nothing else is said."""
_FILE = "my_agent.py"
"""Stands for the file that a notebook's cells are to be written to."""


@dataclass(frozen=True)
class ServeCommand:
    """What to write into a terminal."""

    text: str
    from_file: bool
    """Whether the graph's file is there already."""

    def html(self) -> str:
        """The command in a sentence."""
        page = f'<a href="http://127.0.0.1:{PORT}/">the live page</a>'
        first = "" if self.from_file else f"Write these cells to a file (<code>%%writefile {_FILE}</code>). "
        return (
            f"<p>{first}In a terminal, <code>{escape(self.text)}</code> opens {page}: talk to the graph there, "
            "and watch what it does.</p>"
        )


def serve_command(graph: Any) -> ServeCommand:
    """The command that opens this graph in the live page. Its file is found by looking who has the graph."""
    found = sorted(_owners(graph), key=lambda owner: (owner[0] is None, owner[1] != DEFAULT_ATTRIBUTE))
    file, name = found[0] if found else (None, DEFAULT_ATTRIBUTE)
    place = _FILE if file is None else _shown(file)
    spec = place if name == DEFAULT_ATTRIBUTE else f"{place}:{name}"
    return ServeCommand(f"graph-voice serve {shlex.quote(spec)}", file is not None)


def _owners(graph: Any) -> Iterator[tuple[Path | None, str]]:
    """The file and the name of each module's attribute that is this graph, compiled or not. No file: a notebook."""
    wanted = _builder(graph)
    for module in tuple(sys.modules.values()):
        if not issubclass(type(module), ModuleType):
            continue
        for name, value in tuple(vars(module).items()):
            # Names with an underscore are a notebook's own: its last outputs.
            if not name.startswith("_") and _is_graph(value) and (value is graph or _builder(value) is wanted):
                yield _file(module), name


def _is_graph(value: Any) -> bool:
    return issubclass(type(value), StateGraph | Pregel)  # by its type: a lazy object is not woken


def _builder(graph: Any) -> Any:
    return getattr(graph, "builder", graph)


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) and file.endswith(".py") and Path(file).is_file() else None


def _shown(file: Path) -> str:
    try:
        return Path(os.path.relpath(file)).as_posix()
    except ValueError:  # on another drive
        return str(file)
