"""Options that commands share: `--speak`, and `--userdata`, JSON that becomes an instance of the graph's class."""

import json
from typing import Any

from graph_voice.errors import UserdataError

__all__ = ["SPEAK", "userdata_of"]

SPEAK = (
    "A node that speaks, of a graph that doesn't say so itself. Repeatable. Default: the only node that calls a model."
)
"""The help of `--speak`, the same in every command."""


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
    channel = compiled.channels.get("userdata")
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
