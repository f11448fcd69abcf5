"""A drawing as Mermaid text, for Markdown that draws Mermaid itself."""

from typing import Any

from graph_voice.drawing.picture import Edge, EdgeKind, Node, NodeKind, picture

_CLASSES = {
    NodeKind.AGENT: "fill:#e3e5ff,stroke:#4338ca,color:#1f2937,stroke-width:2px",
    NodeKind.TOOLS: "fill:#ffffff,stroke:#98a2b3,color:#475467,stroke-dasharray:3 3",
    NodeKind.OTHER: "fill:#f8fafc,stroke:#475467,color:#1f2937",
    NodeKind.START: "fill:#1f2937,stroke:#1f2937,color:#ffffff",
    NodeKind.END: "fill:#ffffff,stroke:#1f2937,color:#1f2937",
}
_ACTIVE = "fill:#4338ca,stroke:#1f2937,color:#ffffff,stroke-width:3px"
# What Mermaid would read as its own syntax, even inside quotes.
_ENTITIES = {ord(char): f"#{ord(char)};" for char in '#"<>&`\\;|{}[]()'} | {ord("\n"): " ", ord("\r"): " "}


def to_mermaid(graph: Any, *, agents_only: bool = False, active: str | None = None, tools: bool = False) -> str:
    """Draw a graph as a Mermaid flowchart; nothing is sent anywhere.

    Solid arrows are handoffs, dotted ones LangGraph's other conditional edges. The steps of a group of tasks, and their
    tools, are in a box (`subgraph`).

    Args:
        graph: a LangGraph `StateGraph`, or a compiled graph.
        agents_only: only agents and handoffs, from agent to agent.
        active: the active agent, filled.
        tools: each tool by its name, in place of the tools node's.

    Raises:
        BuildError: `graph` is not a graph or doesn't compile, or it has no node `active`.
    """
    shown = picture(graph, agents_only=agents_only, active=active, tools=tools)
    ids = {name: f"n{index}" for index, name in enumerate(shown.nodes)}
    lines = ["flowchart TD"]
    lines += [f"    {ids[name]}{_shape(node)}" for name, node in shown.nodes.items()]
    for number, (group, steps) in enumerate(shown.groups.items()):
        inside = [ids[node.name] for node in shown.nodes.values() if node.name in steps or node.owner in steps]
        lines += [f"    subgraph g{number} [{_quoted(group)}]", *(f"        {node}" for node in inside), "    end"]
    lines += [f"    {ids[edge.source]} {_arrow(edge)} {ids[edge.target]}" for edge in shown.edges]
    for kind, style in _CLASSES.items():
        members = ",".join(ids[name] for name in shown.named(kind))
        if members:
            lines += [f"    classDef {_class(kind)} {style}", f"    class {members} {_class(kind)}"]
    if active in ids:
        lines += [f"    classDef activeNode {_ACTIVE}", f"    class {ids[active]} activeNode"]
    return "\n".join(lines) + "\n"


def _class(kind: NodeKind) -> str:
    return f"{kind}Node"  # `end` alone is a keyword of Mermaid


def _quoted(*lines: str) -> str:
    text = "<br/>".join(line.translate(_ENTITIES) for line in lines)
    return f'"{text}"'


def _shape(node: Node) -> str:
    match node.kind:
        case NodeKind.START:
            return '(("start"))'
        case NodeKind.END:
            return '((("end")))'
        case NodeKind.AGENT:
            return f"({_quoted(node.name)})"
        case NodeKind.TOOLS:
            return f"([{_quoted(*node.lines)}])"
    return f"[{_quoted(node.name)}]"


def _arrow(edge: Edge) -> str:
    solid = edge.kind is EdgeKind.HANDOFF or not edge.conditional
    arrow = "-->" if solid else "-.->"
    return f"{arrow}|{_quoted(edge.label)}|" if edge.labels else arrow
