"""Watches a LiveKit room from a hidden seat, and tells pages what goes on there."""

import asyncio
import contextlib
import json
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livekit import api, rtc
from livekit.protocol.agent_pb import agent_session as pb

from graph_voice_livekit.page.protocol import ToPage
from graph_voice_livekit.page.room import SEATS, TOPIC, server_of
from graph_voice_livekit.page.session_view import SessionView
from graph_voice_livekit.page.snapshot import Snapshot

__all__ = ["ObserverAccess", "RoomObserver"]

logger = logging.getLogger("graph_voice.page")
SESSION = "lk.agent.session"
CAPTIONS = "lk.transcription"
_LARGEST = 1 << 20
"""Bytes of one message."""
_UNSENT = 3000
"""Messages that a page may leave unread."""
_PAUSE = 1.0
"""Seconds between two looks for the room."""
_GRACE = 0.5
"""Seconds in which what was sent is still read when everybody has left."""
_OURS = frozenset({"started", "agent", "state", "nodes", "userdata", "turn", "line", "caller", "notice", "ended"})
"""What a worker may tell a page."""
Rooms = Callable[[], Awaitable[Mapping[str, int]]]


@dataclass(frozen=True)
class ObserverAccess:
    """A LiveKit server on which a room is watched.

    Args:
        url: of the server.
        key: LiveKit's API key.
        secret: its secret. It stays in this process.
        rooms: returns the open rooms: name -> how many are in it. None: LiveKit's API says.
        room: makes LiveKit's client of a room.
    """

    url: str
    key: str
    secret: str
    rooms: Rooms | None = None
    room: Callable[[], Any] = rtc.Room

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "ObserverAccess":
        """From the variables that LiveKit's own programs read. Raises `RoomError` when something is missing."""
        return cls(*server_of(environment, "--watch"))

    async def open_rooms(self) -> Mapping[str, int]:
        """The open rooms: name -> how many are in it. Nobody who is hidden counts."""
        if self.rooms is not None:
            return await self.rooms()
        async with api.LiveKitAPI(self.url, self.key, self.secret) as server:
            found = await server.room.list_rooms(api.ListRoomsRequest())
            return {room.name: room.num_participants for room in found.rooms}

    def token(self, room: str, identity: str) -> str:
        """A token with which nothing can be said or changed, and that nobody in the room sees."""
        grants = api.VideoGrants(
            room_join=True,
            room=room,
            hidden=True,
            can_publish=False,
            can_publish_data=False,
            can_subscribe=True,
            can_update_own_metadata=False,
        )
        return api.AccessToken(self.key, self.secret).with_identity(identity).with_grants(grants).to_jwt()


