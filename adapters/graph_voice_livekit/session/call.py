"""What the parts of a call ask of it. `Bridge` is the call; a part knows this much of it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from livekit.agents import AgentSession

from graph_voice import Conversation, Turn
from graph_voice_livekit.session.shared_userdata import SharedUserdata
from graph_voice_livekit.session.turns import TurnCall, TurnDriver

__all__ = ["Call"]


class Call(TurnCall, Protocol):
    """One LiveKit session that speaks one conversation."""

    @property
    def conversation(self) -> Conversation[Any]: ...

    @property
    def userdata(self) -> SharedUserdata: ...

    @property
    def agents(self) -> frozenset[str]:
        """The names of the graph's agents."""

    @property
    def bound(self) -> bool:
        """The graph's first agent has entered the session."""

    def bind(self, session: AgentSession[Any]) -> None:
        """The call is this session's from now on."""

    @property
    def active_agent(self) -> str | None:
        """The agent of the graph that is LiveKit's active agent; None while an external agent is."""

    @property
    def is_external(self) -> bool:
        """Whether an external agent is LiveKit's active agent."""

    @property
    def busy(self) -> TurnDriver | None:
        """A turn that happens, and that LiveKit still speaks, or will."""

    def drive(self, turn: Turn) -> TurnDriver:
        """Let LiveKit speak this turn, from its next reply on."""

    def background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run this beside everything else; it ends with the call."""
