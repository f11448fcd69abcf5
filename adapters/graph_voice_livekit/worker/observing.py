"""What follows the calls of a worker for those who watch them."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from langchain_core.callbacks import BaseCallbackHandler
from livekit.agents import AgentSession, JobContext
from livekit.agents.voice.io import TextOutput

from graph_voice_livekit.agent import GraphAgent

__all__ = ["Observe", "Observing", "observing"]

logger = logging.getLogger("graph_voice.livekit")


class Observing(Protocol):
    """Follows one call."""

    @property
    def callbacks(self) -> Sequence[BaseCallbackHandler]:
        """LangChain's callbacks for the runs of the graph."""

    @property
    def captions(self) -> TextOutput:
        """Gets the agent's words as they are heard."""

    def begin(self, job: JobContext, session: AgentSession[Any], agent: GraphAgent) -> None:
        """Called once, before the session starts."""

    async def aclose(self) -> None:
        """Called once, when the call has ended and the room is still there."""


Observe = Callable[[], Observing]


def observing(job: JobContext, observe: Observe | None) -> Observing | None:
    """Who follows this call, if anybody. A call is held without them as well."""
    if observe is None or job.is_fake_job():  # LiveKit's console has no room
        return None
    try:
        return observe()
    except Exception:
        logger.exception("the call is not followed: observe=%r failed", observe)
        return None
