"""How graphs look as the last line of a notebook's cell: drawn here, where LangGraph's own way asks a web service.

`import graph_voice` registers it when it happens in IPython; `%load_ext graph_voice` does it at any time.
"""

from typing import Any

__all__ = ["graph_bundle", "register", "unregister"]

_TYPES = (
    ("langgraph.graph.state", "StateGraph"),
    ("langgraph.graph.state", "CompiledStateGraph"),
    ("langgraph.pregel.main", "Pregel"),
)
"""By name, so that LangGraph is imported when there is a graph, and not before."""


def register(shell: Any) -> None:
    """Let this IPython shell draw graphs. A formatter that somebody else has registered stays."""
    formatter = shell.display_formatter.mimebundle_formatter
    for module, name in _TYPES:
        if formatter.for_type_by_name(module, name) is None:
            formatter.for_type_by_name(module, name, graph_bundle)


def unregister(shell: Any) -> None:
    """Give graphs back to LangGraph's own way of showing them."""
    formatter = shell.display_formatter.mimebundle_formatter
    for module, name in _TYPES:
        if formatter.for_type_by_name(module, name) is graph_bundle:
            formatter.pop(f"{module}.{name}")


def register_here() -> None:
    """Do it for the shell that this process is, if it is one."""
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        register(shell)


def graph_bundle(graph: Any) -> dict[str, str]:
    """A graph as SVG, and as text for a terminal. A graph that can't be drawn says why."""
    from graph_voice.drawing import to_ascii, to_svg
    from graph_voice.errors import GraphVoiceError

    try:
        return {"image/svg+xml": to_svg(graph), "text/plain": to_ascii(graph)}
    except GraphVoiceError as error:
        return {"text/plain": f"{graph!r}\n{error}"}
