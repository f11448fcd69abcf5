"""Who may open the page, and what a page can't do: whatever it sends harms only its own call."""

import asyncio
import json
import socket
import struct
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError
from hypothesis import given
from hypothesis import strategies as st
from page_support import STUCK, Page, origin, page, served, shelf_of

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel
from graph_voice_livekit.page import connection, server
from graph_voice_livekit.page.protocol import PageError, Say, read

GRAPH = create_voice_graph(
    [Agent("desk", instructions="Help.")], llm=ScriptedModel(lambda messages: f"Yes: {messages[-1].text}")
)
POLICY = 1008


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80", "Origin": "http://evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.168.0.7:8484"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
    ],
)
async def test_another_site_gets_nothing(headers: dict[str, str]) -> None:
    async with served(shelf_of(GRAPH)) as client:
        for path in ("/", "/call", "/static/page.js"):
            assert (await client.get(path, headers=headers)).status in (400, 403), path


async def test_a_socket_needs_an_origin() -> None:
    async with served(shelf_of(GRAPH)) as client:
        assert (await client.get("/call")).status == 403
        assert (await client.get("/")).status == 200


async def test_elsewhere_the_address_has_a_token() -> None:
    hosts = frozenset({"127.0.0.1", "box"})
    async with served(shelf_of(GRAPH), token="abc123", hosts=hosts) as client:
        for path in ("/", "/call", "/?token=", "/?token=abc", "/call?token=wrong", "/?token=%C3%A9"):
            assert (await client.get(path, headers={"Origin": origin(client)})).status == 403, path
        assert (await client.get("/?token=abc123")).status == 200
        async with page(client, "/call?token=abc123") as shown:
            assert shown.last("welcome")


async def test_only_its_own_files_are_served() -> None:
    async with served(shelf_of(GRAPH)) as client:
        for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static/", "/server.py"):
            assert (await client.get(path)).status in (403, 404), path
        found = await client.get("/")
        policy = found.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


async def test_the_page_asks_nobody_else() -> None:
    async with served(shelf_of(GRAPH)) as client:
        text = await (await client.get("/")).text()
        for name in ("page.css", "page.js", "dom.js", "graph.js", "transcript.js", "times.js", "sound.js"):
            text += await (await client.get(f"/static/{name}")).text()
        assert "https://" not in text
        assert text.replace("http://www.w3.org/2000/svg", "").count("http://") == 0
        assert "innerHTML" not in text


WRONG = [
    "",
    "{",
    "[]",
    "null",
    '{"type": "say"}',
    '{"type": "say", "text": ""}',
    json.dumps({"type": "say", "text": "a" * 2001}),
    '{"type": "say", "text": 7}',
    '{"type": "say", "text": "Hello.", "more": 1}',
    '{"type": "nothing"}',
    '{"type": "start", "mode": "video"}',
    '{"type": "start", "mode": "voice", "sample_rate": 1}',
    '{"type": "start", "mode": "voice", "sample_rate": 1000000000}',
    '{"type": "played", "segment": -1, "samples": 1, "at": 1}',
    '{"type": "played", "segment": 1, "samples": 1e99, "at": 1}',
    '{"type": "played", "segment": 1, "samples": 1, "at": NaN}',
]


@pytest.mark.parametrize("text", WRONG)
async def test_a_wrong_message_ends_its_own_page(text: str) -> None:
    async with served(shelf_of(GRAPH)) as client, page(client) as good, page(client) as bad:
        await good.start()
        await bad.socket.send_str(text)
        assert await bad.until_closed() == POLICY
        turn = await good.say("Are you there?")
        assert turn["steps"][0]["words"][0]["heard"] == "Yes: Are you there?"


@given(st.text())
def test_anything_else_is_a_page_error(text: str) -> None:
    with pytest.raises(PageError):
        read(text)


@given(st.text(min_size=1, max_size=2000))
def test_any_text_can_be_typed(text: str) -> None:
    assert read(json.dumps({"type": "say", "text": text})) == Say(type="say", text=text)


async def test_a_page_has_one_call() -> None:
    async with served(shelf_of(GRAPH)) as client, page(client) as shown:
        await shown.start()
        await shown.send("start", mode="text")
        assert await shown.until_closed() == POLICY


async def flood(shown: Any, kind: str) -> None:
    for number in range(8000):
        if shown.socket.closed:
            return
        match kind:
            case "pong":
                await shown.send("pong", id=number, at=1.0)
            case "say":
                await shown.send("say", text="again")