class RoomObserver:
    """One observer for all pages.

    Args:
        access: the server.
        name: of the room.
        svg: a drawing of the graph that is expected there, until the worker sends its own.
        agents: its agents, the start agent first.
    """

    def __init__(self, access: ObserverAccess, name: str, svg: str = "", agents: Sequence[str] = ()) -> None:
        self._access, self.name = access, name
        self._started: ToPage = {
            "type": "started",
            "graph": name,
            "svg": svg,
            "agents": list(agents),
            "model": f"room {name}",
            "mode": "watch",
        }
        self._pages: set[asyncio.Queue[ToPage]] = set()
        self._snapshot = Snapshot()
        self._view = SessionView(self._tell)
        self._call: str | None = None
        """The call of which the worker itself tells what a page shows. Then LiveKit's own messages say nothing new."""
        self._is_over = False
        self._was_empty = False
        """Whether nobody else was in the room when we left it. We come back when somebody is."""
        self._entered = asyncio.Event()
        self._reading: set[asyncio.Task[None]] = set()
        self._tell(self._started)

    # ---- pages

    @contextlib.contextmanager
    def page(self) -> Iterator[asyncio.Queue[ToPage]]:
        """What one page is told, from what it has missed on."""
        told: asyncio.Queue[ToPage] = asyncio.Queue(_UNSENT)
        for message in self._snapshot.messages():
            told.put_nowait(message)
        self._pages.add(told)
        try:
            yield told
        finally:
            self._pages.discard(told)

    def _tell(self, message: ToPage) -> None:
        if message["type"] == "ended" and self._is_over:
            return  # the worker has said it, and now the room is closed
        self._is_over = message["type"] == "ended" or (self._is_over and message["type"] != "started")
        self._snapshot.keep(message)
        for page in self._pages:
            if not page.full():  # else it reads nothing; what it misses is in the next snapshot
                page.put_nowait(message)

    # ---- the room

    async def run(self) -> None:
        """Watch each call in this room, until canceled."""
        said = ""
        while True:
            why = await self._missing()
            if why is None:
                await self._watch()
            elif why != said:
                self._tell({"type": "notice", "kind": "info", "text": why})
            said = why or ""
            await asyncio.sleep(_PAUSE)

    async def _missing(self) -> str | None:
        """Why the room can't be entered. Who enters one that is not there makes it, and an agent would come for us."""
        try:
            rooms = await self._access.open_rooms()
        except Exception as error:
            return f"The LiveKit server can't be reached ({type(error).__name__}). It is tried again."
        if self.name not in rooms:
            self._was_empty = False
        elif rooms[self.name] or not self._was_empty:
            return None
        others = ", ".join(sorted(name for name, people in rooms.items() if people)[:20])
        return f"Nobody is in the room {self.name} yet.{f' There are people in: {others}.' if others else ''}"

    async def _watch(self) -> None:
        """Sit in the room until nobody else is there, or the server lets us sit there no more."""
        room: rtc.Room = self._access.room()
        over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def end(reason: Any) -> None:
            if not over.done():
                over.set_result(reason)

        def left(participant: rtc.RemoteParticipant) -> None:
            if not room.remote_participants:
                self._was_empty = True
                end(None)
            elif _is_agent(participant):
                self._tell({"type": "notice", "kind": "info", "text": "The agent has left the room."})

        room.on("disconnected", end)
        room.on("participant_disconnected", left)
        room.on("participant_attributes_changed", lambda changed, participant: self._shown(participant))
        room.on("participant_connected", self._shown)
        self._call, self._view, self._entered = None, SessionView(self._tell), asyncio.Event()
        self._listen(room)
        try:
            token = self._access.token(self.name, random.choice(SEATS))
            await room.connect(self._access.url, token, rtc.RoomOptions(auto_subscribe=False))
            self._was_empty = not room.remote_participants
            if self._was_empty:
                return  # the server would keep it open for us
            self._tell(self._started)
            self._entered.set()
            for participant in room.remote_participants.values():
                self._shown(participant)
            if await over != rtc.DisconnectReason.DUPLICATE_IDENTITY:  # else another observer has taken this seat
                await asyncio.sleep(_GRACE)  # the last words are on their way
                self._tell({"type": "ended", "reason": "nobody is in the room"})
        except Exception as error:
            self._tell({"type": "notice", "kind": "error", "text": f"The room can't be watched: {error}"})
        finally:
            for task in list(self._reading):
                task.cancel()
            await asyncio.gather(*self._reading, return_exceptions=True)
            await room.disconnect()

    def _listen(self, room: rtc.Room) -> None:
        events: asyncio.Queue[rtc.ByteStreamReader] = asyncio.Queue()
        pages: asyncio.Queue[tuple[str, rtc.TextStreamReader]] = asyncio.Queue()

        def from_agent(identity: str) -> bool:
            sender = room.remote_participants.get(identity)
            return sender is not None and _is_agent(sender)

        def event(reader: rtc.ByteStreamReader, identity: str) -> None:
            events.put_nowait(reader) if from_agent(identity) else reader.close()

        def page(reader: rtc.TextStreamReader, identity: str) -> None:
            pages.put_nowait((identity, reader)) if from_agent(identity) else reader.close()

        def caption(reader: rtc.TextStreamReader, identity: str) -> None:
            self._read(self._caption(reader, from_agent(identity)))

        room.register_byte_stream_handler(SESSION, event)
        room.register_text_stream_handler(TOPIC, page)
        room.register_text_stream_handler(CAPTIONS, caption)
        # One after the other, so that they are told in the order in which they were sent.
        self._read(self._events(events))
        self._read(self._messages(room, pages))

    def _read(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="page observer")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    def _shown(self, participant: rtc.Participant) -> None:
        state = participant.attributes.get("lk.agent.state")
        if state and self._call is None and self._entered.is_set() and _is_agent(participant):
            self._view.state(agent=state)

    # ---- what is said in it

    async def _events(self, readers: asyncio.Queue[rtc.ByteStreamReader]) -> None:
        await self._entered.wait()
        while True:
            message = pb.AgentSessionMessage()
            with _logged("a message of the session"):
                message.ParseFromString(await _whole(await readers.get()))
                if message.HasField("event") and self._call is None:
                    self._view.take(message.event)

    async def _messages(self, room: rtc.Room, readers: asyncio.Queue[tuple[str, rtc.TextStreamReader]]) -> None:
        await self._entered.wait()
        teller = ""
        while True:
            with _logged("a message for the page"):
                sender, reader = await readers.get()
                message = json.loads("".join([part async for part in _bounded(reader)]))
                if sender != teller and teller in room.remote_participants:
                    continue  # there is one page: of several workers, the first one tells it
                if message["type"] == "snapshot":
                    teller = sender
                    self._join(message["call"], message["messages"])
                elif message["type"] in _OURS and sender == teller:
                    self._tell(message)

    def _join(self, call: str, messages: list[dict[str, Any]]) -> None:
        """A worker tells the whole call, again and again. The first time is when one has come in."""
        if call == self._call:
            return
        self._call = call
        for message in messages:
            if message["type"] in _OURS:
                self._tell(message)

    async def _caption(self, reader: rtc.TextStreamReader, is_agent: bool) -> None:
        attributes = reader.info.attributes or {}
        segment = attributes.get("lk.segment_id") or reader.info.stream_id
        is_final, text = attributes.get("lk.transcription_final") == "true", ""
        await self._entered.wait()
        with _logged("captions"):
            async for part in _bounded(reader):
                text += part
                if is_agent and self._call is None:
                    self._view.caption(segment, text, False)
            if self._call is None and is_agent:
                self._view.caption(segment, text, True)
            elif self._call is None:
                self._view.caller_caption(text, is_final)


def _is_agent(participant: rtc.Participant) -> bool:
    return bool(participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT)


async def _whole(reader: rtc.ByteStreamReader) -> bytes:
    return b"".join([part async for part in _bounded(reader)])


async def _bounded(reader: Any) -> AsyncIterator[Any]:
    """The parts of a stream. Raises `ValueError` when it is too long."""
    size = 0
    try:
        async for part in reader:
            size += len(part)
            if size > _LARGEST:
                raise ValueError("it is too long")
            yield part
    finally:
        reader.close()


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the call goes on, and so do those who watch it
        logger.warning("%s could not be read: %r", what, error)
