"""A drawing as plain text, for a terminal or a log: each node with the edges out of it."""

from typing import Any

from graph_voice.drawing.picture import Edge, EdgeKind, NodeKind, Picture, picture


def to_ascii(graph: Any, *, agents_only: bool = False, active: str | None = None, tools: bool = False) -> str:
    """Draw a graph in ASCII: a box for each node, below it an arrow for each edge out of it or its tools.

    `(start)` and `(end)` are LangGraph's START and END. Names that aren't ASCII stay as they are. At the end are the
    groups of tasks, `[name]`, with their steps in order.

    Args:
        graph: a LangGraph `StateGraph`, or a compiled graph.
        agents_only: only agents and handoffs, from agent to agent.
        active: the active agent, marked with `*`.
        tools: each tool by its name, in place of the tools node's.

    Raises:
        BuildError: `graph` is not a graph or doesn't compile, or it has no node `active`.
    """
    shown = picture(graph, agents_only=agents_only, active=active, tools=tools)
    groups = shown.groups.items()
    blocks = [
        _block(name, shown, active)
        for name, node in shown.nodes.items()
        if node.kind not in (NodeKind.TOOLS, NodeKind.END)
    ]
    blocks += [
        [f"[{group}]", *(f"  {place}. {step}" for place, step in enumerate(steps, 1))] for group, steps in groups
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _block(name: str, shown: Picture, active: str | None) -> list[str]:
    leaving = [edge for edge in shown.edges if edge.source == name]
    tools = shown.tools_of(name)
    branches = [(_way(edge), shown.nodes[edge.target].owner == name) for edge in leaving]
    lines = [*_boxed(_called(name, shown, active), shown.nodes[name].kind)]
    for index, (way, to_tools) in enumerate(branches):
        last = index == len(branches) - 1
        lines.append(f"  {'`' if last else '|'}-{way} {_target(leaving[index], shown, active)}")
        if to_tools and tools is not None:
            bar = " " if last else "|"
            lines += [f"  {bar}     {name}" for name in shown.nodes[tools].tools]
            inner = [edge for edge in shown.edges if edge.source == tools]
            for number, edge in enumerate(inner):
                corner = "`" if number == len(inner) - 1 else "|"
                lines.append(f"  {bar}     {corner}-{_way(edge)} {_target(edge, shown, active)}")
    return lines


def _boxed(title: str, kind: NodeKind) -> list[str]:
    if kind is NodeKind.START:
        return [title]
    rule = "+" + "-" * (len(title) + 2) + "+"
    return [rule, f"| {title} |", rule]


def _called(name: str, shown: Picture, active: str | None) -> str:
    kind = shown.nodes[name].kind
    if kind in (NodeKind.START, NodeKind.END):
        return f"({kind})"
    return f"{name} *" if name == active else name


def _target(edge: Edge, shown: Picture, active: str | None) -> str:
    target = _called(edge.target, shown, active)
    if edge.kind is EdgeKind.START and edge.target == shown.start and len(shown.named(NodeKind.AGENT)) > 1:
        return f"{target} (a new call)"
    return target


def _way(edge: Edge) -> str:
    return f"- {edge.label} -->" if edge.labels else "->"
