"""Public. Drawings of a graph, made offline: SVG for people, Mermaid for Markdown, plain text for a terminal.

Each takes any LangGraph graph, a `StateGraph` or a compiled one, and shows what its
public `get_graph()` returns.
"""

from graph_voice.drawing.listing import to_ascii
from graph_voice.drawing.mermaid import to_mermaid
from graph_voice.drawing.picture import agents_of
from graph_voice.drawing.svg import to_svg

__all__ = ["agents_of", "to_ascii", "to_mermaid", "to_svg"]
