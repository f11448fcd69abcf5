"""A call of one of the applications: the same words in text and through a LiveKit session with fake audio."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from graph_agent_support import agrees, no_accidents, words
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice import Conversation, Voice
from graph_voice.graph.build import definition_of
from graph_voice.launch.loading import load_graph
from graph_voice.testing import ScriptedModel
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS, VoiceRig, voice_rig

GRAPHS = Path(__file__).parents[2] / "graphs"


class AppCall:
    """A call that is going on."""

    def __init__(self, conversation: Conversation[Any], model: ScriptedModel, rig: VoiceRig | None) -> None:
        self.conversation = conversation
        self.model = model
        self.rig = rig
        """The LiveKit side; None in text."""
        self.said: list[str] = []

    async def says(self, *texts: str) -> None:
        """The caller says this, and listens to the answer."""
        for text in texts:
            self.said.append(text)
            if self.rig is None:
                await self.conversation.run(text)
            else:
                await self.rig.user_says(text)
                await self.rig.until_idle()

    @property
    def state(self) -> Any:
        """The userdata."""
        return self.conversation.userdata

    @property
    def current_agent(self) -> str:
        return self.conversation.active_agent

    @property
    def handoffs(self) -> list[tuple[str | None, str]]:
        return [(h["old_agent_id"], h["new_agent_id"]) for h in self.conversation.handoffs]

    @property
    def results(self) -> list[tuple[str, str]]:
        """Tool and result, in order."""
        return [(m.name or "", m.text) for m in self.conversation.messages if isinstance(m, ToolMessage)]

    @property
    def spoken(self) -> list[tuple[str, str]]:
        """Agent and words, in order, as the caller heard them; of a voice call by the voice."""
        if self.rig is None:
            found = [(m.name or "", m.text) for m in self.conversation.messages if isinstance(m, AIMessage)]
            return [(name, words(text)) for name, text in found if text.strip()]
        return [(s.voice.partition("/")[0], words(s.text)) for s in self.rig.spoken if s.text.strip()]

    def prompt(self, index: int) -> str:
        """What the model was shown, as text."""
        return "\n".join(m.text for m in self.model.prompts[index].messages)

    def carried(self, index: int) -> list[Any]:
        """The messages of a prompt that are neither instructions nor what is known of the caller."""
        shown = self.model.prompts[index].messages
        return [
            m
            for m in shown
            if not isinstance(m, SystemMessage)
            and not (isinstance(m, HumanMessage) and (m.additional_kwargs.get("instructions") or m.id is None))
        ]

    def check(self) -> None:
        """What holds after any call of an application."""
        assert not self.model.errors
        check_invariants(self.conversation, said=self.said, current_agent=self.current_agent)


def agents_of(graph: Any) -> dict[str, Any]:
    """Name -> definition, of each agent of a graph."""
    compiled = graph.compile()
    found = {name: definition_of(compiled, name) for name in compiled.nodes}
    return {name: agent for name, agent in found.items() if agent is not None}


def voices(graph: Any) -> Mapping[str, Voice]:
    """For each agent a voice that can be told by its name: the agent's, and what the agent declares."""
    return {
        name: Voice(tts=partial(FakeTTS, f"{name}/{agent.voice.tts}"), turn_handling=agent.voice.turn_handling)
        for name, agent in agents_of(graph).items()
    }


@contextlib.asynccontextmanager
async def app_call(app: str, front_end: str, script: Sequence[Any], **options: Any) -> AsyncIterator[AppCall]:
    """A call of `graphs/<app>` with a scripted model, from the first agent's greeting on. At its end what is
    remembered is checked against what happened, on both sides.

    Args:
        app: the folder's name.
        front_end: "text", or "voice" (on the virtual clock).
        script: the model's replies.
        options: of `Conversation`.
    """
    graph, model = load_graph(str(GRAPHS / app)), ScriptedModel(script)
    config = {**options.pop("config", {}), "configurable": {"llm": model}}
    if front_end == "text":
        async with Conversation[Any](graph, config=config, **options) as conversation:
            call = AppCall(conversation, model, None)
            await conversation.run()
            yield call
            call.check()
        return
    agent = GraphAgent(graph, voices=voices(graph), config=config, **options)
    with no_accidents():
        async with voice_rig(agent) as rig:
            call = AppCall(agent.conversation, model, rig)
            await rig.until_idle()
            yield call
            await rig.until_idle()
            agrees(agent, rig.session)
            call.check()
            assert rig.session.current_agent.id == call.current_agent
        await agent.aclose()
