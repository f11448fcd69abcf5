"""How graphs and conversations look as the last line of a notebook's cell.

Graphs are drawn locally, while LangGraph's own drawing uses a web service.

`import graph_voice` registers this in IPython; `%load_ext graph_voice` does so at any time.
"""

from typing import Any

__all__ = ["conversation_page", "graph_bundle", "register", "unregister"]

_TYPES = (
    ("langgraph.graph.state", "StateGraph"),
    ("langgraph.graph.state", "CompiledStateGraph"),
    ("langgraph.pregel.main", "Pregel"),
)
"""By name, so that LangGraph is not imported before there is a graph."""
_CONVERSATION = ("graph_voice.call.conversation", "Conversation")


def register(shell: Any) -> None:
    """Let this IPython shell show graphs and conversations. Formatters that others registered stay."""
    formatter = shell.display_formatter.mimebundle_formatter
    for module, name in _TYPES:
        if formatter.for_type_by_name(module, name) is None:
            formatter.for_type_by_name(module, name, graph_bundle)
    html = shell.display_formatter.formatters["text/html"]
    if html.for_type_by_name(*_CONVERSATION) is None:
        html.for_type_by_name(*_CONVERSATION, conversation_page)


def unregister(shell: Any) -> None:
    """Let LangGraph show graphs again, and a conversation be one line again."""
    formatter = shell.display_formatter.mimebundle_formatter
    for module, name in _TYPES:
        if formatter.for_type_by_name(module, name) is graph_bundle:
            formatter.pop(f"{module}.{name}")
    html = shell.display_formatter.formatters["text/html"]
    if html.for_type_by_name(*_CONVERSATION) is conversation_page:
        html.pop(".".join(_CONVERSATION))


def register_here() -> None:
    """Register it for this process's IPython shell, if there is one."""
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        register(shell)


def graph_bundle(graph: Any) -> dict[str, str]:
    """A graph as SVG, and as text for a terminal. If it can't be drawn, the text says why."""
    from graph_voice.drawing import to_ascii, to_svg
    from graph_voice.errors import GraphVoiceError

    try:
        return {"image/svg+xml": to_svg(graph), "text/plain": to_ascii(graph)}
    except GraphVoiceError as error:
        return {"text/plain": f"{graph!r}\n{error}"}


def conversation_page(conversation: Any) -> str:
    """The transcript as it was heard, the userdata, the handoffs and the graph."""
    from graph_voice.notebook_html import conversation_html

    return conversation_html(conversation)
