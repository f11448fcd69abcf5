"""The tools with which a model cancels a tool that runs (`@function_tool(cancellable=True)`). LiveKit's, by name."""

from collections.abc import Sequence
from typing import Any

from langchain_core.tools import BaseTool

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import as_tool, function_tool

__all__ = ["with_cancel_tools"]


@function_tool(name="lk_agents_cancel_task")
async def cancel_task(ctx: RunContext[Any], call_id: str) -> str:
    """Cancel a running tool call by call_id."""
    if (why := await ctx.running_tools.cancel(call_id)) is not None:
        raise ToolError(why)
    return f"Task {call_id} cancelled successfully."


@function_tool(name="lk_agents_get_running_tasks")
async def get_running_tasks(ctx: RunContext[Any]) -> list[dict[str, Any]]:
    """Get the list of running tool calls that are cancellable."""
    return [tool.dump() for tool in ctx.running_tools.cancellable]


def with_cancel_tools(tools: Sequence[BaseTool]) -> list[BaseTool]:
    """An agent's tools, and, if one of them is cancellable, those that cancel it."""
    names = {tool.name for tool in tools}
    made = [as_tool(tool) for tool in (cancel_task, get_running_tasks)]
    more = made if any(getattr(tool, "cancellable", False) for tool in tools) else []
    return [*tools, *(tool for tool in more if tool.name not in names)]
