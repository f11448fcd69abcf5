"""What a program gives as a graph, and what it should have given instead."""

from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from langgraph.pregel.remote import RemoteGraph

from graph_voice.agents.agent import Agent
from graph_voice.errors import BuildError

__all__ = ["as_compiled"]


def as_compiled(graph: Any, where: str) -> Pregel[Any, Any, Any, Any] | RemoteGraph:
    """The compiled graph, or the one that runs on a server. Raises `BuildError` for what is no graph.

    Args:
        graph: what was given.
        where: what it was given to, such as "Conversation".
    """
    if isinstance(graph, StateGraph):
        return graph.compile()
    if isinstance(graph, Pregel | RemoteGraph):
        return graph
    raise BuildError(f"{where}({graph!r:.60}): {_instead(graph, where)}")


def _instead(graph: Any, where: str) -> str:
    if isinstance(graph, PregelProtocol):
        return (
            "it streams like a graph, but is neither a compiled graph nor LangGraph's RemoteGraph. Ask it in a node or "
            "a tool of yours."
        )
    if isinstance(graph, str | Path):
        return (
            f"this is a path. Import the graph, from my_agent import graph, and give it: {where}(graph). Paths are for "
            'the command line and for create_server("my_agent.py:graph").'
        )
    if isinstance(graph, Agent) or (isinstance(graph, type) and issubclass(graph, Agent)):
        return f"an agent is no graph yet: {where}(create_voice_graph([agent]))."
    if isinstance(graph, list | tuple):
        return f"a list of agents is no graph yet: {where}(create_voice_graph([...]))."
    if callable(graph):
        return f"a function is no graph. Call it, if it makes one: {where}(make_graph())."
    return "write what create_voice_graph(...) returned, or any compiled LangGraph graph with a `messages` channel."
