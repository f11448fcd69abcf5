"""Which model a command runs a graph with: the requested one, the graph's own, or one that needs no key."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph

from graph_voice.errors import MissingDependencyError, ModelError
from graph_voice.graph.build import require_models, runtime_of
from graph_voice.launch.loading import source_of
from graph_voice.models import DEFAULT_MODEL_VARIABLE, model_from

__all__ = ["DEFAULT_OPENAI_MODEL", "GROUP", "ModelChoice", "OfflineModel", "choose_model", "openai_compatible"]

DEFAULT_OPENAI_MODEL = "openai:gpt-4.1-mini"
"""The model when none was chosen and there is a key for it."""
GROUP = "graph_voice.models"
"""The entry point group of models that other distributions add."""
OFFLINE = "offline"
"""The one that answers from the example sentences beside a graph; also its name for `--llm`."""

OfflineModel = Callable[..., BaseChatModel]
"""Called as `make(path_of_the_examples, seed=...)`."""


@dataclass(frozen=True)
class ModelChoice:
    """The model that was chosen."""

    model: BaseChatModel | None
    """For every agent of the graph. None: the graph's own models."""
    name: str
    """For people."""

    @property
    def config(self) -> RunnableConfig:
        """The run's config with this model."""
        return {"configurable": {"llm": self.model}} if self.model is not None else {}

    def warm_up(self) -> None:
        """Load what the first answer would otherwise wait for, if the model has anything to load."""
        warm_up = getattr(self.model, "warm_up", None)
        if callable(warm_up):
            warm_up()


def choose_model(
    graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any],
    spec: str,
    *,
    llm: str | None = None,
    base_url: str | None = None,
    seed: int = 0,
    offline: OfflineModel | None = None,
) -> ModelChoice:
    """The first of: `base_url` and `llm`, `llm`, `GRAPH_VOICE_LLM`, the graph's own, OpenAI with a key, offline.

    A graph without graph_voice agents uses its own, unless `llm` or `base_url` is given.

    Args:
        graph: the graph.
        spec: the name by which it was loaded. The example sentences are in a file beside it.
        llm: "provider:model", or "offline".
        base_url: the URL of an OpenAI-compatible server, whose model `llm` names.
        seed: varies which sentences the offline model chooses.
        offline: makes the offline model. Default: the entry point `offline` of the group `graph_voice.models`.

    Raises:
        MissingDependencyError: a package is missing; the message says how to get it.
        ModelError: there is no model, or it can't be used.
    """

    def without_a_model() -> ModelChoice:
        examples = _examples_of(spec)
        return ModelChoice((offline or _offline_model())(examples, seed=seed), "intent router (no language model)")

    if base_url is not None:
        return ModelChoice(openai_compatible(llm, base_url), f"{llm} at {base_url}")
    if llm == OFFLINE:
        return without_a_model()
    if llm is not None:
        return ModelChoice(model_from(llm), llm)
    if not _has_agents(graph):
        return ModelChoice(None, "the graph's own")  # its nodes use no other
    if named := os.environ.get(DEFAULT_MODEL_VARIABLE):
        if named == OFFLINE:
            return without_a_model()
        return ModelChoice(model_from(named), named)
    if _has_own_models(graph):
        _require_own_models(graph)
        return ModelChoice(None, "the graph's own")
    if os.environ.get("OPENAI_API_KEY"):
        return ModelChoice(model_from(DEFAULT_OPENAI_MODEL), DEFAULT_OPENAI_MODEL)
    return without_a_model()


def _examples_of(spec: str) -> Path:
    where = source_of(spec)
    module = sys.modules.get(where)
    beside = Path((module.__file__ if module is not None else None) or where).with_suffix(".examples.yaml")
    if not beside.exists():
        raise ModelError(
            f"{spec} needs a language model: pass --llm {DEFAULT_OPENAI_MODEL} (with OPENAI_API_KEY), or --base-url of "
            f"an OpenAI-compatible server; or write example sentences for the intent router, {beside}."
        )
    return beside


def _offline_model() -> OfflineModel:
    cure = (
        'Install it with: pip install "graph-voice[offline]"; or choose a language model, --llm '
        f"{DEFAULT_OPENAI_MODEL} (with OPENAI_API_KEY)."
    )
    found = [entry for entry in metadata.entry_points(group=GROUP) if entry.name == OFFLINE]
    if not found:
        raise MissingDependencyError(f"The intent router, which answers without a language model, is missing. {cure}")
    try:
        return cast(OfflineModel, found[0].load())
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(f"The intent router can't be loaded: {error}. {cure}") from error


def openai_compatible(llm: str | None, base_url: str) -> BaseChatModel:
    """The model of this name at an OpenAI-compatible server.

    Raises `ModelError` without a name, and `MissingDependencyError` without langchain-openai.
    """
    if llm is None:
        raise ModelError("--base-url needs the model's name as well: --llm NAME.")
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingDependencyError('--base-url needs langchain-openai: pip install "graph-voice[openai]"') from error
    # Local servers need a key in the header, but not a real one.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    return ChatOpenAI(model=llm.removeprefix("openai:"), base_url=base_url, api_key=key, stream_usage=True)  # type: ignore[arg-type]  # a plain str is accepted


def _has_agents(graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any] | RemoteGraph) -> bool:
    """Whether the graph has graph_voice agents. One that runs on a server has none here."""
    if isinstance(graph, RemoteGraph):
        return False
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    return any(runtime_of(compiled, name) is not None for name in compiled.nodes)


def _require_own_models(graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any]) -> None:
    try:
        require_models(graph.compile() if isinstance(graph, StateGraph) else graph, {})
    except (MissingDependencyError, ModelError) as error:
        raise type(error)(
            f"{error} Or choose another model for this run: --llm {OFFLINE} (the intent router, without a key), or "
            "--base-url of an OpenAI-compatible server."
        ) from error


def _has_own_models(graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any]) -> bool:
    """Whether every agent of the graph was given a model when it was built."""
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    runtimes = [runtime_of(compiled, name) for name in compiled.nodes]
    return all(runtime.own_model is not None for runtime in runtimes if runtime is not None)
