"""Mirrors: LiveKit's tools for a graph's tools. Starting one permits the tool call, and the graph gives its result."""

import inspect
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import RunContext, function_tool, llm

__all__ = ["Mirrors"]

Execute = Callable[[RunContext[Any]], Awaitable[Any]]
"""The body of every mirror. It returns what LiveKit takes as the tool's result."""


class Mirrors:
    """The mirrors of one call. Each is made once, however often its agent becomes the active one.

    Args:
        execute: what a mirror does.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._made: dict[int, tuple[BaseTool, llm.Tool]] = {}
        self._missing: dict[str, BaseTool] = {}

    def of(self, tools: Iterable[BaseTool]) -> list[llm.Tool]:
        """The mirrors of these tools."""
        return [self._of(tool) for tool in tools]

    def others(self, tools: Iterable[llm.Tool]) -> list[llm.Tool]:
        """Those that are no mirrors."""
        made = {id(mirror) for _, mirror in self._made.values()}
        return [tool for tool in tools if id(tool) not in made]

    def missing(self, names: Iterable[str], tools: Iterable[llm.Tool], known: Mapping[str, BaseTool]) -> list[llm.Tool]:
        """The mirrors of tools that LiveKit does not have: those of toolsets, which come and go.

        Args:
            names: of the tools that are called.
            tools: those that LiveKit has for this reply.
            known: the toolsets' tools. One that is gone has a mirror too: the graph says so.
        """
        there = llm.ToolContext(list(tools)).function_tools
        return [self._of(known.get(name) or self._gone(name)) for name in dict.fromkeys(names) if name not in there]

    def _gone(self, name: str) -> BaseTool:
        async def gone(**_: Any) -> str:
            raise AssertionError("the graph answers it")

        if name not in self._missing:
            schema = {"type": "object", "properties": {}}
            self._missing[name] = StructuredTool(name=name, description="", args_schema=schema, coroutine=gone)
        return self._missing[name]

    def _of(self, tool: BaseTool) -> llm.Tool:
        if id(tool) not in self._made:
            self._made[id(tool)] = (tool, _make_mirror(self._execute, tool))
        return self._made[id(tool)][1]


def _make_mirror(execute: Execute, tool: BaseTool) -> llm.Tool:
    """A LiveKit tool with the name and schema of a graph's tool, whose body runs in the graph."""
    schema = convert_to_openai_tool(tool)["function"]

    parameters = schema.get("parameters") or {"type": "object", "properties": {}}

    async def mirror(*_: Any, raw_arguments: Any = None, livekit_context: RunContext[Any], **__: Any) -> Any:
        return await execute(livekit_context)

    mirror.__name__ = mirror.__qualname__ = tool.name
    mirror.__annotations__ |= dict.fromkeys(parameters.get("properties", ()), Any)
    made = function_tool(
        mirror,
        raw_schema={"name": schema["name"], "description": schema.get("description", ""), "parameters": parameters},
    )
    # LiveKit binds the arguments by the tool's signature, and calls a mock (`mock_tools`) with them.
    made.__signature__ = _Arguments.of(parameters)  # type: ignore[attr-defined]
    return made


class _Arguments(inspect.Signature):
    """The signature of a tool that has only a schema, so that a mock gets each argument by name."""

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
        """Turn what LiveKit calls such a tool with, `raw_arguments` and the context, into the tool's own arguments.

        Missing and unknown arguments pass: the graph tells the model about them.
        """
        given = kwargs.get("raw_arguments") or {}
        own = {name: given[name] for name in self.parameters if name in given}
        return inspect.BoundArguments(self, OrderedDict(own, livekit_context=kwargs.get("livekit_context")))
