"""Tools of every agent: what `create_voice_graph(tools=[...])` gives each agent of a graph."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.tools import BaseTool

from graph_voice.agents.agent import Agent, require_tool_name
from graph_voice.agents.cancel_tools import with_cancel_tools
from graph_voice.agents.described_tool import described_tool
from graph_voice.agents.handoff import Handoff
from graph_voice.agents.tools import FunctionTool, is_provider_tool
from graph_voice.agents.toolset import Toolset
from graph_voice.errors import BuildError

__all__ = ["SharedTools"]

_WHERE = "create_voice_graph(tools=[...])"


class SharedTools:
    """The tools of every agent of one graph.

    Args:
        tools: as in `Agent(tools=[...])`.

    Raises `BuildError` for what is no tool, and for two tools of one name.
    """

    def __init__(self, tools: Sequence[Any]) -> None:
        if not isinstance(tools, Iterable) or isinstance(tools, str | dict):
            raise BuildError(f"create_voice_graph(tools={tools!r:.60}): write a list, tools=[...].")
        given = [tool for tool in tools if not isinstance(tool, Toolset)]
        self.toolsets = [tool for tool in tools if isinstance(tool, Toolset)]
        """Those whose tools come and go."""
        self.provider_tools = [tool for tool in given if is_provider_tool(tool)]
        """Those that the model's provider runs itself."""
        self.tools: list[BaseTool] = [
            described_tool(tool, where=_WHERE) for tool in given if not is_provider_tool(tool)
        ]
        for index, tool in enumerate(self.tools):
            require_tool_name(tool, where=_WHERE)
            if any(tool.name == other.name for other in self.tools[:index]):
                raise BuildError(f'{_WHERE} has two tools named "{tool.name}"; rename one.')

    def given_to(self, agent: Agent) -> Agent:
        """The agent as a node of this graph: a copy with these tools behind its own. The agent itself stays as it is.

        An agent's own tool of the same name comes first, as an agent's does in LiveKit before the session's. A tool
        that hands off to this agent, or runs it as a task, is for the others. What a tool hands off to, the agent need
        not declare.
        """
        taken = {tool.name for tool in agent.all_tools}
        more = [tool for tool in self.tools if tool.name not in taken and agent.name not in _leads_to(tool)]
        if not more and not self.provider_tools and not self.toolsets:
            return agent
        made = copy.copy(agent)
        made.own_tools = with_cancel_tools([*agent.own_tools, *more])
        made.provider_tools = [
            *agent.provider_tools,
            *(t for t in self.provider_tools if t not in agent.provider_tools),
        ]
        made.toolsets = [*agent.toolsets, *(t for t in self.toolsets if t not in agent.toolsets)]
        made.ways = dict(agent.ways)
        made.declare_tasks()
        for target in (to for tool in more if isinstance(tool, FunctionTool) for to in tool.handoffs):
            made.ways.setdefault(target, Handoff(target, tool=False))
        return made


def _leads_to(tool: BaseTool) -> set[str]:
    """The names of the agents and tasks that a tool hands off to or runs."""
    if not isinstance(tool, FunctionTool):
        return set()
    tasks = [task for given in tool.tasks for task in (given, *getattr(given, "steps", ()))]
    return {*tool.handoffs, *(str(getattr(task, "name", task)) for task in tasks)}
