"""A page's call in a LiveKit room: who may come in, and the agent's side of it."""

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from livekit import api, rtc
from livekit.agents import AgentSession, room_io

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.page.captions import PageCaptions
from graph_voice_livekit.page.protocol import ToPage

__all__ = ["CLIENT", "SEATS", "TOPIC", "PageRoom", "RoomAccess", "RoomError", "server_of"]

CLIENT = Path("node_modules/livekit-client/dist/livekit-client.umd.js")
"""LiveKit's own client for browsers, where npm puts it."""
TOPIC = "graph_voice.page"
"""Text of this topic is what the page is told, for those who watch the room."""
SEATS = tuple(f"graph_voice.observer.{number}" for number in range(1, 9))
"""Identities of those who watch. A worker tells only them: who is hidden in a room is not known to it."""
logger = logging.getLogger("graph_voice.page")
_EXPIRES = timedelta(minutes=10)
"""Until then a page must have joined. Who has joined stays."""
_VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
_SCHEMES = {"ws": "http", "wss": "https", "http": "ws", "https": "wss"}
Join = Callable[[str, str], Awaitable[rtc.Room]]


class RoomError(GraphVoiceError, OSError):
    """There is no LiveKit room for the page."""


def server_of(environment: Mapping[str, str], option: str) -> tuple[str, str, str]:
    """URL, key and secret of the LiveKit server, from the variables that its own programs read. Raises `RoomError`."""
    if missing := [name for name in _VARIABLES if not environment.get(name)]:
        raise RoomError(f"{option}: set {', '.join(missing)} to those of your LiveKit server.")
    url, key, secret = (environment[name] for name in _VARIABLES)
    if urlsplit(url).scheme not in _SCHEMES or not urlsplit(url).hostname:
        raise RoomError(f"{option}: LIVEKIT_URL is no address of a LiveKit server, such as wss://my.livekit.cloud.")
    return url, key, secret


async def join(url: str, token: str) -> rtc.Room:
    """Connect to the room of this token."""
    room = rtc.Room()
    await room.connect(url, token)
    return room


@dataclass(frozen=True)
class RoomAccess:
    """A LiveKit server on which each page gets a room of its own.

    Args:
        url: of the server.
        key: LiveKit's API key.
        secret: its secret. It stays in this process: a page gets a token.
        client: LiveKit's client for browsers.
        watched: whether others in the room are told what the page is told, and what LiveKit's own `lk.agent.session`
            has. Who hears that may also steer the session, so it is off unless asked.
        join: connects the agent.
    """

    url: str
    key: str
    secret: str
    client: Path = CLIENT
    watched: bool = False
    join: Join = join

    @classmethod
    def of(
        cls, environment: Mapping[str, str] = os.environ, client: Path = CLIENT, watched: bool = False
    ) -> "RoomAccess":
        """From the variables that LiveKit's own programs read. Raises `RoomError` when something is missing."""
        url, key, secret = server_of(environment, "--livekit")
        if not client.is_file():
            raise RoomError(
                f"--livekit: there is no {client}. Run `npm install livekit-client@2` here, or name its "
                "livekit-client.umd.js with --livekit-client."
            )
        return cls(url, key, secret, client, watched)

    @property
    def origins(self) -> str:
        """What the page may connect to, for its Content-Security-Policy."""
        parts = urlsplit(self.url)
        hosts = [parts.netloc.rpartition("@")[2]]
        if (parts.hostname or "").endswith(".livekit.cloud"):
            hosts.append("*.livekit.cloud")  # the cloud sends its callers to the region that is nearest
        return " ".join(f"{scheme}://{host}" for host in hosts for scheme in (parts.scheme, _SCHEMES[parts.scheme]))

    def room(self) -> "PageRoom":
        """A room for one call, with names that nobody can guess."""
        return PageRoom(self, f"page-{uuid.uuid4().hex}", f"caller-{uuid.uuid4().hex[:12]}")

    def token(self, room: str, identity: str, *, agent: bool) -> str:
        """A token for one participant of one room. A caller may speak and listen there, and nothing else."""
        sources = None if agent else ["microphone"]
        grants = api.VideoGrants(
            room_join=True,
            room=room,
            agent=agent,
            can_publish=True,
            can_subscribe=True,
            can_publish_data=agent,
            can_update_own_metadata=agent,  # LiveKit's session says there whether it listens or speaks
            can_publish_sources=sources,
        )
        made = api.AccessToken(self.key, self.secret).with_identity(identity).with_grants(grants).with_ttl(_EXPIRES)
        return (made.with_kind("agent") if agent else made).to_jwt()


class PageRoom:
    """The room of one call.

    Args:
        access: the server.
        name: of the room.
        identity: of the page in it.
    """

    def __init__(self, access: RoomAccess, name: str, identity: str) -> None:
        self._access, self.name, self.identity = access, name, identity
        self._room: rtc.Room | None = None
        self._told: asyncio.Queue[ToPage] = asyncio.Queue(1000)
        self._telling: asyncio.Task[None] | None = None

    def invitation(self) -> ToPage:
        """What the page needs to join."""
        token = self._access.token(self.name, self.identity, agent=False)
        return {"type": "room", "url": self._access.url, "token": token, "identity": self.identity}

    async def start(self, session: AgentSession[Any], agent: GraphAgent, captions: PageCaptions) -> None:
        """Join, and begin the session there. Raises `RoomError` when the server can't be reached."""
        token = self._access.token(self.name, f"agent-{self.name}", agent=True)
        try:
            self._room = await self._access.join(self._access.url, token)
        except Exception as error:
            raise RoomError(f"the room of {urlsplit(self._access.url).hostname} can't be joined: {error}") from error
        if self._access.watched:
            self._telling = asyncio.create_task(self._tell(self._room), name="page room")
        options = room_io.RoomOptions(
            participant_identity=self.identity,
            text_input=False,
            text_output=room_io.TextOutputOptions(next_in_chain=captions),
        )
        await session.start(agent, room=self._room, room_options=options, session_host=self._access.watched)

    def tell(self, message: ToPage) -> None:
        """Tell those who watch the room what the page is told. They may miss some if they are slow."""
        if self._access.watched and not self._told.full():
            self._told.put_nowait(message)

    async def _tell(self, room: rtc.Room) -> None:
        while True:
            message = json.dumps(await self._told.get(), ensure_ascii=False)
            try:
                await room.local_participant.send_text(message, topic=TOPIC)
            except Exception as error:  # the room is gone, or the message is too large; the call does not depend on it
                logger.warning("those who watch the room %s were not told something: %r", self.name, error)

    async def aclose(self) -> None:
        """Leave the room."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        if self._room is not None:
            await self._room.disconnect()
