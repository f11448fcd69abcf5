"""What the parts of a call know of a turn that LiveKit speaks: a protocol, which `TurnDriver` fulfills."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from livekit.agents import RunContext
from livekit.agents.voice import SpeechHandle

from graph_voice import Turn, events

__all__ = ["Driver"]


class Driver(Protocol):
    """One turn on its way into LiveKit."""

    turn: Turn
    arrived: asyncio.Event
    """Set when the graph has reached LiveKit's active agent: it has produced something for it, or is over."""
    entered_by_method: asyncio.Event
    """Set when an agent's `on_enter` method has ended, has handed off, or was interrupted, and when LiveKit leaves the
    agent, which waits for it."""
    over: asyncio.Event
    """Set when no speech of LiveKit's will drain this turn any more."""

    @property
    def completes(self) -> bool:
        """Whether the turn hands off to the next agent although the caller has interrupted."""

    @property
    def speeches(self) -> list[SpeechHandle]:
        """LiveKit's speeches that drain this turn now."""

    def attach(self, handle: SpeechHandle) -> None:
        """A LiveKit speech drains this turn from now on."""

    def detach(self, handle: SpeechHandle) -> None:
        """This speech does not drain it any more: it waits, for a task, beyond the end of the turn."""

    def goes_on(self, call_id: str, agent: str) -> None:
        """A tool call of this agent, which an earlier turn has made, goes on in this one."""

    async def next(self) -> events.Event | None:
        """The next event for LiveKit's current reply; None when the reply is over."""

    def commit(self, said: Any, at: float) -> None:
        """The user turn really happened, with these final words."""

    async def aclose(self) -> None:
        """The session is over: nothing more is heard."""

    def when_certain(self, act: Callable[[], None]) -> None:
        """Do it as soon as the user turn has really happened: now, later, or never if the turn was a wrong guess."""

    def speak_when_there_are_words(self) -> None:
        """The agent enters by a method, which may say nothing: LiveKit is asked for a reply when there is one."""

    def mirror_started(self, context: RunContext[Any]) -> None:
        """LiveKit runs a tool call of this turn."""

    def mirror_ended(self, context: RunContext[Any]) -> None: ...

    def maybe_close(self) -> None:
        """Close the turn if no speech of LiveKit's can drain it any more."""
