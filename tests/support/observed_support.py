"""A stand-in for a LiveKit room that somebody watches: it carries the messages that LiveKit's own session sends."""

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.remote_session import SessionHost, SessionTransport

AGENT, CALLER = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT, rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD
SESSION, PAGE, CAPTIONS = "lk.agent.session", "graph_voice.page", "lk.transcription"


class Stream:
    """What arrives: its parts, one after the other."""

    def __init__(self, parts: Iterable[Any], **attributes: str) -> None:
        self.info = SimpleNamespace(attributes={f"lk.{k}": v for k, v in attributes.items()}, stream_id="stream")
        self.closed = False
        self._parts = iter(parts)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._parts)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        self.closed = True


class WatchedRoom:
    """The room, as one who watches sees it."""

    def __init__(self) -> None:
        self.remote_participants: dict[str, Any] = {}
        self.entered: list[tuple[str, str, Any]] = []
        self.left = False
        self._on: dict[str, list[Callable[..., None]]] = {}
        self._handlers: dict[str, Callable[[Any, str], None]] = {}

    # ---- what LiveKit's client has

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self._on.setdefault(event, []).append(handler)

    def register_byte_stream_handler(self, topic: str, handler: Callable[[Any, str], None]) -> None:
        self._handlers[topic] = handler

    register_text_stream_handler = register_byte_stream_handler

    async def connect(self, url: str, token: str, options: rtc.RoomOptions) -> None:
        self.entered.append((url, token, options))

    async def disconnect(self) -> None:
        self.left = True

    # ---- what happens in it

    def seat(self, identity: str, kind: Any = AGENT, **attributes: str) -> None:
        shown = {f"lk.agent.{name}": value for name, value in attributes.items()}
        who = SimpleNamespace(identity=identity, kind=kind, attributes=shown)
        self.remote_participants[identity] = who
        self.emit("participant_connected", who)

    def leave(self, identity: str) -> None:
        self.emit("participant_disconnected", self.remote_participants.pop(identity))

    def emit(self, event: str, *what: Any) -> None:
        for handler in self._on.get(event, ()):
            handler(*what)

    def send(self, topic: str, parts: Iterable[Any], who: str = "agent", **attributes: str) -> Stream:
        stream = Stream(parts, **attributes)
        self._handlers[topic](stream, who)
        return stream


class IntoRoom(SessionTransport):
    """LiveKit's session speaks into the room through this, in the bytes that it would send."""

    def __init__(self, room: WatchedRoom) -> None:
        self._room, self._over = room, asyncio.Event()

    async def start(self) -> None:
        pass

    async def send_message(self, msg: Any) -> None:
        data = msg.SerializeToString()
        self._room.send(SESSION, [data[:10], data[10:]])

    async def close(self) -> None:
        self._over.set()

    def __aiter__(self) -> "IntoRoom":
        return self

    async def __anext__(self) -> Any:
        await self._over.wait()
        raise StopAsyncIteration


async def host_in(room: WatchedRoom, session: AgentSession[Any]) -> SessionHost:
    """Let LiveKit tell the room what happens in this session."""
    host = SessionHost(IntoRoom(room))
    host.register_session(session)
    await host.start()
    return host
