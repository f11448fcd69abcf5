"""What a drawing shows: the nodes and edges of a LangGraph graph, and the role of each in a call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from langchain_core.runnables.graph import Edge as GraphEdge
from langchain_core.runnables.graph import Graph
from langgraph.graph import END, START, StateGraph

from graph_voice.errors import BuildError
from graph_voice.graph.build import METADATA

TOOLS_SUFFIX = "_tools"


class NodeKind(StrEnum):
    """The role of a node."""

    START = "start"
    END = "end"
    AGENT = "agent"
    TOOLS = "tools"
    OTHER = "node"


class EdgeKind(StrEnum):
    """The role of an edge."""

    START = "start"
    """A turn begins here."""
    END = "end"
    """A turn ends here."""
    CALL = "call"
    """An agent calls its tools."""
    RETURN = "return"
    """The tools return to their agent."""
    HANDOFF = "handoff"
    """Another node becomes active, through the tools that label the edge."""
    PLAIN = "edge"
    """Anything else."""


@dataclass(frozen=True)
class Node:
    """One node of the graph."""

    name: str
    kind: NodeKind
    owner: str | None = None
    """For a tools node: the agent that the tools belong to."""
    tools: tuple[str, ...] = ()
    """For a tools node, if they are drawn: the names of the tools, without those that are on its agent's handoffs."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is written on it."""
        return self.tools or (self.name,)


@dataclass(frozen=True)
class Edge:
    """One edge of the graph."""

    source: str
    target: str
    kind: EdgeKind
    labels: tuple[str, ...] = ()
    """What takes the edge: the names of tools, or the key of a path map."""
    conditional: bool = False

    @property
    def label(self) -> str:
        return ", ".join(self.labels)


@dataclass(frozen=True)
class Picture:
    """The graph as it is drawn."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    start: str | None
    """The one node with which a new call begins, if the graph says so."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The groups of tasks: name -> the tasks that are their steps, in order."""

    def named(self, kind: NodeKind) -> list[str]:
        """The names of the nodes of a kind, in the graph's order."""
        return [node.name for node in self.nodes.values() if node.kind is kind]

    def tools_of(self, agent: str) -> str | None:
        """The tools node of an agent, None if it has no tools."""
        return next((node.name for node in self.nodes.values() if node.owner == agent), None)


def picture(graph: Any, *, agents_only: bool = False, active: str | None = None, tools: bool = False) -> Picture:
    """Read a `StateGraph`, a compiled graph, or anything else with LangChain's `get_graph()`.

    The nodes' metadata say which node is an agent, which tools belong to it, and which agent begins a new call, as
    `create_voice_graph` writes them: `{"graph_voice": {"agent": ..., "start": True}}`, `{"tools_of": ...}`.
    Without metadata, a node that leads to a node `<name>_tools` is an agent, and the only target of START begins.

    Raises `BuildError` if it isn't a graph, doesn't compile, or has no node `active`.
    """
    drawable = _drawable(graph)
    names = _in_order(drawable)
    owners = _owners(drawable, names)
    nodes = {name: _node(name, drawable, owners) for name in names}
    edges = tuple(_edge(edge, drawable, nodes) for edge in _sorted(drawable.edges, names))
    if active is not None and (active not in nodes or nodes[active].kind in (NodeKind.START, NodeKind.END)):
        raise BuildError(f"the active node {active!r} is not in the graph; it has {_listed(nodes.values())}")
    if tools:
        nodes = {name: replace(node, tools=_tools(node, drawable, edges)) for name, node in nodes.items()}
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        if (group := _about(drawable, name).get("group")) is not None:
            groups[group] = (*groups.get(group, ()), name)
    whole = Picture(nodes, edges, _first(drawable, edges), groups)
    return _agents_and_handoffs(whole) if agents_only else whole


def agents_of(graph: Any) -> list[str]:
    """The names of a graph's agents, in its order: the order of their colors (`graph_voice.palette.hues`)."""
    return picture(graph).named(NodeKind.AGENT)


def _drawable(graph: Any) -> Graph:
    if isinstance(graph, StateGraph):
        try:
            graph = graph.compile()
        except ValueError as error:
            raise BuildError(f"the graph doesn't compile: {error}") from error
    if not callable(getattr(graph, "get_graph", None)):
        raise BuildError(
            f"can't draw a {type(graph).__name__}: pass a LangGraph StateGraph or what its compile() returned"
        )
    drawable = graph.get_graph()
    if not isinstance(drawable, Graph):
        raise BuildError(f"get_graph() of {type(graph).__name__} returned no LangChain graph")
    return drawable


def _in_order(graph: Graph) -> list[str]:
    """START, the nodes as they were added, END: in LangGraph's own order END may be anywhere."""
    names = [name for name in graph.nodes if name not in (START, END)]
    return [n for n in (START,) if n in graph.nodes] + names + [n for n in (END,) if n in graph.nodes]


def _sorted(edges: Iterable[GraphEdge], names: list[str]) -> list[GraphEdge]:
    """In the order of the nodes: LangGraph sorts edges by name."""
    place = {name: index for index, name in enumerate(names)}
    return sorted(edges, key=lambda edge: (place[edge.source], place[edge.target]))


