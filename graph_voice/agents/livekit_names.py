"""LiveKit's names in a graph: both libraries have `Agent`, `function_tool`, `RunContext`, `ToolError`, `StopResponse`.

Whoever comes from LiveKit writes the wrong one sooner or later. What a graph can honor is honored; the rest is refused
where it is written, with the line to write instead. The classes are told by their names: the core knows no LiveKit.
"""

import traceback
from typing import Any

__all__ = ["awaited_task", "is_livekit", "refused_servers", "refused_task", "refused_tool"]


def is_livekit(value: Any, *names: str) -> bool:
    """Whether this is an instance of one of LiveKit's classes with these names, or such a class itself."""
    kind = value if isinstance(value, type) else type(value)
    return any(c.__module__.startswith("livekit.") and c.__name__ in names for c in kind.__mro__)


def refused_tool(value: Any) -> str | None:
    """Why this is no tool of a graph, when LiveKit's `function_tool` has made it; else None."""
    if (why := refused_task(value)) is not None:
        return why
    if isinstance(value, type) and getattr(value, "is_graph_agent", False):
        return f"{value.__name__} is a class. Write the task itself, tools=[{value.__name__}()]."
    if is_livekit(value, "MCPServer", "MCPToolset"):
        return f"{type(value).__name__} is LiveKit's, and runs past the graph. Write {_as_mcp_server(value)}."
    if is_livekit(value, "Toolset"):
        return (
            f"{type(value).__name__} is a toolset of LiveKit's, and runs past the graph. Write a subclass of "
            "graph_voice.Toolset, whose tools are LangChain's or @function_tool functions."
        )
    if is_livekit(value, "FunctionTool", "RawFunctionTool", "ProviderTool"):
        name = getattr(getattr(value, "info", None), "name", None) or getattr(value, "id", None) or "it"
        return (
            f"{name} is a tool of LiveKit's (livekit.agents.function_tool), which runs past the graph. Write "
            "`from graph_voice import function_tool`; the function may stay as it is. A raw schema becomes "
            "LangChain's `StructuredTool.from_function(..., args_schema={...})`."
        )
    return None


def refused_servers(servers: Any) -> str:
    """Why an agent of a graph has no `mcp_servers=[...]`."""
    found = servers if isinstance(servers, list | tuple) else [servers]
    return f"mcp_servers= is LiveKit's. Write tools=[{', '.join(map(_as_mcp_server, found)) or 'McpServer({...})'}]."


def _as_mcp_server(value: Any) -> str:
    """The line to write for a server of LiveKit's. Headers and the environment may hold keys, and are not repeated."""
    if isinstance(url := getattr(value, "url", None), str):
        more = ', "headers": {...}' if getattr(value, "headers", None) else ""
        return f'McpServer({{"url": "{url.partition("?")[0]}"{more}}})'
    if isinstance(command := getattr(value, "command", None), str):
        return f'McpServer({{"command": "{command}", "args": [...]}})'
    return "McpServer({...})"


def refused_task(value: Any) -> str | None:
    """Why this is no task of a graph, when it is LiveKit's `AgentTask`; else None."""
    if not is_livekit(value, "AgentTask"):
        return None
    name = (value if isinstance(value, type) else type(value)).__name__
    return (
        f"{name} is LiveKit's AgentTask: what awaits it is not in the graph's state. Write a graph_voice.Task and "
        "`await ctx.run_task(task)` (graph_voice.tasks has ready-made ones), or let LiveKit run this one: "
        'create_voice_graph(..., external_tasks={"name": Result}), `await ctx.run_task("name")` and '
        f'GraphAgent(graph, tasks={{"name": lambda run: {name}(...)}}).'
    )


def awaited_task(error: BaseException) -> str | None:
    """Why a tool or a hook has failed, when it has awaited LiveKit's `AgentTask`; else None."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).startswith("livekit."):
            return refused_task(frame.f_locals.get("self"))
    return None
