"""LiveKit's own tools that a graph's models may call: the session's, its MCP servers', and those of `update_tools`.

LiveKit runs them, as it runs any tool of its own: past the graph, whose model is told the result.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from livekit.agents import llm

from graph_voice.errors import BuildError

__all__ = ["HostTools", "ToolsetMirror", "require_livekits"]


class ToolsetMirror(llm.Toolset):
    """A toolset of the graph among the tools of LiveKit's agent, so that the program can leave it out (`update_tools`).
    LiveKit knows its tools when they are called: `Mirrors.missing`."""

    def __init__(self, name: str) -> None:
        super().__init__(id=f"graph_voice.{name}")
        self.name = name


class HostTools:
    """The LiveKit tools of one call, as the graph's models are offered them.

    Args:
        toolset_of: agent and tool -> the name of the graph's toolset that the tool is of; None if it is of none.
    """

    def __init__(self, toolset_of: Callable[[str, str], str | None] = lambda agent, tool: None) -> None:
        self._toolset_of = toolset_of
        self._session: list[llm.Tool | llm.Toolset] = []
        self._seen: dict[str, llm.Tool] = {}
        """By name: what LiveKit has offered beyond the session's and the agents' tools (its MCP servers' tools)."""
        self._updated: dict[str, list[llm.Tool | llm.Toolset]] = {}
        """Agent -> its tools, if the program has updated them."""
        self._offered: dict[str, frozenset[str]] = {}
        """Agent -> the names of LiveKit's tools that its model was offered last."""
        self._made: dict[int, tuple[llm.Tool, BaseTool]] = {}

    def bind(self, session_tools: list[llm.Tool | llm.Toolset]) -> None:
        """The call has this session. The list is the session's own, which may grow."""
        self._session = session_tools

    def update(self, agent: str, tools: Sequence[llm.Tool | llm.Toolset] | None) -> None:
        """The program has given this agent these tools. None: the agent begins anew, with its own."""
        self._updated.pop(agent, None)
        if tools is not None:
            self._updated[agent] = list(tools)

    def seen(self, tools: Iterable[llm.Tool], known: Iterable[llm.Tool | llm.Toolset]) -> None:
        """LiveKit offers these tools for a reply, of which the session and the agent declare `known`."""
        declared = {tool.id for tool in llm.ToolContext([*self._session, *known]).flatten()}
        self._seen |= {tool.id: tool for tool in tools if tool.id not in declared}

    def offered(self, agent: str, own: Sequence[BaseTool]) -> list[BaseTool]:
        """What this agent's model may call, if the agent declares `own`."""
        updated = self._updated.get(agent)
        extra = [*(updated or ()), *self._session]
        found = {tool.id: tool for tool in llm.ToolContext(_distinct(extra)).flatten()} | self._seen
        if updated is not None:
            kept = {tool.name for tool in updated if isinstance(tool, ToolsetMirror)}
            own = [tool for tool in own if tool.name in found or self._toolset_of(agent, tool.name) in kept]
        taken = {tool.name for tool in own}
        theirs = [self._as_tool(tool) for name, tool in found.items() if name not in taken and _is_function(tool)]
        self._offered[agent] = frozenset(tool.name for tool in theirs)
        return [*own, *theirs]

    def runs(self, agent: str, name: str) -> bool:
        """Whether this agent's tool call is one of LiveKit's own tools."""
        return name in self._offered.get(agent, ())

    def _as_tool(self, tool: llm.Tool) -> BaseTool:
        if id(tool) not in self._made:
            self._made[id(tool)] = (tool, _described(tool))
        return self._made[id(tool)][1]


def require_livekits(where: str, tools: Iterable[Any]) -> None:
    """Raise `BuildError` for tools that LiveKit can't run for a graph."""
    for tool in tools:
        name = getattr(tool, "name", None) or getattr(tool, "id", None) or getattr(tool, "__name__", None) or str(tool)
        if isinstance(tool, llm.ProviderTool):
            raise BuildError(
                f"{where}: {name} is run by the provider of LiveKit's own model, and a graph's models are LangChain's. "
                'Write it as they take it, in the graph: Agent(..., tools=[{"type": "web_search"}]).'
            )
        if not isinstance(tool, llm.Tool | llm.Toolset):
            raise BuildError(
                f"{where}: {name} is no tool of LiveKit's. Declare it in the graph: Agent(..., tools=[...])."
            )


def _distinct(tools: Iterable[llm.Tool | llm.Toolset]) -> list[llm.Tool | llm.Toolset]:
    """Each tool once: LiveKit refuses two of the same name. An agent's are first."""
    found: dict[str, llm.Tool | llm.Toolset] = {}
    for tool in tools:
        found.setdefault(tool.id, tool)
    return list(found.values())


def _is_function(tool: llm.Tool) -> bool:
    return isinstance(tool, llm.FunctionTool | llm.RawFunctionTool)


def _described(tool: llm.Tool) -> BaseTool:
    """What a model is told of LiveKit's tool. It is never run: the front end answers its tool calls."""
    (made,) = llm.ToolContext([tool]).parse_function_tools("openai", strict=False)
    about = made["function"]

    async def run(**_: Any) -> str:
        raise AssertionError("LiveKit runs it")

    return StructuredTool(
        name=about["name"],
        description=about.get("description") or "",
        args_schema=about.get("parameters") or {"type": "object", "properties": {}},
        coroutine=run,
    )
