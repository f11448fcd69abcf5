"""A stand-in for the room of a LiveKit server, and speech models that do nothing, for the live page."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from livekit import rtc
from page_support import shelf_of

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.testing import FakeSTT, FakeTTS, FakeVAD

SECRET = "a secret of thirty-two bytes or more"


class StandIn(rtc.Room):
    """A room that nobody else ever enters. It notes what is done to it."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__()
        self.url, self.token, self.left = url, token, asyncio.Event()
        self._me = MagicMock(identity="agent", publish_track=AsyncMock(), set_attributes=AsyncMock())

    @property
    def local_participant(self) -> Any:
        return self._me

    async def disconnect(self, *args: Any, **more: Any) -> None:
        self.left.set()


class StandInServer:
    """Takes everybody in, unless there is a problem."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.rooms: list[StandIn] = []
        self._problem = problem

    async def join(self, url: str, token: str) -> rtc.Room:
        if self._problem is not None:
            raise self._problem
        self.rooms.append(StandIn(url, token))
        return self.rooms[-1]


def speaking_shelf() -> Shelf:
    """One graph, and speech models that are there at once."""
    made = shelf_of(create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel([])))
    made.text_only = False

    async def speech(progress: Any) -> Any:
        return SimpleNamespace(stt=FakeSTT(), vad=FakeVAD(), tts=lambda name: FakeTTS(str(name)), voices=("one",))

    made.speech = speech  # type: ignore[method-assign]
    return made
