"""What calls are made of: the graphs that the page offers, each with its model, and the speech models, loaded once."""

import asyncio
import contextlib
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from graph_voice import Conversation, Voice
from graph_voice.cli.options import userdata_of
from graph_voice.drawing import to_svg
from graph_voice.errors import GraphVoiceError
from graph_voice.graph.given import as_compiled
from graph_voice.graph.speakers import speakers_of
from graph_voice.launch.loading import load_graph, name_of, source_of
from graph_voice.launch.model_choice import OFFLINE, ModelChoice, choose_model
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.console.setup import CALLER_VOICE, Choices
from graph_voice_livekit.offline import IntentRouter, OfflineParts, load_all
from graph_voice_livekit.offline.packages import is_installed

__all__ = ["GraphParts", "Shelf", "others_beside"]

CONFIG = "langgraph.json"


@dataclass(frozen=True)
class GraphParts:
    """A graph that is ready for calls."""

    name: str
    graph: Any
    agents: Sequence[str]
    """In the order of the graph, the start agent first."""
    model: ModelChoice
    speak: Sequence[str] = ()
    userdata: Any = None

    @classmethod
    def of(
        cls, name: str, graph: Any, model: ModelChoice, speak: Sequence[str] = (), userdata: Any = None
    ) -> "GraphParts":
        """A loaded graph with its model."""
        graph = as_compiled(graph, "serve")  # once, not for each call
        conversation: Conversation[Any] = Conversation(graph, speak=speak)
        roles = conversation.call.roles
        agents = [node for node in roles.nodes if node in roles.agents]
        agents.sort(key=lambda agent: agent != conversation.active_agent)
        heard = [node for node in roles.nodes if node in roles.custom_speakers]
        return cls(name, graph, agents, model, heard, userdata)

    @cached_property
    def svg(self) -> str:
        """Its drawing, made once."""
        return to_svg(self.graph)

    def agent(self, speech: OfflineParts | None, watch: BaseCallbackHandler) -> GraphAgent:
        """A new call with the graph. `speech`: None for a call by text."""
        config: RunnableConfig = {**self.model.config, "callbacks": [watch]}
        return GraphAgent(
            self.graph,
            voices=self._voices(speech),
            config=config,
            speak=self.speak,
            userdata=copy.deepcopy(self.userdata),
        )

    def _voices(self, speech: OfflineParts | None) -> Mapping[str, Voice]:
        if speech is None:
            return {agent: Voice() for agent in self.agents}
        names = [name for name in speech.voices if name != CALLER_VOICE]
        return {
            agent: Voice(tts=partial(speech.tts, names[index % len(names)])) for index, agent in enumerate(self.agents)
        }


@dataclass
class Shelf:
    """The graphs by their names, and what all calls share. Each is loaded when it is first wanted.

    A graph whose file has changed since is loaded again when the next call wants it. Calls that go on keep theirs.
    """

    choices: Choices
    text_only: bool = False
    others: Mapping[str, str] = field(default_factory=dict)
    """More graphs: name -> path.py:attribute."""
    _ready: dict[str, GraphParts] = field(default_factory=dict)
    _stamps: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """What the graphs' files looked like when they were loaded."""
    _speech: bool = False
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def first(self) -> str:
        """The name of the graph that the command line named."""
        return name_of(self.choices.graph)

    @property
    def names(self) -> list[str]:
        """The names of all graphs, that one first."""
        return list(dict.fromkeys([self.first, *self.others]))

    def path_of(self, name: str) -> str:
        """The path of the graph of this name, as it was given."""
        return self.choices.graph if name == self.first else self.others[name]

    async def load(self, name: str | None = None) -> GraphParts:
        """The graph of this name. Raises what the commands raise, and `GraphVoiceError` for an unknown name."""
        name = name or self.first
        async with self._loading:
            stamp = self._stamp(name)
            known = name in self._ready
            if not known or (stamp is not None and stamp != self._stamps.get(name, stamp)):
                # The file is imported in the main thread: LiveKit's plugins refuse any other.
                parts = self._loaded(name, reload=known)
                await asyncio.to_thread(parts.model.warm_up)
                self._ready[name], self._stamps[name] = parts, stamp
        return self._ready[name]

    def _stamp(self, name: str) -> tuple[int, int] | None:
        """When the graph's file was written, and its size; None if it has none, or it is gone."""
        if name not in self.names:
            return None
        with contextlib.suppress(OSError):
            found = Path(source_of(self.path_of(name))).expanduser().stat()
            return found.st_mtime_ns, found.st_size
        return None

    def keep(self, parts: GraphParts) -> None:
        """Offer a graph that is loaded already."""
        self._ready[parts.name] = parts

    def _loaded(self, name: str, *, reload: bool) -> GraphParts:
        choices = self.choices
        if name != self.first:
            if name not in self.others:
                raise GraphVoiceError(f"There is no graph {name!r}; there are {', '.join(self.names)}.")
            choices = replace(choices, graph=self.path_of(name), speak=(), userdata=None)
        graph = load_graph(choices.graph, reload=reload)
        speak = speakers_of(graph, choices.speak)
        userdata = userdata_of(graph, choices.userdata)
        return GraphParts.of(name, graph, _model(graph, choices), speak, userdata)

    async def preload(self) -> None:
        """Load the speech models before the first call wants them. What fails is told to the page that wants them."""
        if not self.text_only:
            with contextlib.suppress(GraphVoiceError):
                await self.speech(lambda step, done: None)

    async def speech(self, progress: Callable[[str, float], None]) -> OfflineParts:
        """Speech parts of one call; the models behind them are loaded once, in a thread."""
        loop = asyncio.get_running_loop()
        choices = self.choices

        def report(step: str, done: float) -> None:
            if not self._speech:
                loop.call_soon_threadsafe(progress, step, done)

        async with self._loading:
            made = await asyncio.to_thread(
                load_all,
                report,
                stt_model=choices.stt_model,
                voice=choices.voice,
                language=choices.language,
                seed=choices.seed if is_installed("onnx") else None,
            )
            self._speech = True
        return made


def _model(graph: Any, choices: Choices) -> ModelChoice:
    bound = ((getattr(graph, "config", None) or {}).get("configurable") or {}).get("llm")
    if bound is not None and choices.llm in (None, OFFLINE) and choices.base_url is None:
        return ModelChoice(bound, "the graph's own")  # as `studio_graph` makes it
    return choose_model(
        graph,
        choices.graph,
        llm=choices.llm,
        base_url=choices.base_url,
        seed=choices.seed,
        offline=IntentRouter,  # given, because this package's entry points may be unknown
    )


def others_beside(folder: Path) -> dict[str, str]:
    """The graphs of the `langgraph.json` in this folder: name -> path.py:attribute. Empty if there is none."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["graphs"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    specs = {str(name): spec.get("path") if isinstance(spec, Mapping) else spec for name, spec in found.items()}
    return {name: str(folder / spec) for name, spec in specs.items() if isinstance(spec, str) and ".py" in spec}
