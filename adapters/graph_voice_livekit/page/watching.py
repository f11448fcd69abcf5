"""A page that watches a call of others: it is told what goes on, and has no say."""

import asyncio
import contextlib

from aiohttp import web

from graph_voice_livekit.page.observer import RoomObserver
from graph_voice_livekit.page.protocol import ToPage

__all__ = ["watch"]


async def watch(socket: web.WebSocketResponse, observer: RoomObserver) -> None:
    """Tell this page what the observer sees, until it is gone. Whatever it says is not heard."""
    welcome = {"type": "welcome", "graphs": [observer.name], "graph": observer.name, "speech": False, "replay": False}
    await socket.send_json({**welcome, "save": False, "livekit": False, "watch": observer.name})
    with observer.page() as told:
        writing = asyncio.create_task(_write(socket, told), name="page watches")
        try:
            async for _ in socket:
                pass
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


async def _write(socket: web.WebSocketResponse, told: asyncio.Queue[ToPage]) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):  # the page is gone: reading tells so as well
        while not socket.closed:
            await socket.send_json(await told.get())
