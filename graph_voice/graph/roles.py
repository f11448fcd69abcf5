"""The roles of a graph's nodes: library or custom, who speaks, and whether a run may start before the commit."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.graph import StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from graph_voice.errors import BuildError
from graph_voice.graph.agent_runtime import Apology, Settings
from graph_voice.graph.build import GO_ON, METADATA, refuse_voice_graph, runtime_of
from graph_voice.graph.speakers import could_speak, named_inside

__all__ = ["Roles"]

_HOOKS = {"before_agent", "before_model", "after_model", "after_agent"}


@dataclass(frozen=True)
class _Node:
    agent: str | None
    """The agent whose node or tool node this is."""
    start: bool
    is_library: bool
    speaks: bool
    speculative: bool
    silent: bool
    external: bool
    external_task: bool


class Roles:
    """The nodes of a compiled graph, as their metadata and `speak` describe them.

    Args:
        graph: a compiled graph.
        speak: nodes that speak, besides those whose metadata says so.
        silent: nodes with which a turn may end without speech, besides those whose metadata says so.

    Raises `BuildError` for an unknown name in `speak` or `silent`, when no node speaks, and for a voice graph as a node
    of a graph with the same channels.
    """

    def __init__(self, graph: Pregel[Any, Any, Any, Any], speak: Sequence[str], silent: Sequence[str] = ()) -> None:
        self.nodes: dict[str, _Node] = {}
        for name, node in graph.nodes.items():
            if name.startswith("__"):
                continue
            if "active_agent" in graph.channels:
                refuse_voice_graph(name, node.bound)
            metadata = node.metadata or {}
            about = metadata.get(METADATA) or {}
            self.nodes[name] = _Node(
                agent=about.get("agent") or about.get("tools_of"),
                is_library=("agent" in about and not about.get("subgraph"))
                or "tools_of" in about
                or "external" in about,
                external=bool(about.get("external")),
                external_task=bool(about.get("external_task")),
                start=bool(about.get("start")),
                speaks=bool(metadata.get("speak")) or name in speak,
                speculative=bool(metadata.get("speculative")),
                silent=bool(metadata.get("silent")) or name in silent,
            )
        for what, names in (("speak", speak), ("silent", silent)):
            _refuse_unknown(graph, what, names, self.nodes)
        for name in speak:
            if isinstance(graph.nodes[name].bound, ToolNode):
                raise BuildError(f"speak={[name]}: this node runs tools, whose results are not speech. {_hint(graph)}")
        if not any(node.speaks for node in self.nodes.values()):
            raise BuildError(f"Nobody speaks in this graph. {_hint(graph)} Its nodes are {', '.join(self.nodes)}.")
        self.agents = frozenset(name for name, node in self.nodes.items() if node.agent == name)
        self.external = frozenset(name for name, node in self.nodes.items() if node.external)
        """External agents, which the front end defines."""
        self.external_tasks = frozenset(name for name, node in self.nodes.items() if node.external_task)
        """Tasks that the front end runs."""
        self.custom_speakers = frozenset(n for n, node in self.nodes.items() if node.speaks and not node.is_library)
        self.takers = frozenset(n for n in self.agents if (r := runtime_of(graph, n)) and r.secret_schemas)
        """Agents with a tool that takes a secret."""
        self.may_speculate = all(node.is_library or node.speculative for node in self.nodes.values())
        self.subgraphs = frozenset(name for name in self.custom_speakers if isinstance(graph.nodes[name].bound, Pregel))
        """Custom nodes that speak and are whole graphs: what their nodes write is part of the conversation."""
        self.all_library = all(node.is_library for node in self.nodes.values())
        self.retries = any(
            node.retry_policy
            for inner in (graph, *(g for _, g in graph.get_subgraphs(recurse=True)))
            for node in getattr(inner, "nodes", {}).values()
        )
        """Whether LangGraph runs a node again that has failed."""
        self._next = _targets(graph)
        self.start = next((name for name, node in self.nodes.items() if node.start), None)
        self.apology: Apology = next(
            (r.settings.apology for n in self.agents if (r := runtime_of(graph, n))), Settings.apology
        )
        self._tool_nodes = {
            (namespace, name)
            for namespace, inner in graph.get_subgraphs(recurse=True)
            for name, node in getattr(inner, "nodes", {}).items()
            if isinstance(node.bound, ToolNode) or "tools_of" in ((node.metadata or {}).get(METADATA) or {})
        }

    def acts_behind(self, name: str) -> bool:
        """Whether an edge leads from this node to a custom one that may act (that is not declared `speculative`).

        The edges of transfers don't count: a transfer waits until it may happen.
        """
        acting = {n for n, node in self.nodes.items() if not node.is_library and not node.speculative}
        return bool(acting & self._next.get(name, acting))

    def may_be_silent(self, name: str) -> bool:
        """Whether a turn may end with this node without speech."""
        return (node := self.nodes.get(name)) is not None and node.silent

    def is_library(self, name: str) -> bool:
        return (node := self.nodes.get(name)) is not None and node.is_library

    def agent_of(self, name: str) -> str | None:
        """The agent whose node this is; None for a custom node."""
        return node.agent if (node := self.nodes.get(name)) is not None and node.is_library else None

    @staticmethod
    def is_hook(path: Sequence[str]) -> bool:
        """Whether this is a hook of a middleware in a `create_agent` graph. What a model says there is for the
        middleware (a summary, a check); what the hook returns is the agent's."""
        return any(name.partition(".")[2] in _HOOKS for name in path)

    def speaker(self, path: Sequence[str]) -> str | None:
        """The custom node that speaks these words; None when they are not speech.

        Args:
            path: node names, from the graph's own node through its subgraphs to the one that ran the model.
        """
        if not path or path[0] not in self.custom_speakers:
            return None
        # A tool of an inner agent may call a model, or a whole graph, for its own purposes.
        nodes = [name for name in path if not name.isdigit()]  # LangGraph numbers the graphs that one node runs
        inside = any(("|".join(nodes[:end]), name) in self._tool_nodes for end, name in enumerate(nodes))
        return None if inside else nodes[0]


