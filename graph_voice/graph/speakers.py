"""Which custom nodes of a graph could speak: those whose code reaches a chat model."""

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding, RunnableSequence
from langgraph.graph import StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph

from graph_voice.errors import BuildError

__all__ = ["could_speak", "is_structured", "named_inside", "speakers_of"]

_DEPTH = 6
"""How many functions, objects and chains deep the search for a model goes."""
_MAKERS = {"init_chat_model", "create_agent"}
"""Functions that make a model when the node runs."""
_STRUCTURED = {"with_structured_output"}


def could_speak(graph: Pregel[Any, Any, Any, Any]) -> list[str]:
    """The nodes that call a chat model for words, in the graph's order.

    This follows what their functions refer to, without running them. So a model that a node gets elsewhere (from its
    config, or from another module's function) is not found. A node that runs tools, or whose model has structured
    output, could not speak.
    """
    return [name for name, node in graph.nodes.items() if not name.startswith("__") and _talks(node.bound)]


def speakers_of(
    graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any] | RemoteGraph, named: Sequence[str]
) -> list[str]:
    """Which nodes speak in the graph of a command: those named, else the only one that could.

    Empty for a graph whose metadata says who speaks. Raises `BuildError` when no node is named and more than one, or
    none, could speak.
    """
    if named:
        return list(named)
    if isinstance(graph, RemoteGraph):
        raise BuildError("This graph runs on a server. Say which of its nodes the caller is to hear: --speak NODE.")
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    if any((node.metadata or {}).get("speak") for node in compiled.nodes.values()):
        return []
    found = could_speak(compiled)
    if len(found) == 1:
        return found
    names = [name for name in compiled.nodes if not name.startswith("__")]
    if found:
        raise BuildError(
            f"Several nodes of this graph call a model: {', '.join(found)}. Say which of them the caller is to hear: "
            f"{' or '.join(f'--speak {name}' for name in found)}, or several of them."
        )
    raise BuildError(
        "Nobody speaks in this graph, and no node is known to call a model. Say which node the caller is to hear, "
        f"--speak NODE. The nodes are {', '.join(names)}."
    )


def named_inside(graph: Pregel[Any, Any, Any, Any], name: str) -> str | None:
    """The node of this graph whose subgraph has a node of this name."""
    for namespace, inner in graph.get_subgraphs(recurse=True):
        if name in getattr(inner, "nodes", {}):
            return namespace.partition("|")[0]
    return None


def is_structured(model: Any) -> bool:
    """Whether a model was given `with_structured_output` or a `response_format`."""
    if isinstance(model, RunnableSequence):
        # A chain answers with what its last step makes, and only a model makes messages.
        return not isinstance(model.last, BaseChatModel | RunnableBinding) or is_structured(model.last)
    if isinstance(model, RunnableBinding):
        return bool({"response_format", "ls_structured_output_format"} & set(model.kwargs)) or is_structured(
            model.bound
        )
    options = getattr(model, "model_kwargs", None)
    return isinstance(options, dict) and "response_format" in options


def _talks(thing: Any, seen: set[int] | None = None, depth: int = 0) -> bool:
    """Whether this is a model that answers in words, or code that refers to one."""
    seen = set() if seen is None else seen
    if id(thing) in seen or depth > _DEPTH or isinstance(thing, ToolNode | type) or inspect.ismodule(thing):
        return False
    seen.add(id(thing))
    if isinstance(thing, BaseChatModel | RunnableBinding | RunnableSequence):
        return not is_structured(thing) and _holds_model(thing)
    if inspect.isfunction(thing):
        names = set(thing.__code__.co_names)
        if names & _STRUCTURED:
            return False  # its model's answer is structured output
        if names & _MAKERS:
            return True
    return any(_talks(part, seen, depth + 1) for part in _parts(thing))


def _holds_model(chain: Any) -> bool:
    if isinstance(chain, RunnableSequence):
        return any(_holds_model(step) for step in chain.steps)
    if isinstance(chain, RunnableBinding):
        return _holds_model(chain.bound)
    return isinstance(chain, BaseChatModel)


def _parts(thing: Any) -> Iterator[Any]:
    """What this code or object refers to."""
    if isinstance(thing, Pregel):
        yield from (node.bound for node in thing.nodes.values())
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif inspect.ismethod(thing):
        yield from (thing.__func__, thing.__self__)
    elif inspect.isfunction(thing):
        variables = inspect.getclosurevars(thing)
        yield from variables.nonlocals.values()
        for value in variables.globals.values():
            # The search skips functions of other modules: they may refer to anything.
            if not inspect.isfunction(value) or value.__module__ == thing.__module__:
                yield value
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple):
        yield from thing
    elif hasattr(thing, "__dict__"):
        # LangGraph's wrapper of a node's function, the object of a method, an object with `__call__`.
        yield from vars(thing).values()
        yield from (call,) if inspect.isfunction(call := inspect.getattr_static(type(thing), "__call__", None)) else ()