def _about(graph: Graph, name: str) -> Mapping[str, Any]:
    about = (graph.nodes[name].metadata or {}).get(METADATA)
    return about if isinstance(about, Mapping) else {}


def _owners(graph: Graph, names: list[str]) -> dict[str, str]:
    """Tools node -> agent: by the metadata, or by name where the agent has an edge to it."""
    calls = {(edge.source, edge.target) for edge in graph.edges}
    owners: dict[str, str] = {}
    for name in names:
        agent = str(_about(graph, name).get("tools_of", name.removesuffix(TOOLS_SUFFIX)))
        if agent not in owners.values() and (agent, name) in calls and agent != name:
            owners[name] = agent
    # `a`, `a_tools`, `a_tools_tools`: the middle one is an agent's tools, so it owns none itself.
    return {tools: agent for tools, agent in owners.items() if agent not in owners}


def _node(name: str, graph: Graph, owners: Mapping[str, str]) -> Node:
    if name == START:
        return Node(name, NodeKind.START)
    if name == END:
        return Node(name, NodeKind.END)
    if name in owners:
        return Node(name, NodeKind.TOOLS, owners[name])
    about = _about(graph, name)
    if name in owners.values() or "agent" in about or about.get("subgraph") or about.get("external"):
        return Node(name, NodeKind.AGENT)
    return Node(name, NodeKind.OTHER)


def _tools(node: Node, graph: Graph, edges: Iterable[Edge]) -> tuple[str, ...]:
    """The tools of a tools node: as `create_voice_graph` or LangGraph's own `ToolNode` names them."""
    if node.owner is None:
        return ()
    own = getattr(graph.nodes[node.name].data, "tools_by_name", None)
    named: Iterable[Any] = _about(graph, node.owner).get("tools") or own or ()
    handoffs = {label for edge in edges if edge.source == node.owner for label in edge.labels}
    return tuple(str(tool) for tool in named if tool not in handoffs)


def _edge(edge: GraphEdge, graph: Graph, nodes: Mapping[str, Node]) -> Edge:
    labels = tuple(part.strip() for part in str(edge.data or "").split(", ") if part.strip())
    kind = _kind(nodes[edge.source], nodes[edge.target])
    tools = {*_about(graph, edge.source).get("tools", ()), f"handoff to {edge.target}"}
    if kind is EdgeKind.PLAIN and nodes[edge.source].kind is NodeKind.AGENT and labels and tools.issuperset(labels):
        kind = EdgeKind.HANDOFF  # to a custom node
    return Edge(edge.source, edge.target, kind, labels, edge.conditional)


def _kind(source: Node, target: Node) -> EdgeKind:
    if source.kind is NodeKind.START:
        return EdgeKind.START
    if target.kind is NodeKind.END:
        return EdgeKind.END
    if target.owner == source.name:
        return EdgeKind.CALL
    if source.owner == target.name:
        return EdgeKind.RETURN
    if source.kind is NodeKind.TOOLS:
        return EdgeKind.HANDOFF
    if source.kind is NodeKind.AGENT and target.kind is NodeKind.AGENT:
        return EdgeKind.HANDOFF
    return EdgeKind.PLAIN


def _first(graph: Graph, edges: Iterable[Edge]) -> str | None:
    targets = [edge.target for edge in edges if edge.kind is EdgeKind.START]
    marked = [name for name in targets if _about(graph, name).get("start")]
    if marked:
        return marked[0]
    return targets[0] if len(targets) == 1 else None


def _agents_and_handoffs(whole: Picture) -> Picture:
    """Without tools nodes and END. A custom node stays only if a handoff leads to it."""
    moved = [
        replace(edge, source=_agent_of(edge.source, whole), target=_agent_of(edge.target, whole))
        for edge in whole.edges
        if edge.kind in (EdgeKind.HANDOFF, EdgeKind.PLAIN)
    ]
    kept = set(whole.named(NodeKind.AGENT))
    kept |= {edge.target for edge in moved if edge.kind is EdgeKind.HANDOFF}
    edges = [edge for edge in moved if edge.source in kept and edge.target in kept]
    start = whole.start if whole.start in kept else None
    if start is not None:
        kept.add(START)
        edges.insert(0, Edge(START, start, EdgeKind.START))
    nodes = {name: node for name, node in whole.nodes.items() if name in kept}
    return Picture(nodes, tuple(_merged(edges)), start, whole.groups)


def _agent_of(name: str, whole: Picture) -> str:
    return whole.nodes[name].owner or name


def _merged(edges: Iterable[Edge]) -> list[Edge]:
    """An agent's own edge and that of its tools may lead to the same node: then one edge has both labels."""
    merged: dict[tuple[str, str], Edge] = {}
    for edge in edges:
        pair = (edge.source, edge.target)
        other = merged.get(pair)
        merged[pair] = edge if other is None else replace(other, labels=other.labels + edge.labels)
    return list(merged.values())


def _listed(nodes: Iterable[Node]) -> str:
    names = [node.name for node in nodes if node.kind not in (NodeKind.START, NodeKind.END)]
    return ", ".join(repr(name) for name in names) or "no nodes"
