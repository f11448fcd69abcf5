"""What the model may fill in: a tool with a parameter that JSON can't hold is refused where it is given to an agent."""

import typing
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.pydantic import get_fields
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.tools import as_tool
from graph_voice.errors import BuildError

__all__ = ["described_tool"]


def described_tool(value: Any, *, where: str) -> BaseTool:
    """A LangChain tool made of an item of `Agent(tools=[...])`.

    Raises `BuildError` for what can't be one, and for one that can't be described to a model. `where`: the begin of
    that sentence.
    """
    try:
        tool = as_tool(value, where=where)
    except PydanticUserError as error:
        name = getattr(value, "__name__", repr(value))
        hints = typing.get_type_hints(value, include_extras=True)
        raise _refused(name, {n: kind for n, kind in hints.items() if not _is_context(kind)}, where) from error
    shown: Any = tool.tool_call_schema
    if isinstance(shown, dict):
        return tool
    try:
        shown.model_json_schema()
    except PydanticUserError as error:
        fields = {name: field.annotation for name, field in get_fields(shown).items()}
        raise _refused(tool.name, fields, where) from error
    return tool


def _refused(tool: str, parameters: dict[str, Any], where: str) -> BuildError:
    found = ((name, kind) for name, kind in parameters.items() if name != "return" and not _is_plain(kind))
    name, kind = next(found, ("a parameter", "its type"))
    if _is_context(kind):
        instead = "LangChain's @tool does not know it: write @function_tool."
    else:
        instead = (
            "Write a text, a number, a list, a pydantic model of those, ... What is alive comes by ctx.context, and "
            "LiveKit's own objects by ctx.host."
        )
    return BuildError(f'{where}: tool "{tool}": the model can\'t fill in {name} ({_name_of(kind)}). {instead}')


def _is_context(kind: Any) -> bool:
    return kind is RunContext or typing.get_origin(kind) is RunContext


def _is_plain(kind: Any) -> bool:
    """Whether JSON can hold it."""
    try:
        TypeAdapter(kind).json_schema()
    except PydanticUserError:
        return False
    return True


def _name_of(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
