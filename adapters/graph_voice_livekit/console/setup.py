"""Preparing a call for `talk`, `demo` and `hear`: a model, voices, and the offline speech parts."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from livekit.agents import stt as lk_stt
from rich.console import Console

from graph_voice import Conversation, Voice
from graph_voice.cli.options import userdata_of
from graph_voice.graph.speakers import speakers_of
from graph_voice.launch.loading import load_graph
from graph_voice.launch.model_choice import ModelChoice, choose_model
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.offline import IntentRouter, OfflineParts, load_all
from graph_voice_livekit.offline.packages import is_installed

__all__ = ["CallParts", "Choices", "prepare"]

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
    speak: Sequence[str] = ()
    """The nodes that speak, for a graph that doesn't say so itself."""
    userdata: str | None = None
    """What is known about the caller, as JSON. None: the graph's own default."""


@dataclass(frozen=True)
class CallParts:
    """A call that is ready to start."""

    graph: Any
    agents: Sequence[str]
    """In the order of the graph, the start agent first."""
    model: ModelChoice
    speech: OfflineParts
    speak: Sequence[str] = ()
    """The nodes that speak besides the agents."""
    userdata: Any = None
    """What each call begins with. None: the graph's own default."""

    @property
    def model_name(self) -> str:
        return self.model.name

    @property
    def config(self) -> RunnableConfig:
        return self.model.config

    @property
    def recognition(self) -> lk_stt.STT[Any]:
        """Whisper with a VAD that cuts the sound into utterances. LiveKit keeps this object across handoffs."""
        return lk_stt.StreamAdapter(stt=self.speech.stt, vad=self.speech.vad)

    def voices(self) -> Mapping[str, Voice]:
        """A different voice for each agent. The caller's is used by no agent."""
        names = [name for name in self.speech.voices if name != CALLER_VOICE]
        return {
            agent: Voice(tts=partial(self.speech.tts, names[index % len(names)]))
            for index, agent in enumerate(self.agents)
        }

    def agent(self) -> GraphAgent:
        """A new call with the graph."""
        known = copy.deepcopy(self.userdata)
        return GraphAgent(self.graph, voices=self.voices(), config=self.config, speak=self.speak, userdata=known)


def prepare(choices: Choices, console: Console) -> CallParts:
    """Load everything that a call needs, with progress on the console.

    Raises:
        LoadError: the graph can't be loaded.
        MissingDependencyError: a package is missing; the message says how to get it.
        ModelError: no model was given, and the graph has no example sentences beside it.
        BuildError: the graph doesn't say which nodes speak, and it can't be told.
        UserdataError: the userdata does not fit the graph's class, or is needed and was not given.
    """
    with console.status("Loading the graph...") as status:
        graph = load_graph(choices.graph)
        speak = speakers_of(graph, choices.speak)
        userdata = userdata_of(graph, choices.userdata)
        status.update("Choosing the model...")
        chosen = choose_model(
            graph,
            choices.graph,
            llm=choices.llm,
            base_url=choices.base_url,
            seed=choices.seed,
            offline=IntentRouter,  # given, because this package's entry points may be unknown
        )
        status.update("Loading the model...")
        chosen.warm_up()

        def progress(step: str, done: float) -> None:
            status.update(f"Loading {step}... {done:.0%}" if done < 1 else "Ready.")

        speech = load_all(
            progress,
            stt_model=choices.stt_model,
            voice=choices.voice,
            language=choices.language,
            seed=choices.seed if is_installed("onnx") else None,  # an optional package
        )
    conversation: Conversation[Any] = Conversation(graph, speak=speak)
    roles = conversation.call.roles
    agents = [name for name in roles.nodes if name in roles.agents]
    agents.sort(key=lambda name: name != conversation.active_agent)
    heard = [name for name in roles.nodes if name in roles.custom_speakers]
    return CallParts(graph, agents, chosen, speech, heard, userdata)
