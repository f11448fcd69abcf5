"""Mirrors: a graph's tools as LiveKit sees them. Their start is the permission, their result is the graph's own."""

import inspect
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import RunContext, function_tool, llm

if TYPE_CHECKING:
    from graph_voice_livekit.session.bridge import Bridge

__all__ = ["Mirrors"]


class Mirrors:
    """The mirrors of one call. Each is made once: an agent may take the floor many times."""

    def __init__(self, bridge: "Bridge") -> None:
        self._bridge = bridge
        self._made: dict[int, tuple[BaseTool, llm.Tool]] = {}

    def of(self, tools: Iterable[BaseTool]) -> list[llm.Tool]:
        """One for each of these tools."""
        return [self._of(tool) for tool in tools]

    def _of(self, tool: BaseTool) -> llm.Tool:
        if id(tool) not in self._made:
            self._made[id(tool)] = (tool, _make_mirror(self._bridge, tool))
        return self._made[id(tool)][1]


def _make_mirror(bridge: "Bridge", tool: BaseTool) -> llm.Tool:
    """A LiveKit tool with the name and schema of a graph's tool. The body runs in the graph, gated by this one."""
    schema = convert_to_openai_tool(tool)["function"]

    parameters = schema.get("parameters") or {"type": "object", "properties": {}}

    async def mirror(*_: Any, raw_arguments: Any = None, livekit_context: RunContext[Any], **__: Any) -> Any:
        return await bridge.execute(livekit_context)

    mirror.__name__ = mirror.__qualname__ = tool.name
    mirror.__annotations__ |= dict.fromkeys(parameters.get("properties", ()), Any)
    made = function_tool(
        mirror,
        raw_schema={"name": schema["name"], "description": schema.get("description", ""), "parameters": parameters},
    )
    # LiveKit binds a call by the tool's signature, and gives a mock (`mock_tools`) what came of it.
    made.__signature__ = _Arguments.of(parameters)  # type: ignore[attr-defined]
    return made


class _Arguments(inspect.Signature):
    """The signature of a tool that is known by its schema only: a mock is given each argument, as by any other tool."""

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> "_Arguments":
        required = set(schema.get("required", ()))
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        found = [
            inspect.Parameter(name, kind, default=inspect.Parameter.empty if name in required else about.get("default"))
            for name, about in schema.get("properties", {}).items()
            if name.isidentifier()
        ]
        found.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
        return cls([*found, inspect.Parameter("livekit_context", inspect.Parameter.KEYWORD_ONLY)])

    def bind(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """LiveKit's arguments of a tool with a schema, `raw_arguments` and the context, as the tool's own.

        What is missing or too much is not judged here: the graph tells the model of it.
        """
        given = kwargs.get("raw_arguments") or {}
        own = {name: given[name] for name in self.parameters if name in given}
        return inspect.BoundArguments(self, OrderedDict(own, livekit_context=kwargs.get("livekit_context")))
