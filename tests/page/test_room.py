"""`serve --livekit`: who may enter the room of a page's call. No LiveKit server: its room is a stand-in."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jwt
import pytest
from livekit import api
from page_support import STUCK, Page, page, served
from room_support import SECRET, StandInServer, speaking_shelf

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.page.captions import PageCaptions
from graph_voice_livekit.page.commands import serve
from graph_voice_livekit.page.room import TOPIC, RoomAccess, RoomError

CLIENT = "window.LivekitClient = {};"
ENVIRONMENT = {"LIVEKIT_URL": "wss://live.example:7880", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": SECRET}


@pytest.fixture
def client(tmp_path: Path) -> Path:
    file = tmp_path / "livekit-client.umd.js"
    file.write_text(CLIENT, encoding="utf-8")
    return file


def access(client: Path, server: StandInServer, **more: Any) -> RoomAccess:
    return RoomAccess("wss://live.example:7880", "key", SECRET, client, join=server.join, **more)


def claims(token: str) -> Any:
    return api.TokenVerifier("key", SECRET).verify(token)


@asynccontextmanager
async def speaking(livekit: RoomAccess | None, **options: Any) -> AsyncIterator[Any]:
    """The page's server, with speech models that do nothing."""
    async with served(speaking_shelf(), livekit=livekit, **options) as client:
        yield client


async def invited(shown: Page) -> dict[str, Any]:
    await shown.start(mode="voice")
    await shown.until(lambda: bool(shown.all("room") or shown.all("ended")))
    return shown.last("room")


# ---- the server that is named


@pytest.mark.parametrize("missing", [c for n in (1, 2, 3) for c in itertools.combinations(ENVIRONMENT, n)])
def test_what_is_missing_in_the_environment_is_named(missing: tuple[str, ...], client: Path) -> None:
    for empty in (False, True):
        kept = {k: v for k, v in ENVIRONMENT.items() if k not in missing} | (
            dict.fromkeys(missing, "") if empty else {}
        )
        with pytest.raises(RoomError) as raised:
            RoomAccess.of(kept, client)
        assert [name for name in ENVIRONMENT if name in str(raised.value)] == list(missing)
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", ["live.example", "ftp://live.example", "wss://", "7880"])
def test_an_address_that_is_none(url: str, client: Path) -> None:
    with pytest.raises(RoomError, match="LIVEKIT_URL"):
        RoomAccess.of({**ENVIRONMENT, "LIVEKIT_URL": url}, client)


def test_livekits_client_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RoomError, match="npm install livekit-client"):
        RoomAccess.of(ENVIRONMENT, tmp_path / "none.js")


def test_the_command_refuses_before_anything_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for options, words in (
        ({"livekit": True}, "LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET"),
        ({"livekit": True, "text": True}, "leave out --text"),
        ({"livekit": True, "replay": "calls/x"}, "--replay"),
        ({"observers": True}, "add --livekit"),
    ):
        with pytest.raises(GraphVoiceError, match=words):
            serve("missing.py", port=0, open_browser=False, **options)  # type: ignore[arg-type]


# ---- the token


def test_a_token_opens_one_room_for_a_while_to_speak_and_to_listen(client: Path) -> None:
    rooms = [access(client, StandInServer()).room() for _ in range(3)]
    assert len({room.name for room in rooms}) == len({room.identity for room in rooms}) == 3
    for room in rooms:
        invitation = room.invitation()
        assert SECRET not in json.dumps(invitation)
        given = claims(invitation["token"])
        assert given.identity == room.identity == invitation["identity"]
        assert given.video.room_join
        assert given.video.room == room.name
        assert given.video.can_publish_sources == ["microphone"]
        assert not given.video.can_publish_data
        assert not any((given.video.room_admin, given.video.room_create, given.video.room_list, given.video.agent))
        times = jwt.decode(invitation["token"], options={"verify_signature": False})
        assert 0 < times["exp"] - times["nbf"] <= 600
    with pytest.raises(jwt.InvalidSignatureError):
        api.TokenVerifier("key", "another secret of thirty-two bytes").verify(rooms[0].invitation()["token"])


