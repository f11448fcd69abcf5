"""What the commands `talk` and `demo` put a call together from: a model, voices, and the offline speech parts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from livekit.agents import stt as lk_stt
from rich.console import Console

from graph_voice import Conversation, Voice
from graph_voice.errors import MissingDependencyError, ModelError
from graph_voice.graph import runtime_of
from graph_voice.loading import load_graph
from graph_voice.models import DEFAULT_MODEL_VARIABLE, model_from
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.offline import IntentRouter, OfflineParts, load_all

__all__ = ["CallParts", "Choices", "prepare"]

DEFAULT_OPENAI_MODEL = "openai:gpt-4.1-mini"
CALLER_VOICE = "bright"


@dataclass(frozen=True)
class Choices:
    """What the command line chose."""

    graph: str
    llm: str | None = None
    base_url: str | None = None
    stt_model: Path | None = None
    voice: Path | None = None
    language: str = "en"
    seed: int = 0


@dataclass(frozen=True)
class CallParts:
    """A call that is ready to start."""

    graph: Any
    agents: Sequence[str]
    """In the order of the graph, the start agent first."""
    model: BaseChatModel | None
    """The model for the whole graph; None: the graph's own."""
    model_name: str
    speech: OfflineParts

    @property
    def config(self) -> dict[str, Any]:
        return {"configurable": {"llm": self.model}} if self.model is not None else {}

    @property
    def recognition(self) -> lk_stt.STT[Any]:
        """Whisper hears utterances, so a VAD cuts them. One object for the call: LiveKit keeps it across handoffs."""
        return lk_stt.StreamAdapter(stt=self.speech.stt, vad=self.speech.vad)

    def voices(self) -> Mapping[str, Voice]:
        """A voice of its own for each agent; the caller's is kept apart."""
        names = [name for name in self.speech.voices if name != CALLER_VOICE]
        return {
            agent: Voice(tts=partial(self.speech.tts, names[index % len(names)]))
            for index, agent in enumerate(self.agents)
        }

    def agent(self) -> GraphAgent:
        """A new call of the graph."""
        return GraphAgent(self.graph, voices=self.voices(), config=self.config)


def prepare(choices: Choices, console: Console) -> CallParts:
    """Load everything that a call needs, with progress on the console.

    Raises:
        LoadError: the graph can't be loaded.
        MissingDependencyError: a package is missing; the message says how to get it.
        ModelError: no model was given, and the graph has no example sentences beside it.
    """
    with console.status("Loading the graph...") as status:
        graph = load_graph(choices.graph)
        status.update("Choosing the model...")
        model, name = _model(choices, graph)
        if isinstance(model, IntentRouter):
            status.update("Loading the intent router...")
            model.warm_up()

        def progress(step: str, done: float) -> None:
            status.update(f"Loading {step}... {done:.0%}" if done < 1 else "Ready.")

        speech = load_all(progress, stt_model=choices.stt_model, voice=choices.voice, language=choices.language)
    conversation: Conversation[Any] = Conversation(graph)
    roles = conversation.roles
    agents = [name for name, node in roles.nodes.items() if node.agent]
    agents.sort(key=lambda name: name != conversation.active_agent)
    return CallParts(graph, agents, model, name, speech)


def _model(choices: Choices, graph: Any) -> tuple[BaseChatModel | None, str]:
    """`--llm` and `--base-url` first, then the environment, then the graph's own model, then the intent router."""
    if choices.base_url is not None:
        return _openai_compatible(choices.llm, choices.base_url), f"{choices.llm} at {choices.base_url}"
    if choices.llm == "offline":
        return _router(choices), "intent router (no language model)"
    if choices.llm is not None:
        return model_from(choices.llm), choices.llm
    if named := os.environ.get(DEFAULT_MODEL_VARIABLE):
        return model_from(named), named
    if _has_own_model(graph):
        return None, "the graph's own"
    if os.environ.get("OPENAI_API_KEY"):
        return model_from(DEFAULT_OPENAI_MODEL), DEFAULT_OPENAI_MODEL
    return _router(choices), "intent router (no language model)"


def _router(choices: Choices) -> IntentRouter:
    beside = Path(choices.graph.rpartition(":")[0] or choices.graph).with_suffix(".examples.yaml")
    if not beside.exists():
        raise ModelError(
            f"{choices.graph} needs a language model: give --llm openai:gpt-4.1-mini (with OPENAI_API_KEY), or "
            f"--base-url of an OpenAI-compatible server; or write example sentences for the intent router, {beside}."
        )
    return IntentRouter(beside, seed=choices.seed)


def _openai_compatible(llm: str | None, base_url: str) -> BaseChatModel:
    if llm is None:
        raise ModelError("--base-url needs the model's name as well: --llm NAME.")
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingDependencyError('--base-url needs langchain-openai: pip install "graph-voice[openai]"') from error
    # Local servers want a key in the header, but not a real one.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    return ChatOpenAI(model=llm.removeprefix("openai:"), base_url=base_url, api_key=key, stream_usage=True)  # type: ignore[arg-type]  # a plain str is accepted


def _has_own_model(graph: Any) -> bool:
    """Whether every agent of the graph was given a model when it was built."""
    conversation: Conversation[Any] = Conversation(graph)
    runtimes = [runtime_of(conversation.graph, name) for name in conversation.roles.agents]
    return all(runtime.own_model is not None for runtime in runtimes if runtime is not None)
