"""Custom data in a room: `create_server(on_custom=..., custom_topic=...)`."""

import asyncio
import json
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.config import get_stream_writer
from livekit.agents import AgentServer, AgentSession

from graph_voice import Agent, create_voice_graph, events, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent, create_server
from graph_voice_livekit.worker.custom_topic import both, send_custom

pytestmark = pytest.mark.virtual_clock


class Room:
    """A room that takes a while to send."""

    def __init__(self) -> None:
        self.name = "room"
        self.local_participant = self
        self.sent: list[tuple[Any, dict[str, str], list[str] | None]] = []
        self.fails = 0
        self._joined: list[Callable[[Any], None]] = []

    def on(self, event: str, handler: Callable[[Any], None]) -> None:
        assert event == "participant_connected"
        self._joined.append(handler)

    def join(self, identity: str) -> None:
        for handler in self._joined:
            handler(SimpleNamespace(identity=identity))

    async def send_text(
        self, text: str, *, topic: str, attributes: dict[str, str], destination_identities: list[str] | None
    ) -> None:
        assert topic == "cart"
        await asyncio.sleep(1)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("gone for a moment")
        self.sent.append((json.loads(text), attributes, destination_identities))


def job_in(room: Room) -> Any:
    async def connect() -> None:
        await asyncio.sleep(0)

    return SimpleNamespace(proc=SimpleNamespace(userdata={}), room=room, connect=connect, is_fake_job=lambda: False)


def of(key: str | None, **data: Any) -> events.Custom:
    return events.Custom("desk", {**({"key": key} if key else {}), **data}, "desk_tools", "add")


WHO = {"agent": "desk", "node": "desk_tools", "tool": "add"}


async def test_the_room_gets_data_as_json_with_who_wrote_it() -> None:
    room = Room()
    await send_custom(job_in(room), "cart")(of(None, text="Zwölf", at=object))
    assert room.sent == [({"text": "Zwölf", "at": str(object)}, WHO, None)]


async def test_who_joins_later_gets_the_latest_of_each_key() -> None:
    room = Room()
    send = send_custom(job_in(room), "cart")
    room.join("early")
    for event in (of("cart", items=1), of("log", text="a"), of("cart", items=2), of(None, text="gone")):
        await send(event)
    room.sent.clear()
    room.fails = 1
    room.join("late")
    room.join("later")
    await asyncio.sleep(5)
    got = [(data.get("items"), to) for data, _, to in room.sent]
    assert got == [
        (None, ["late"]),
        (2, ["later"]),
        (None, ["later"]),
    ]


async def test_one_that_fails_does_not_keep_the_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def broken(event: events.Custom) -> None:
        raise ValueError("no")

    function = both(broken, seen.append)
    assert function is not None
    await function(of("cart"))
    assert len(seen) == 1
    assert "on_custom failed" in caplog.text
    assert both(None, seen.append) == seen.append
    assert both(broken, None) is broken


@function_tool
async def add(item: str) -> str:
    """Add an item."""
    get_stream_writer()({"key": "cart", "items": [item]})
    return "added"


graph = create_voice_graph(
    [Agent("desk", instructions="D", tools=[add])], llm=ScriptedModel([call("add", {"item": "tea"}), "Added."])
)
SEEN: list[Any] = []


async def note(event: events.Custom) -> None:
    SEEN.append(event.data)


async def test_a_worker_sends_what_its_tools_write(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[Any] = []
    handed: dict[str, Any] = {}
    init = AgentServer.__init__

    def noted(server: AgentServer, **options: Any) -> None:
        handed.update(options)
        init(server, **options)

    monkeypatch.setattr(AgentServer, "__init__", noted)
    monkeypatch.setattr(AgentServer, "rtc_session", lambda server, function, **options: registered.append(function))
    create_server(f"{__file__}:graph", session={"vad": None}, on_custom=note, custom_topic="cart")
    agents: list[GraphAgent] = []
    sessions: list[AgentSession[Any]] = []
    really_start = AgentSession.start

    async def start(session: AgentSession[Any], *, agent: Any, **options: Any) -> Any:
        agents.append(agent)
        sessions.append(session)
        return await really_start(session, agent=agent)  # there is no room to start in

    monkeypatch.setattr(AgentSession, "start", start)
    room = Room()
    job = job_in(room)
    job.shutdown = lambda reason: None
    job.add_shutdown_callback = lambda callback: None
    handed["setup_fnc"](job.proc)
    SEEN.clear()
    await registered[0](job)
    await sessions[0].run(user_input="Tea, please.")
    await sessions[0].aclose()
    await agents[0].aclose()
    assert SEEN == [{"key": "cart", "items": ["tea"]}]
    assert room.sent == [({"key": "cart", "items": ["tea"]}, {**WHO, "key": "cart"}, None)]


def test_a_closure_is_refused_with_the_fix() -> None:
    with pytest.raises(BuildError, match="def make_on_custom"):
        create_server(f"{__file__}:graph", on_custom=lambda event: None)
    assert pickle.loads(pickle.dumps(note)) is note