async def test_each_page_and_the_agent_meet_in_a_room_of_their_own(client: Path) -> None:
    server = StandInServer()
    async with speaking(access(client, server)) as http, page(http) as one, page(http) as two:
        assert one.last("welcome")["livekit"]
        first, second = await invited(one), await invited(two)
        assert first["url"] == "wss://live.example:7880"
        for shown in (one, two):  # the session has begun
            await shown.until(lambda shown=shown: bool(shown.all("agent")))  # type: ignore[misc]
        callers = [claims(each["token"]) for each in (first, second)]
        agents = [claims(room.token) for room in server.rooms]
        assert sorted(c.video.room for c in callers) == sorted(a.video.room for a in agents)
        assert len({c.video.room for c in callers}) == len({c.identity for c in callers}) == 2
        assert all(agent.kind == "agent" and agent.video.agent for agent in agents)
        assert not {c.identity for c in callers} & {a.identity for a in agents}
        (mine,) = (r for r in server.rooms if claims(r.token).video.room == callers[0].video.room)
        (other,) = (r for r in server.rooms if r is not mine)
        assert SECRET not in json.dumps(one.told)
        await one.socket.close()
        await asyncio.wait_for(mine.left.wait(), STUCK)
        assert not other.left.is_set()
    assert other.left.is_set()


async def test_a_server_that_can_not_be_reached(client: Path) -> None:
    server = StandInServer(problem=ConnectionError("nobody is there"))
    async with speaking(access(client, server), max_calls=1) as http:
        for _ in range(2):  # the place is free again
            async with page(http) as shown:
                await shown.start(mode="voice")
                await shown.until(lambda shown=shown: bool(shown.all("ended")))  # type: ignore[misc]
                assert "live.example can't be joined: nobody is there" in shown.last("notice")["text"]
                assert shown.last("ended")["reason"] == "error"


async def test_a_call_in_text_has_no_room(client: Path) -> None:
    server = StandInServer()
    async with speaking(access(client, server)) as http, page(http) as shown:
        await shown.start(mode="text")
        assert not shown.all("room")
        assert not server.rooms


# ---- the page


async def test_the_page_may_connect_to_that_server_only(client: Path) -> None:
    async with speaking(access(client, StandInServer()), token="t") as http:
        shown = await http.get("/?token=t")
        (rule,) = (r for r in shown.headers["Content-Security-Policy"].split("; ") if r.startswith("connect-src"))
        assert rule == "connect-src 'self' wss://live.example:7880 https://live.example:7880"
        assert (await http.get("/livekit-client.js")).status == 403
        assert await (await http.get("/livekit-client.js?token=t")).text() == CLIENT
    async with speaking(None) as http:
        assert "connect-src 'self';" in (await http.get("/")).headers["Content-Security-Policy"]
        assert (await http.get("/livekit-client.js")).status == 404


@pytest.mark.parametrize(
    ("url", "origins"),
    [
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880 http://127.0.0.1:7880"),
        ("https://live.example/", "https://live.example wss://live.example"),
        ("wss://me:pass@live.example", "wss://live.example https://live.example"),
        (
            "wss://my.livekit.cloud",
            "wss://my.livekit.cloud https://my.livekit.cloud wss://*.livekit.cloud https://*.livekit.cloud",
        ),
        ("wss://notlivekit.cloud", "wss://notlivekit.cloud https://notlivekit.cloud"),
    ],
)
def test_the_origins_of_a_server(url: str, origins: str, client: Path) -> None:
    assert RoomAccess.of({**ENVIRONMENT, "LIVEKIT_URL": url}, client).origins == origins


# ---- those who watch the room


@pytest.mark.parametrize("watched", [False, True])
async def test_others_in_the_room_are_told_if_it_was_asked_for(watched: bool, client: Path) -> None:
    sent: list[tuple[str, str]] = []
    asked: dict[str, Any] = {}

    async def send_text(text: str, *, topic: str) -> None:
        sent.append((topic, text))
        if len(sent) == 1:
            raise ConnectionError("a moment without a network")

    async def start(agent: Any, **options: Any) -> None:
        asked.update(options)

    async def disconnect() -> None:
        pass

    async def join(url: str, token: str) -> Any:
        return SimpleNamespace(local_participant=SimpleNamespace(send_text=send_text), disconnect=disconnect)

    room = RoomAccess("wss://live.example", "key", SECRET, client, watched, join).room()
    agent, captions = cast(Any, object()), PageCaptions(lambda: None)
    await room.start(cast(Any, SimpleNamespace(start=start)), agent, captions)
    assert asked["session_host"] is watched
    assert asked["room_options"].participant_identity == room.identity
    assert asked["room_options"].text_output.next_in_chain is captions
    assert not asked["room_options"].text_input
    told = [{"type": "agent", "name": name} for name in ("desk", "billing")]
    for message in told:
        room.tell(message)
    for _ in range(10):
        await asyncio.sleep(0)
    assert sent == ([(TOPIC, json.dumps(message)) for message in told] if watched else [])
    await room.aclose()
