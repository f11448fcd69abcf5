"""Options that commands share: `--speak`, `--output`, and `--userdata`, JSON that becomes the graph's class."""

import json
from pathlib import Path
from typing import Any

from graph_voice.errors import GraphVoiceError, UserdataError

__all__ = ["SPEAK", "USERDATA", "OutputError", "check_file", "check_folder", "userdata_of"]


class OutputError(GraphVoiceError, OSError):
    """A command can't write its output."""


SPEAK = (
    "A node that speaks, of a graph that doesn't say so itself. Repeatable. Default: the only node that calls a model."
)
"""The help of `--speak`, the same in every command."""
USERDATA = 'What is known about the caller at the start: \'{"name": "Ada"}\'.'
"""The help of `--userdata`, the same in every command."""


def check_file(path: Path) -> None:
    """Raise `OutputError` if this file can't be written later. A file that is there stays as it is."""
    try:
        there = path.exists()
        with path.open("ab"):
            pass
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = f"the folder {path.parent} does not exist" if missing else error.strerror or error
        raise OutputError(f"--output: can't write {path}: {why}. Name another file, or make the folder.") from error
    if not there:
        path.unlink()


def check_folder(path: Path) -> None:
    """Make this folder, with those above it. Raise `OutputError` if files can't be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_file(path / ".writable")
    except FileExistsError as error:
        raise OutputError(f"--output: {path} is a file: name a folder.") from error
    except NotADirectoryError as error:
        raise OutputError(f"--output: can't make the folder {path}: a part of its path is a file.") from error
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"--output: can't make the folder {path}: {error.strerror or error}.") from error


def userdata_of(graph: Any, text: str | None) -> Any:
    """The userdata that a call of this graph begins with. None: the graph's own default.

    Raises `UserdataError` when the text is not a JSON object or does not fit the class, and, without a text, when the
    class has fields that must be given.
    """
    # Imported here, so that the command line itself does not need LangGraph.
    from langgraph.graph import StateGraph
    from pydantic import TypeAdapter, ValidationError

    from graph_voice.userdata.channel import UserdataChannel, explain

    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    channel = getattr(compiled, "channels", {}).get("userdata")  # a graph that runs on a server has none here
    if not isinstance(channel, UserdataChannel):
        if text is not None:
            raise UserdataError("--userdata: this graph has no userdata; leave the option out.")
        return None
    kind = channel.ValueType
    if text is None and channel.is_available():
        return None
    try:
        given = json.loads(text) if text is not None else {}
    except json.JSONDecodeError as error:
        raise UserdataError(
            f"--userdata is not JSON: {error}. Write an object, in quotes for the shell: --userdata '{_example(kind)}'."
        ) from error
    if not isinstance(given, dict):
        raise UserdataError(f"--userdata is not an object: write --userdata '{_example(kind)}'.")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        wanted = "is needed" if text is None else "does not fit"
        raise UserdataError(
            f"--userdata {wanted}, {kind.__name__}: {explain(error)}. Write --userdata '{_example(kind)}'."
        ) from error


def _example(kind: Any) -> str:
    """The fields with their types, as an object."""
    from pydantic import TypeAdapter

    fields = TypeAdapter(kind).json_schema().get("properties", {})
    shown = ", ".join(f'"{name}": ...' for name in fields)
    return "{" + (shown or '"name": "Ada"') + "}"
