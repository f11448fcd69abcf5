"""What the parts of a call may ask of it: a protocol, which `Bridge` fulfills."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from livekit.agents import AgentSession

from graph_voice import Conversation, Turn
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.shared_userdata import SharedUserdata
from graph_voice_livekit.session.turns import TurnCall

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
        """Whether the graph's first agent has entered the session."""

    def bind(self, session: AgentSession[Any]) -> None:
        """The call is this session's from now on."""

    @property
    def active_agent(self) -> str | None:
        """The agent of the graph that is LiveKit's active agent; None while an external agent is."""

    @property
    def is_external(self) -> bool:
        """Whether an external agent is LiveKit's active agent."""

    @property
    def busy(self) -> Driver | None:
        """A committed turn that LiveKit has not finished speaking; None if there is none."""

    def drive(self, turn: Turn) -> Driver:
        """Make the driver of a turn. `speak` starts it."""

    def background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run this as a task of the call; it is canceled when the call ends."""
