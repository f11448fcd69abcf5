"""External agents: names to which a graph hands the floor, and whose agents are somebody else's (the front end's)."""

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage

from graph_voice.agents.handoff import handoff_record
from graph_voice.history.context import carry, view
from graph_voice.turn.turn import Turn, current_turn

__all__ = ["ExternalNode", "become_active"]


class ExternalNode:
    """The node of an external agent: the graph's part of the call ends here, until the front end gives it back."""

    def __init__(self, name: str, agents: frozenset[str]) -> None:
        self.name = name
        self._agents = agents

    async def step(self, state: dict[str, Any]) -> dict[str, Any]:
        """The node: the floor, when an edge leads here; a tool that hands off has taken it already."""
        turn = current_turn.get()
        if turn is not None and turn.interrupted:
            return {}
        return become_active(state, turn, self.name, self._agents, external=True)


def become_active(
    state: Mapping[str, Any], turn: Turn | None, name: str, agents: frozenset[str], *, external: bool = False
) -> dict[str, Any]:
    """What changes when the graph has come to `name` while another agent has the floor: by an edge, without a tool."""
    old = state.get("active_agent") or None
    if old == name:
        return {}
    if old is None or old not in agents:
        return {"active_agent": name}
    messages: list[AnyMessage] = state.get("messages") or []
    # As fresh() does, but with the words that the edge was taken for.
    start = next((i for i in range(len(messages) - 1, -1, -1) if isinstance(messages[i], HumanMessage)), 0)
    record = handoff_record(old, name, None)
    if turn is not None:
        turn.handed_off(None, old, name, shown=messages[start:] if external else ())
    ctx = carry([], messages[:start])
    if waiting := (state.get("chat_ctx") or {}).get("pending"):
        ctx["pending"] = waiting  # what a node on the way here returned is for the agent that comes now
    return {
        "active_agent": name,
        "handoffs": [record],
        "chat_ctx": ctx,
        "contexts": {old: carry(view(state), messages)},
    }
