"""One page: its WebSocket, what it asks for, and its call."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from graph_voice import Conversation
from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.page.call import PageCall
from graph_voice_livekit.page.limits import Allowance, Places
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.page.protocol import (
    FromPage,
    Interrupt,
    PageError,
    Played,
    Pong,
    Prompt,
    SaveTest,
    Say,
    Start,
    ToPage,
    read,
)
from graph_voice_livekit.page.room import RoomAccess

__all__ = ["PageConnection", "SaveTestHook", "close_socket"]

SaveTestHook = Callable[[str, Conversation[Any]], Awaitable[str]]
"""Given the name of the graph and the call."""

logger = logging.getLogger("graph_voice.page")
_UNSENT = 16 * 2**20
"""Characters of JSON and bytes of sound that a page may leave unread. One that reads nothing loses its call."""
_GOODBYE = 3.0
"""Seconds in which a page can take the reason for which its socket is closed."""
_PATIENCE = 3.0
"""Seconds to wait for a place: a page that is loaded again has just hung up."""
_POLICY = 1008
"""WebSocket's close code for those who break the rules."""
_BUSY = "All {most} calls of this server are taken. Close another page, or start the server with a higher --max-calls."


async def close_socket(socket: web.WebSocketResponse, abort: Callable[[], None], code: int, why: str) -> None:
    """Close a page's socket, also if the page reads nothing: `abort` then ends its connection."""
    try:
        async with asyncio.timeout(_GOODBYE):
            await socket.close(code=code, message=why.encode()[:120])
    except TimeoutError:
        abort()


