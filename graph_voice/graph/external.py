"""External agents: a graph hands off to them by name, and the front end runs them."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from graph_voice.graph.agent_runtime import Settings
from graph_voice.graph.arrival import arrive
from graph_voice.turn.turn import current_turn

__all__ = ["ExternalNode"]


class ExternalNode:
    """The node of an external agent. The graph's part of the call ends here until the front end hands back."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._settings = settings

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, Any]:
        """The node: makes the agent active when an edge leads here. After a handoff by a tool it is active already."""
        turn = current_turn.get()
        if turn is not None and turn.interrupted:
            return {}
        arrived = await arrive(state, config, runtime, turn, self.name, self._settings, external=True)
        return arrived.update if arrived is not None else {}
