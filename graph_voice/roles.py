"""Who is who in a graph: which nodes are ours, which speak, and whether a run may start before the turn is certain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from graph_voice.agent_runtime import Settings
from graph_voice.errors import BuildError
from graph_voice.graph import METADATA, runtime_of

__all__ = ["Roles"]


@dataclass(frozen=True)
class _Node:
    agent: str | None
    """The agent whose node, or whose tools' node, this is."""
    start: bool
    ours: bool
    speaks: bool
    speculative: bool


class Roles:
    """The nodes of a compiled graph, as their metadata and `speak` describe them.

    Args:
        graph: a compiled graph.
        speak: nodes that speak, besides those whose metadata says so.

    Raises `BuildError` for an unknown name in `speak`, and when nobody speaks.
    """

    def __init__(self, graph: Pregel[Any, Any, Any, Any], speak: Sequence[str]) -> None:
        self.nodes: dict[str, _Node] = {}
        for name, node in graph.nodes.items():
            if name.startswith("__"):
                continue
            metadata = node.metadata or {}
            about = metadata.get(METADATA) or {}
            self.nodes[name] = _Node(
                agent=about.get("agent") or about.get("tools_of"),
                ours=("agent" in about and not about.get("subgraph")) or "tools_of" in about,
                start=bool(about.get("start")),
                speaks=bool(metadata.get("speak")) or name in speak,
                speculative=bool(metadata.get("speculative")),
            )
        unknown = set(speak) - set(self.nodes)
        if unknown:
            raise BuildError(f"speak={sorted(unknown)}: the graph's nodes are {', '.join(self.nodes)}.")
        if not any(node.speaks for node in self.nodes.values()):
            raise BuildError(
                'Nobody speaks in this graph: name the nodes, speak=["agent"]. Nodes: ' + ", ".join(self.nodes)
            )
        self.agents = frozenset(name for name, node in self.nodes.items() if node.agent == name)
        self.foreign_speakers = frozenset(n for n, node in self.nodes.items() if node.speaks and not node.ours)
        self.may_speculate = all(node.ours or node.speculative for node in self.nodes.values())
        self.start = next((name for name, node in self.nodes.items() if node.start), None)
        self.apology = next((r.settings.apology for n in self.agents if (r := runtime_of(graph, n))), Settings.apology)
        self._tool_nodes = {
            (namespace, name)
            for namespace, inner in graph.get_subgraphs(recurse=True)
            for name, node in getattr(inner, "nodes", {}).items()
            if isinstance(node.bound, ToolNode)
        }

    def is_ours(self, name: str) -> bool:
        return (node := self.nodes.get(name)) is not None and node.ours

    def agent_of(self, name: str) -> str | None:
        """The agent whose node this is; None for a node that is not ours."""
        return node.agent if (node := self.nodes.get(name)) is not None and node.ours else None

    def speaker(self, path: Sequence[str]) -> str | None:
        """The speaking node that is not ours to which these words belong; None when they are not speech.

        Args:
            path: node names from the graph's own down to the one that ran the model, through its subgraphs.
        """
        if not path or path[0] not in self.foreign_speakers:
            return None
        # A tool of an inner agent may call a model for its own purposes.
        return None if ("|".join(path[:-1]), path[-1]) in self._tool_nodes else path[0]
