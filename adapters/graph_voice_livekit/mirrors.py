"""Mirrors: a graph's tools as LiveKit sees them. Their start is the permission, their result is the graph's own."""

from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import RunContext, function_tool, llm

if TYPE_CHECKING:
    from graph_voice_livekit.bridge import Bridge

__all__ = ["make_mirror"]


def make_mirror(bridge: "Bridge", tool: BaseTool) -> llm.Tool:
    """A LiveKit tool with the name and schema of a graph's tool. The body runs in the graph, gated by this one."""
    schema = convert_to_openai_tool(tool)["function"]

    async def mirror(raw_arguments: dict[str, object], context: RunContext[Any]) -> Any:
        return await bridge.execute(context)

    mirror.__name__ = mirror.__qualname__ = tool.name
    return function_tool(
        mirror,
        raw_schema={
            "name": schema["name"],
            "description": schema.get("description", ""),
            "parameters": schema.get("parameters") or {"type": "object", "properties": {}},
        },
    )
