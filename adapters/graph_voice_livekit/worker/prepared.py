"""What a job process has made before a call comes: the plugins, the graph, its models."""

import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from livekit.agents import JobContext, JobProcess

from graph_voice import events
from graph_voice.errors import GraphVoiceError, MissingDependencyError, ModelError
from graph_voice.graph.build import require_models
from graph_voice.launch.loading import load_graph
from graph_voice_livekit.worker.observing import Observe

__all__ = ["APOLOGY", "Describe", "Plan", "PluginMaker", "Prepared", "Prewarm", "prepare"]

APOLOGY = "I'm sorry, I can't take your call right now. Please try again later."
PluginMaker = str | Callable[[], Any] | None
Describe = Callable[[JobContext], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
Prewarm = Callable[[JobProcess], Any]
_PREPARED = "graph_voice"


@dataclass(frozen=True)
class Plan:
    """What a job process needs to hold a call."""

    graph: str
    plugins: Mapping[str, PluginMaker]
    call: Describe | None
    options: Mapping[str, Any] = field(default_factory=dict)
    apology: str | None = APOLOGY
    saver: Callable[[], Any] | None = None
    active_agent_attribute: str | None = None
    prewarm: Prewarm | None = None
    session_host: bool | None = None
    on_custom: Callable[[events.Custom], Any] | None = None
    custom_topic: str | None = None
    observe: Observe | None = None


@dataclass
class Prepared:
    """What a job process has prepared before its call comes."""

    graph: Any = None
    plugins: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    """Why there can be no call. The next caller is told."""
    model_error: Exception | None = None
    """Why the graph's own models can't be asked. A call may bring another (`create_server(call=...)`)."""

    @classmethod
    def of(cls, process: JobProcess) -> "Prepared":
        """What `prepare` has made in this process."""
        found: Prepared = process.userdata[_PREPARED]
        return found

    @property
    def reason(self) -> str | None:
        """Why there can be no call, for the log. An error of the library names the lines itself."""
        if self.error is None or isinstance(self.error, GraphVoiceError):
            return str(self.error) if self.error is not None else None
        return "".join(traceback.format_exception(self.error)).rstrip()


def prepare(process: JobProcess, plan: Plan) -> Prepared:
    """Load packages, the graph and the models. It raises nothing: what went wrong is in the result.

    LiveKit would start one process after the other while the callers wait in silence.
    """
    process.userdata[_PREPARED] = prepared = Prepared()
    try:
        # The voice first: it tells the caller if anything else fails.
        for name in ("tts", "stt", "vad"):
            plugin = plan.plugins[name]
            if plugin is not None:
                prepared.plugins[name] = plugin() if callable(plugin) else plugin
        graph = load_graph(plan.graph)
        prepared.graph = graph.compile() if isinstance(graph, StateGraph) else graph  # once, not for each call
        try:
            if isinstance(prepared.graph, Pregel):  # else the models are elsewhere
                require_models(prepared.graph, {})
        except (MissingDependencyError, ModelError) as error:
            prepared.model_error = error
        if plan.prewarm is not None:
            plan.prewarm(process)
    except Exception as error:
        prepared.error = error
    return prepared
