"""One call of a scenario, and what can be observed of it from outside."""

import contextlib
import itertools
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from graph_agent_support import spoken, words
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from livekit.agents import AgentSession
from livekit.agents.voice.events import CloseEvent, FunctionToolsExecutedEvent

from comparison.app import App, Way
from comparison.ways import THREAD, Built, build
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig, voice_rig

__all__ = ["Call", "a_call", "a_text_call", "a_voice_call"]

SECONDS_PER_WORD = 0.25
"""Of `FakeTTS`."""


@dataclass
class Call:
    """A call, by voice or in text."""

    way: Way
    session: AgentSession[Any]
    built: Built
    voice: VoiceRig | None = None
    tools_executed: list[str] = field(default_factory=list)
    """Names in LiveKit's `function_tools_executed` events."""
    metrics: list[Any] = field(default_factory=list)
    closed: list[CloseEvent] = field(default_factory=list)

    @property
    def rig(self) -> VoiceRig:
        assert self.voice is not None, "this call is in text"
        return self.voice

    async def say(self, text: str, *, at: float | None = None, **options: Any) -> float:
        """The caller speaks and is answered; returns the second at which the last word was out."""
        await self.rig.user_says(text, at=at, **options)
        ended = self.rig.now
        await self.rig.until_idle()
        return ended

    @property
    def spoken(self) -> list[tuple[str, str]]:
        """Voice and words, in order."""
        return spoken(self.rig)

    @property
    def words(self) -> str:
        """All that the caller heard."""
        return " ".join(text for _, text in self.spoken)

    def first_word(self, after: float) -> float | None:
        """Seconds from then to the agent's next word; None when it is silent."""
        starts = [s.started for s in self.rig.spoken if s.started >= after]
        return _rounded(min(starts) - after) if starts else None

    def longest_silence(self, after: float) -> float | None:
        """The longest silence between the agent's words after that second; None when nothing is said."""
        parts = [s for s in self.rig.spoken if s.started >= after]
        gaps = [b.started - a.ended for a, b in itertools.pairwise(parts)]
        # Within a stretch the loudspeaker is silent for as long as its audio comes too late.
        waits = [s.ended - s.started - len(s.text.split()) * SECONDS_PER_WORD for s in parts]
        return _rounded(max([*gaps, *waits])) if parts else None

    @property
    def history(self) -> list[tuple[str, str]]:
        """Role and words of each message in LiveKit's history."""
        items = [i for i in self.session.history.items if i.type == "message" and i.role in ("user", "assistant")]
        return [(i.role, words(i.text_content or "")) for i in items]

    async def memory(self) -> list[AnyMessage]:
        """The graph's own memory; empty where there is none (LiveKit's history is all there is)."""
        if isinstance(self.built.agent, GraphAgent):
            return self.built.agent.conversation.messages
        if self.way is Way.SAVER and self.built.graph is not None:
            state = await self.built.graph.aget_state(THREAD)
            return list(state.values.get("messages") or ())
        return []

    async def remembered(self) -> list[tuple[str, str]]:
        """What the model is going to be shown of what was said: the graph's memory, else LiveKit's history."""
        memory = await self.memory()
        if not memory:
            return self.history
        said = [m for m in memory if isinstance(m, HumanMessage | AIMessage) and m.text.strip()]
        return [("user" if isinstance(m, HumanMessage) else "assistant", words(m.text)) for m in said]


@contextlib.asynccontextmanager
async def a_call(app: App, way: Way, **options: Any) -> AsyncIterator[Call]:
    """A call by voice."""
    async with a_voice_call(build(app, way), way, **options) as call:
        yield call


@contextlib.asynccontextmanager
async def a_voice_call(built: Built, way: Way, **options: Any) -> AsyncIterator[Call]:
    """A call by voice with an agent that is made already. What is logged as an error is what the scenario is about."""
    with _quiet():
        async with voice_rig(built.agent, **options) as rig:
            call = _watched(Call(way, rig.session, built, rig))
            yield call
            if not call.closed:
                await rig.until_idle()


@contextlib.asynccontextmanager
async def a_text_call(app: App, way: Way) -> AsyncIterator[Call]:
    """A call in text: `AgentSession.run`."""
    with _quiet():
        built = build(app, way)
        async with AgentSession[Any](vad=None, turn_handling={"turn_detection": "manual"}) as session:
            await session.start(built.agent)
            yield _watched(Call(way, session, built))


def _watched(call: Call) -> Call:
    def executed(event: FunctionToolsExecutedEvent) -> None:
        call.tools_executed.extend(c.name for c in event.function_calls)

    call.session.on("function_tools_executed", executed)
    call.session.on("metrics_collected", lambda event: call.metrics.append(event.metrics))
    call.session.on("close", call.closed.append)
    return call


@contextlib.contextmanager
def _quiet() -> Any:
    loggers = [logging.getLogger(name) for name in ("livekit", "livekit.agents", "graph_voice", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _rounded(seconds: float) -> float:
    return max(0.0, round(seconds, 2))
