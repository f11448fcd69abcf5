"""The worker's side of `graph-voice serve --watch`: tells those who watch the room what the page shows."""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from livekit import rtc
from livekit.agents import AgentSession, JobContext
from livekit.agents.voice.events import CloseEvent
from livekit.agents.voice.io import TextOutput

from graph_voice.drawing import agents_of, to_svg
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.page.protocol import ToPage
from graph_voice_livekit.page.room import SEATS, TOPIC
from graph_voice_livekit.page.snapshot import Snapshot
from graph_voice_livekit.page.watch import CallWatch

__all__ = ["CallTeller", "tell_observers"]

logger = logging.getLogger("graph_voice.livekit")
_PACE = 0.2
"""Seconds in which changes are sent together. Of one turn, only the last is."""
_AGAIN = 5.0
"""Seconds after which all is told again: who is hidden in the room is not known, so nobody can be welcomed."""
_WAITING = 500
"""Messages that may wait for a slow room."""
_FAREWELL = 2.0
"""Seconds for the last messages of a call."""
_LINGERING = 0.5
"""Seconds to stay then: LiveKit does not report when text has arrived, and loses it if the writer leaves before."""


def tell_observers() -> "CallTeller":
    """For `create_server(observe=tell_observers)`: each call can be watched with `graph-voice serve --watch ROOM`.

    What the live page shows (words that were not heard, running nodes, userdata, tools) is sent to the observers of the
    room, and to nobody else in it. Secrets are masked.
    """
    return CallTeller()


class CallTeller:
    """Tells the observers of one call's room what happens. They need not be there, and the call never waits."""

    def __init__(self) -> None:
        self._watch = CallWatch(self.tell)
        self._snapshot = Snapshot()
        self._waiting: dict[str, ToPage] = {}
        self._count = 0
        self._call = uuid.uuid4().hex
        self._tasks: list[asyncio.Task[None]] = []
        self._room: rtc.Room | None = None
        self._reason: str | None = None
        """Why the session has ended."""

    @property
    def callbacks(self) -> Sequence[BaseCallbackHandler]:
        """What listens to the runs of the graph."""
        return [self._watch.runs]

    @property
    def captions(self) -> TextOutput:
        """The end of LiveKit's text output."""
        return self._watch.captions

    def begin(self, job: JobContext, session: AgentSession[Any], agent: GraphAgent) -> None:
        """Follow this call until `aclose`."""
        self._watch.follow(agent.conversation, session)
        session.on("close", self._closed)
        self._tasks = [asyncio.create_task(self._run(job, agent), name="graph_voice.teller")]

    async def _run(self, job: JobContext, agent: GraphAgent) -> None:
        await job.connect()
        room = job.room
        self.tell(await asyncio.to_thread(_started, agent, room.name))
        self._room = room
        self._tasks += [
            asyncio.create_task(self._watch.run(), name="graph_voice.teller.watch"),
            asyncio.create_task(self._repeat(), name="graph_voice.teller.repeat"),
        ]
        while True:
            await self._send()
            await asyncio.sleep(_PACE)

    async def _repeat(self) -> None:
        while True:
            self._waiting["snapshot"] = self._all
            await asyncio.sleep(_AGAIN)

    @property
    def _all(self) -> ToPage:
        return {"type": "snapshot", "call": self._call, "messages": list(self._snapshot.messages())}

    def tell(self, message: ToPage) -> None:
        """Tell this with the next ones. A prompt can't be asked for from afar, so none is offered."""
        if message["type"] == "turn":
            message = {**message, "prompts": []}
        self._snapshot.keep(message)
        kind = message["type"]
        if kind in ("line", "notice", "caller"):
            self._count += 1
            key = str(self._count)
        else:
            key = f"{kind} {message.get('id', '')}"
        self._waiting.pop(key, None)  # it comes behind those before it
        if len(self._waiting) < _WAITING:
            self._waiting[key] = message

    async def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for message in waiting.values():
            await self._send_one(message)

    async def _send_one(self, message: ToPage) -> None:
        assert self._room is not None
        try:
            text = json.dumps(message, ensure_ascii=False, default=str)
            await self._room.local_participant.send_text(text, topic=TOPIC, destination_identities=list(SEATS))
        except Exception as error:  # the call does not depend on it, and all is told again
            logger.debug("observers were not told something: %r", error)

    def _closed(self, event: CloseEvent) -> None:
        self._reason = event.reason.value

    async def aclose(self) -> None:
        """Tell what is left while the room is still there, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._room is None:
            return
        self._watch.tell()
        if self._reason is not None:
            self.tell({"type": "ended", "reason": self._reason})
        self._waiting["snapshot"] = self._all  # for those who came since the last one
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._send()
                await asyncio.sleep(_LINGERING)


def _started(agent: GraphAgent, room: str) -> ToPage:
    graph = agent.conversation.graph
    return {
        "type": "started",
        "graph": room,
        "svg": to_svg(graph),
        "agents": agents_of(graph),
        "model": f"room {room}",
        "mode": "watch",
    }