@pytest.mark.parametrize("kind", ["pong", "say"])
async def test_a_flood_ends_its_own_page(kind: str) -> None:
    async with served(shelf_of(GRAPH)) as client, page(client) as good, page(client) as bad:
        await good.start()
        await bad.start()
        try:
            await flood(bad, kind)
        except ConnectionError:
            pass
        else:
            assert await bad.until_closed() == POLICY
        turn = await good.say("Are you there?")
        assert turn["steps"][0]["words"][0]["heard"] == "Yes: Are you there?"


async def test_a_frame_that_is_too_large_ends_its_own_page() -> None:
    async with served(shelf_of(GRAPH)) as client, page(client) as good, page(client) as bad:
        await good.start()
        await bad.socket.send_str(json.dumps({"type": "say", "text": "a" * 100_000}))
        assert await bad.until_closed() in (1009, 1006)
        assert (await good.say("Hello."))["state"] == "closed"


async def test_no_more_calls_than_there_are_places() -> None:
    async with served(shelf_of(GRAPH), max_calls=1) as client, page(client) as one:
        await one.start()
        async with page(client) as two:
            await two.start()
            assert "--max-calls" in two.last("notice")["text"]
            assert two.last("ended")["reason"] == "busy"
        assert (await one.say("Hello."))["state"] == "closed"


async def has_a_call(client: Any) -> bool:
    async with page(client) as shown:
        await shown.start()
        return bool(shown.all("started"))


async def until_there_is_a_place(client: Any) -> None:
    async with asyncio.timeout(STUCK):
        while not await has_a_call(client):
            pass


LONG_ANSWERS = create_voice_graph(
    [Agent("desk", instructions="a" * 20_000)], llm=ScriptedModel(lambda messages: "a" * 20_000)
)


async def reads_no_more(shown: Page) -> None:
    """More than the machine's own buffers take is on its way to this page from now on."""
    await shown.start()
    for number in range(4):
        turn = await shown.say(f"{number}")
    shown.socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(50):
        await shown.send("prompt", id=turn["prompts"][0]["id"])


async def test_a_page_that_reads_nothing_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_UNSENT", 2**17)
    monkeypatch.setattr(connection, "_GOODBYE", 0.05)
    async with served(shelf_of(LONG_ANSWERS), max_calls=1) as client, page(client) as deaf:
        await reads_no_more(deaf)
        await until_there_is_a_place(client)


async def test_nor_does_it_keep_the_server_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_GOODBYE", 0.05)
    async with asyncio.timeout(STUCK), served(shelf_of(LONG_ANSWERS)) as client:
        deaf = Page(await client.ws_connect("/call", headers={"Origin": origin(client)}, max_msg_size=0))
        await reads_no_more(deaf)
        await client.server.close()


async def test_a_page_that_asks_for_more_prompts_than_anybody_reads() -> None:
    async with served(shelf_of(GRAPH)) as client, page(client) as good, page(client) as bad:
        await good.start()
        await bad.start()
        turn = await bad.say("Hello.")
        for _ in range(40):
            await bad.send("prompt", id=turn["prompts"][0]["id"])
        await bad.until(lambda: len(bad.all("prompt")) == 40)
        for _ in range(2000):
            await bad.send("prompt", id=turn["prompts"][0]["id"])
        assert await bad.until_closed() == POLICY
        assert (await good.say("Hello."))["state"] == "closed"


async def test_there_is_an_end_to_open_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PAGES", 2)
    async with served(shelf_of(GRAPH), max_calls=1) as client:
        async with page(client), page(client), page(client):
            with pytest.raises(WSServerHandshakeError, match="503"):
                await client.ws_connect("/call", headers={"Origin": origin(client)})
        await until_there_is_a_place(client)


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def frame(kind: int, data: bytes) -> bytes:
    """As a browser writes it: masked, here with zeros."""
    return bytes([0x80 | kind, 0x80 | 126]) + struct.pack(">H", len(data)) + bytes(4) + data


@pytest.mark.parametrize("kept", [1, 3, 9, 40])
async def test_a_page_that_vanishes_in_the_middle_of_a_frame_has_hung_up(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE", 0.1)
    async with served(shelf_of(GRAPH), max_calls=1) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        lines = ("GET /call HTTP/1.1", f"Host: 127.0.0.1:{client.port}", f"Origin: {origin(client)}", *UPGRADE, "", "")
        writer.write("\r\n".join(lines).encode())
        writer.write(frame(1, b'{"type": "start", "mode": "text"}'))
        async with asyncio.timeout(STUCK):
            await reader.readuntil(b'"started"')
        assert not await has_a_call(client)
        writer.write(frame(1, b'{"type": "say", "text": "Hello. Is anybody there?"}')[:kept])
        await writer.drain()
        writer.transport.abort()
        await until_there_is_a_place(client)
