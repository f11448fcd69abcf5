"""A page without a browser: aiohttp's client on the WebSocket, as page.js speaks it."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from graph_voice.launch.model_choice import ModelChoice
from graph_voice_livekit.console.setup import Choices
from graph_voice_livekit.page.parts import GraphParts, Shelf
from graph_voice_livekit.page.server import make_app

STUCK = 60.0
"""Seconds of real time after which what should have happened never will."""
RUN = "import typer; from graph_voice_livekit.page.commands import serve; typer.run(serve)"
PATH = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)


def shelf_of(*graphs: Any, speak: Sequence[str] = (), **names: Any) -> Shelf:
    """A shelf of these graphs, which have models of their own. The first is what the page begins with."""
    named = {**{f"graph_{number}": graph for number, graph in enumerate(graphs)}, **names}
    first = next(iter(named))
    shelf = Shelf(Choices(f"{first}.py"), text_only=True, others={name: f"{name}.py" for name in named})
    for name, graph in named.items():
        shelf.keep(GraphParts.of(name, graph, ModelChoice(None, "scripted"), speak))
    return shelf


class Page:
    """One page. It remembers what it was told."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.told: list[dict[str, Any]] = []
        self.sound: list[bytes] = []
        self.close_code: int | None = None

    @property
    def turns(self) -> dict[str, dict[str, Any]]:
        """The last view of each turn, in order."""
        return {message["id"]: message for message in self.told if message["type"] == "turn"}

    def last(self, kind: str) -> dict[str, Any]:
        return next(message for message in reversed(self.told) if message["type"] == kind)

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.told if message["type"] == kind]

    async def start(self, **more: Any) -> None:
        await self.send("start", **{"mode": "text", **more})
        await self.until(lambda: bool(self.all("started") or self.all("ended")))

    async def send(self, kind: str, **more: Any) -> None:
        await self.socket.send_json({"type": kind, **more})

    async def say(self, text: str) -> dict[str, Any]:
        """Type a line. Returns the turn, when the agent has answered."""
        await self.send("say", text=text)

        def answered() -> bool:
            return any(t["user"] == text and t["state"] == "closed" for t in self.turns.values())

        await self.until(answered)
        return next(t for t in reversed(self.turns.values()) if t["user"] == text)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Read until this holds, or the socket is closed."""
        async with asyncio.timeout(STUCK):
            while not holds():
                if not await self.read():
                    raise AssertionError(f"the socket was closed ({self.close_code}); told: {self.told[-3:]}")

    async def until_closed(self) -> int | None:
        """Read until the server closes the socket. Returns the close code."""
        async with asyncio.timeout(STUCK):
            while await self.read():
                pass
        return self.close_code

    async def read(self) -> bool:
        frame = await self.socket.receive()
        if frame.type is WSMsgType.TEXT:
            self.told.append(json.loads(frame.data))
        elif frame.type is WSMsgType.BINARY:
            self.sound.append(frame.data)
        else:
            self.close_code = self.socket.close_code
            return False
        return True


@asynccontextmanager
async def served(shelf: Shelf, *, port: int | None = None, **options: Any) -> AsyncIterator[TestClient[Any, Any]]:
    """The page's server. `port`: None for a free one."""
    async with TestClient(TestServer(make_app(shelf, **options), port=port)) as client:
        yield client


def origin(client: TestClient[Any, Any]) -> str:
    return str(client.make_url("/")).rstrip("/")


@asynccontextmanager
async def page(client: TestClient[Any, Any], path: str = "/call") -> AsyncIterator[Page]:
    """Open a page; its socket is closed at the end."""
    async with client.ws_connect(path, headers={"Origin": origin(client)}, max_msg_size=0) as socket:
        opened = Page(socket)
        await opened.until(lambda: bool(opened.told))
        yield opened


@asynccontextmanager
async def running(folder: Path, *options: str) -> AsyncIterator[str]:
    """The command in a process. Gives the address that it prints; at the end it gets Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN, "my_agent.py", "--text", "--port", "0", "--no-open", *options),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATH},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(STUCK):
        while (found := re.search(r"http://\S+", printed)) is None:
            line = await process.stdout.readline()
            assert line, f"it has ended: {printed} {await process.stderr.read() if process.stderr else ''!r}"
            printed += line.decode()
    try:
        yield found.group()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), STUCK)
    assert process.returncode == 0, errors.decode()