def _targets(graph: Pregel[Any, Any, Any, Any]) -> dict[str, set[str]]:
    """Node -> the nodes to which its edges lead, without those from an agent to its tools and its transfers' targets.

    A node whose way only its code knows is missing.
    """
    builder = getattr(graph, "builder", None)
    if not isinstance(builder, StateGraph):
        return {}
    found: dict[str, set[str]] = {name: set() for name in builder.nodes}
    for start, end in builder.edges:
        found.setdefault(start, set()).add(end)
    for starts, end in builder.waiting_edges:
        for start in starts:
            found.setdefault(start, set()).add(end)
    for start, branches in builder.branches.items():
        for name, branch in branches.items():
            if name == GO_ON and runtime_of(graph, start) is not None:
                continue
            if branch.ends is None:
                found.pop(start, None)
            elif start in found:
                found[start] |= set(branch.ends.values())
    return found


def _refuse_unknown(graph: Pregel[Any, Any, Any, Any], what: str, names: Sequence[str], nodes: Collection[str]) -> None:
    if isinstance(names, str):
        raise BuildError(f'{what}="{names}" is one string: write a list, {what}=["{names}"].')
    unknown = sorted(set(names) - set(nodes))
    for name in unknown:
        if (outer := named_inside(graph, name)) is not None:
            raise BuildError(
                f'{what}={[name]}: that node is inside the subgraph "{outer}". Write {what}=["{outer}"]; to silence a '
                'node inside it: add_node(..., metadata={"speak": False}).'
            )
    if unknown:
        hint = f" {_hint(graph)}" if what == "speak" else ""
        raise BuildError(f"{what}={unknown}: the graph's nodes are {', '.join(nodes)}.{hint}")


def _hint(graph: Pregel[Any, Any, Any, Any]) -> str:
    found = could_speak(graph)
    if not found:
        return 'Name the nodes that do, speak=["agent"].'
    those = "this node calls a model" if len(found) == 1 else "these nodes call a model"
    return f"Name those that do: {those}, speak={found!r}."
