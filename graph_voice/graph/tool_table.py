"""The tools of one agent as they are now: its own, and what its toolsets have."""

import logging
from collections.abc import Iterator, Sequence

from langchain_core.tools import BaseTool

from graph_voice.agents.agent import Agent, require_tool_name
from graph_voice.agents.cancel_tools import with_cancel_tools
from graph_voice.agents.described_tool import described_tool
from graph_voice.agents.slow_tool import slow_tool
from graph_voice.agents.toolsets_in_use import if_in_use, in_use
from graph_voice.errors import GraphVoiceError
from graph_voice.secrets.arguments import secret_schemas
from graph_voice.turn.nodes_side import NodesSide

__all__ = ["ToolTable"]

logger = logging.getLogger("graph_voice")
_KEPT = 1000
"""How many items of toolsets are kept with the tools that were made of them."""


class ToolTable:
    """The tools of one agent as they are now.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._made: dict[int, tuple[object, BaseTool | None]] = {}
        """What a toolset has given -> the tool that it is; None for what can't be one. Kept, for the sake of the id."""
        self._told: set[tuple[str, str]] = set()
        self._cancel: list[BaseTool] = []
        self.toolset_of: dict[str, str] = {}
        """The name of a toolset's tool -> the toolset's, as it was when the tool was last there."""
        self.seen: dict[str, BaseTool] = {}
        """The toolsets' tools by name, as they were when they were last there."""

    def now(self) -> list[BaseTool]:
        """All of them, as far as they are known. Needs the running event loop, if there are toolsets."""
        agent = self._agent
        if not agent.toolsets:
            return agent.all_tools
        more = list(self._of_toolsets())
        return [*agent.own_tools, *more, *self._that_cancel(more), *agent.transfers]

    async def known(self, turn: NodesSide | None = None) -> list[BaseTool]:
        """All of them. Waits where a toolset is asked for the first time; an interruption ends that."""
        for toolset in self._agent.toolsets:
            if not (used := in_use(toolset)).undecided:
                continue
            if turn is None:
                await used.decided()
                continue
            with turn.cuttable():
                await used.decided()
        return self.now()

    @property
    def undecided(self) -> bool:
        """Whether a toolset has not said its first tools yet."""
        used = [if_in_use(toolset) for toolset in self._agent.toolsets]
        return any(one is None or one.undecided for one in used)

    async def find(self, name: str) -> BaseTool | None:
        """The tool of this name; None if there is none now."""
        found = next((tool for tool in self.now() if tool.name == name), None)
        if found is None and self.undecided:
            found = next((tool for tool in await self.known() if tool.name == name), None)
        return found

    def _of_toolsets(self) -> Iterator[BaseTool]:
        taken = {tool.name: "the agent's own" for tool in self._agent.all_tools}
        for toolset in self._agent.toolsets:
            for item in used.tools if (used := if_in_use(toolset)) is not None else ():
                if (tool := self._tool(item, toolset.name)) is None:
                    continue
                if tool.name in taken:
                    self._tell(toolset.name, tool.name, f"left out, since {taken[tool.name]} has the same name")
                    continue
                taken[tool.name] = f"that of {toolset.name}"
                self.seen[tool.name], self.toolset_of[tool.name] = tool, toolset.name
                yield tool

    def _that_cancel(self, tools: Sequence[BaseTool]) -> list[BaseTool]:
        """What the model needs to cancel one of these, unless the agent has it."""
        cancellable = [tool for tool in tools if getattr(tool, "cancellable", False)]
        if cancellable and not self._cancel:
            self._cancel = with_cancel_tools(cancellable)[len(cancellable) :]
        own = {tool.name for tool in self._agent.own_tools}
        return [tool for tool in self._cancel if tool.name not in own] if cancellable else []

    def _tool(self, item: object, toolset: str) -> BaseTool | None:
        if (found := self._made.get(id(item))) is not None:
            return found[1]
        if len(self._made) >= _KEPT:
            self._made.clear()
        made: BaseTool | None = None
        try:
            made = described_tool(item, where=f"toolset {toolset}")
            require_tool_name(made, where=f"toolset {toolset}")
            slow_tool(made)
            if secret_schemas([made]):
                self._tell(toolset, made.name, "left out, since it takes a secret: list it in tools=[...] itself")
                made = None
        except GraphVoiceError as error:
            logger.error("agent %s: %s", self._agent.name, error)
            made = None
        self._made[id(item)] = (item, made)
        return made

    def _tell(self, toolset: str, tool: str, why: str) -> None:
        if (toolset, tool) not in self._told:
            self._told.add((toolset, tool))
            logger.warning("agent %s, toolset %s: tool %s is %s", self._agent.name, toolset, tool, why)