class PageConnection:
    """Reads and answers one page until it is gone. Whatever it does harms only its own call.

    Args:
        socket: prepared.
        abort: ends its connection at once.
        shelf: the graphs.
        places: how many calls there may be at once.
        endings: gets the task that ends the call.
        replays: whether the page plays a stored call. Then it has none of its own.
        save: writes the call as a test, and returns where. None: the page does not offer it.
        livekit: where the sound of calls goes through a room. None: through the socket.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        abort: Callable[[], None],
        shelf: Shelf,
        places: Places,
        endings: set[asyncio.Task[None]],
        *,
        replays: bool = False,
        save: SaveTestHook | None = None,
        livekit: RoomAccess | None = None,
    ) -> None:
        self._replays, self._save, self._livekit = replays, save, livekit
        self._socket, self._shelf, self._places, self._endings = socket, shelf, places, endings
        self._abort = abort
        self._out: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._unsent = 0
        # 50 frames and 50 reports a second, and what has waited while this process was busy.
        self._messages = Allowance(rate=200.0, burst=3000.0)
        self._looks = Allowance(rate=5.0, burst=50.0)
        self._call: PageCall | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._has_place = False

    def send(self, message: ToPage | bytes) -> None:
        """Queue something for the page, in order."""
        frame = message if isinstance(message, bytes) else json.dumps(message)
        if self._unsent + len(frame) <= _UNSENT:
            self._unsent += len(frame)
            self._out.put_nowait(frame)
        elif self._closing is None:
            self._closing = asyncio.create_task(self._refuse("it does not read what it is sent"))

    async def run(self) -> None:
        """Serve the page until it is gone, then hang up."""
        writer = asyncio.create_task(self._write(), name="page writer")
        self.send(self._welcome())
        try:
            async for frame in self._socket:
                self._take(frame.type, frame.data)
        except PageError as error:
            await self._refuse(str(error))
        finally:
            # The server may cancel who serves a page that is gone. The call must end nevertheless.
            ending = asyncio.create_task(self._end(writer), name="page end")
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            await asyncio.shield(ending)

    async def _end(self, writer: asyncio.Task[None]) -> None:
        for task in (self._starting, self._saving):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._hang_up()
        writer.cancel()
        await asyncio.gather(writer, *([self._closing] if self._closing else []), return_exceptions=True)

    async def _write(self) -> None:
        while True:
            frame = await self._out.get()
            if self._socket.closed:
                return
            try:
                if isinstance(frame, bytes):
                    await self._socket.send_bytes(frame)
                else:
                    await self._socket.send_str(frame)
            except (ConnectionError, RuntimeError):
                return  # the page is gone: reading tells so as well
            self._unsent -= len(frame)

    def _welcome(self) -> ToPage:
        shelf = self._shelf
        return {
            "type": "welcome",
            "graphs": shelf.names,
            "graph": shelf.first,
            "speech": not shelf.text_only,
            "replay": self._replays,
            "save": self._save is not None,
            "livekit": self._livekit is not None,
        }

    async def _refuse(self, why: str) -> None:
        logger.warning("a page was refused: %s", why)
        await close_socket(self._socket, self._abort, _POLICY, why)

    # ---- what the page says

    def _take(self, kind: WSMsgType, data: object) -> None:
        if not self._messages.take(1.0, time.monotonic()):
            raise PageError("more messages than a page sends")
        if kind is WSMsgType.BINARY and isinstance(data, bytes):
            if self._call is not None and not self._call.over:
                self._call.hear(data)
        elif kind is WSMsgType.TEXT and isinstance(data, str):
            self._obey(read(data))

    def _obey(self, message: FromPage) -> None:
        if isinstance(message, Start):
            if self._replays:
                raise PageError("this server plays a stored call")
            if self._starting is not None:
                raise PageError("one page has one call: open another socket")
            self._starting = asyncio.create_task(self._start(message), name="page start")
        elif self._call is not None:
            self._during(self._call, message)

    def _during(self, call: PageCall, message: FromPage) -> None:
        match message:
            case Prompt(id=name):
                if not self._looks.take(1.0, time.monotonic()):
                    raise PageError("more prompts than anybody reads")
                if (shown := call.watch.prompt(name)) is not None:
                    self.send(shown)
            case SaveTest():
                if self._save is None or (self._saving is not None and not self._saving.done()):
                    return
                self._saving = asyncio.create_task(self._save_test(call, self._save), name="page saves")
            case _ if call.over:
                return
            case Say():
                call.say(message)
            case Interrupt():
                call.interrupt()
            case Played():
                call.played(message)
            case Pong():
                call.pong(message)

    async def _save_test(self, call: PageCall, save: SaveTestHook) -> None:
        try:
            text, kind = f"Written: {await save(call.parts.name, call.watch.conversation)}", "info"
        except (GraphVoiceError, OSError) as error:
            text, kind = f"The test can't be written: {error}", "error"
        self.send({"type": "notice", "kind": kind, "text": text})

    # ---- the call

    async def _start(self, wanted: Start) -> None:
        if not await self._places.wait(_PATIENCE):
            self.send({"type": "notice", "kind": "error", "text": _BUSY.format(most=self._places.most)})
            self.send({"type": "ended", "reason": "busy"})
            return
        self._has_place = True
        try:
            await self._begin(wanted)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, GraphVoiceError):
                logger.exception("a call could not begin")
            self.send({"type": "notice", "kind": "error", "text": f"The call can't begin: {error}"})
            self._ended("error")

    async def _begin(self, wanted: Start) -> None:
        name = wanted.graph or self._shelf.first
        self._progress("the graph", 0.0)
        parts = await self._shelf.load(name)
        voice = wanted.mode == "voice" and not self._shelf.text_only
        speech = await self._shelf.speech(self._progress) if voice else None
        room = self._livekit.room() if voice and self._livekit is not None else None
        call = self._call = PageCall(parts, speech, wanted.sample_rate, self.send, self._ended, room)
        self.send(
            {
                "type": "started",
                "graph": name,
                "svg": parts.svg,
                "agents": list(parts.agents),
                "model": parts.model.name,
                "mode": "voice" if voice else "text",
            }
        )
        if room is not None:
            self.send(room.invitation())
        await call.start()

    def _progress(self, step: str, done: float) -> None:
        self.send({"type": "loading", "step": step, "done": done})

    def _ended(self, reason: str) -> None:
        if self._call is not None and self._call.started:
            self._call.watch.tell()
        self.send({"type": "ended", "reason": reason})
        self._free()

    def _free(self) -> None:
        if self._has_place:
            self._has_place = False
            self._places.give_back()

    async def _hang_up(self) -> None:
        try:
            if self._call is not None:
                await self._call.hang_up()
        except Exception:
            logger.exception("a call did not end as it should")
        finally:
            self._free()
