"""Many live pages at once: `python scripts/page_load.py --pages 20`, or with speech: `--pages 4 --speech`.

Each page is a WebSocket, as a browser opens it. In text it types lines, and the seconds until the answer are measured.
With speech it says lines with an offline voice and plays what it is sent, in real time, and the seconds from the end of
a line to the first sound of the answer are measured, as the caller hears them.
"""

import argparse
import asyncio
import json
import statistics
import struct
import time
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestServer

from graph_voice_livekit.console.setup import CALLER_VOICE, Choices
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.page.server import make_app

GRAPH = "graphs/customer_service.py"
RATE = 24_000
STEP = RATE // 50
LINES = ("I have a question about my bill.", "How much do I owe?", "Please send me back to the front desk.")


class Caller:
    """One page and who sits before it."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.turns: dict[str, Any] = {}
        self.waits: list[float] = []
        self.waiting: list[tuple[int, int]] = []
        self.played: dict[int, int] = {}
        self.asked: float | None = None
        self.changed = asyncio.Event()
        self.begun = asyncio.Event()
        self.saying = b""

    async def read(self) -> None:
        async for frame in self.socket:
            if frame.type is WSMsgType.BINARY:
                (segment,) = struct.unpack("<I", frame.data[:4])
                self.waiting.append((segment, (len(frame.data) - 4) // 2))
            elif frame.type is WSMsgType.TEXT:
                await self.take(json.loads(frame.data))
            self.changed.set()

    async def take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "started":
                self.begun.set()
            case "turn":
                self.turns[message["id"]] = message
            case "ping":
                await self.send("pong", id=message["id"], at=time.monotonic() * 1000)
            case "clear":
                self.waiting = [each for each in self.waiting if each[0] != message["segment"]]
                await self.report(message["segment"], final=True)

    async def send(self, kind: str, **more: Any) -> None:
        await self.socket.send_json({"type": kind, **more})

    async def report(self, segment: int, final: bool = False) -> None:
        samples = self.played.get(segment, 0)
        await self.send("played", segment=segment, samples=samples, at=time.monotonic() * 1000, final=final)

    async def types(self) -> None:
        for text in LINES:
            began = time.monotonic()
            await self.send("say", text=text)
            while not any(t["user"] == text and t["state"] == "closed" for t in self.turns.values()):
                self.changed.clear()
                await self.changed.wait()
            self.waits.append(time.monotonic() - began)

    async def speaks(self, lines: list[bytes]) -> None:
        """Play and speak in real time, 20 ms each 20 ms."""
        due, quiet, left = time.monotonic(), 0, list(lines)
        heard_something = False
        while left or self.asked is not None or self.waiting or quiet < 100:
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sounds = bool(self.waiting)
            if sounds:
                segment, count = self.waiting.pop(0)
                self.played[segment] = self.played.get(segment, 0) + count
                await self.report(segment)
                heard_something = True
                if self.asked is not None:
                    self.waits.append(time.monotonic() - self.asked)
                    self.asked = None
            quiet = 0 if sounds or self.saying else quiet + 1
            if not self.saying and left and heard_something and quiet == 50 and self.asked is None:
                self.saying = left.pop(0)
            now, self.saying = self.saying[: 2 * STEP], self.saying[2 * STEP :]
            if now and not self.saying:
                self.asked = time.monotonic()
            await self.socket.send_bytes(now.ljust(2 * STEP, b"\0"))


async def one(client: ClientSession, address: str, lines: list[bytes] | None) -> list[float]:
    async with client.ws_connect(f"{address}call", headers={"Origin": address.rstrip("/")}, max_msg_size=0) as socket:
        caller = Caller(socket)
        reading = asyncio.create_task(caller.read())
        await caller.send("start", mode="text" if lines is None else "voice", sample_rate=RATE)
        await caller.begun.wait()
        await (caller.types() if lines is None else caller.speaks(lines))
        reading.cancel()
        return caller.waits


async def main(pages: int, speech: bool) -> None:
    shelf = Shelf(Choices(GRAPH, llm="offline"), text_only=not speech)
    await shelf.load()
    lines = None
    if speech:
        from graph_voice_livekit.inprocess.pcm import synthesize, voiced

        voice = (await shelf.speech(lambda step, done: None)).tts(CALLER_VOICE)
        spoken = [await synthesize(voice, text) for text in LINES[:2]]
        lines = [samples[: voiced(samples)[1]].tobytes() for samples in spoken]
    async with TestServer(make_app(shelf, max_calls=pages)) as server, ClientSession() as client:
        address = str(server.make_url("/"))
        waits = await asyncio.gather(*(one(client, address, lines) for _ in range(pages)))
    found = sorted(wait for each in waits for wait in each)
    expected = pages * len(lines or LINES)
    kind = "spoken" if speech else "typed"
    print(
        f"{pages} pages, {len(found)} of {expected} {kind} lines answered; seconds to "
        f"{'the first sound' if speech else 'the whole answer'}: median {statistics.median(found):.2f}, "
        f"worst {found[-1]:.2f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--speech", action="store_true")
    options = parser.parse_args()
    asyncio.run(main(options.pages, options.speech))
