"""Public. Graphs for LangGraph Studio: what `langgraph dev` serves, and what Studio can edit in it.

A graph that has a model goes into `langgraph.json` as it is: `"my_agent": "./my_agent.py:graph"`. `studio_graph` is for
graphs without a model: it chooses one as `graph-voice chat` does.
"""

import logging
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph

from graph_voice.errors import LoadError, MissingDependencyError, ModelError
from graph_voice.graph.studio_context import studio_context
from graph_voice.launch.loading import load_graph, name_of
from graph_voice.launch.model_choice import choose_model

__all__ = ["studio_context", "studio_graph"]

logger = logging.getLogger("graph_voice")


def studio_graph(graph: str | Path, *, llm: str | None = None) -> Any:
    """A compiled graph with a model, for `langgraph.json`: `langgraph dev` can serve it without a key.

    The model is the first of: `llm`, the variable `GRAPH_VOICE_LLM`, the graph's own, OpenAI with `OPENAI_API_KEY`, the
    intent router of `graph-voice[offline]` with the example sentences beside the graph. Without any of these, Studio
    can open the graph, but each run must name its model: in Studio's form, or as `configurable["llm"]`.

    Args:
        graph: `path.py:attribute` (the attribute is `graph` if none is given), or a folder with a `graph.py`.
        llm: "provider:model", or "offline".

    Raises `LoadError` when there is no graph, or one compiled with a checkpointer: the server brings its own.
    """
    found = load_graph(str(graph))
    compiled = found.compile() if isinstance(found, StateGraph) else found
    if getattr(compiled, "checkpointer", None):
        raise LoadError(
            f"{graph} is compiled with a checkpointer, which LangGraph's server refuses, since it brings its own. "
            "Export the graph uncompiled, and compile it where your program runs it."
        )
    try:
        chosen = choose_model(found, str(graph), llm=llm)
        # Now, because the server allows no reading of files during a run.
        chosen.warm_up()
    except (MissingDependencyError, ModelError) as error:
        logger.warning("%s has no model, so a run must name one: %s", name_of(str(graph)), error)
        return compiled
    logger.info("%s: model %s", name_of(str(graph)), chosen.name)
    return compiled.with_config(chosen.config)
