"""`create_server(observe=tell_observers)`: what a worker tells those who watch its rooms, and nobody else."""

import asyncio
import contextlib
import json
import pickle
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from livekit.agents import AgentServer, AgentSession
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import create_server, tell_observers
from graph_voice_livekit.page.room import SEATS, TOPIC

pytestmark = pytest.mark.virtual_clock
PAGE = Path(__file__).parents[3] / "docs" / "live-page.md"


class Caller(BaseModel):
    name: str = ""
    card: SecretStr | None = None


@function_tool
async def pay(ctx: RunContext[Caller], number: SecretStr) -> str:
    """Pay with a card."""
    ctx.userdata.card = number
    ctx.userdata.name = "Ada"
    return "Paid."


def model() -> ScriptedModel:
    return ScriptedModel([call("pay", {"number": "4929 1234 5678"}), "That is paid.", "Goodbye."])


desk = Agent("desk", instructions="D", tools=[pay])
graph = create_voice_graph([desk], llm=model(), userdata=Caller)


def describe(job: Any) -> dict[str, Any]:
    CONFIGURED.clear()
    return {"config": {"callbacks": [Noted()], "configurable": {"llm": model()}}}


CONFIGURED: list[str] = []


class Noted(BaseCallbackHandler):
    run_inline = True

    def on_chat_model_start(self, *args: Any, **more: Any) -> None:
        CONFIGURED.append("asked")


class Room:
    """A room that notes what is sent, and to whom."""

    def __init__(self) -> None:
        self.name, self.local_participant = "room-1", self
        self.sent: list[tuple[Any, tuple[str, ...]]] = []
        self.fails = 0

    async def send_text(self, text: str, *, topic: str, destination_identities: list[str]) -> None:
        assert topic == TOPIC
        await asyncio.sleep(0.05)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("gone for a moment")
        self.sent.append((json.loads(text), tuple(destination_identities)))

    def all(self, kind: str) -> list[Any]:
        return [message for message, _ in self.sent if message["type"] == kind]


class Work:
    """A worker's call in that room."""

    def __init__(self, room: Room, serve: Any, setup: Any) -> None:
        self.room, self._serve, self._setup = room, serve, setup
        self.session: AgentSession[Any] | None = None
        self.options: dict[str, Any] = {}
        self.shut = asyncio.Event()

    async def begin(self, fake: bool = False) -> None:
        job = SimpleNamespace(
            proc=SimpleNamespace(userdata={}),
            room=self.room,
            connect=lambda: asyncio.sleep(0),
            is_fake_job=lambda: fake,
            shutdown=lambda reason: self.shut.set(),
            add_shutdown_callback=lambda callback: None,
        )
        self._setup(job.proc)
        await self._serve(job)

    async def say(self, text: str) -> None:
        assert self.session is not None
        await self.session.run(user_input=text)

    async def end(self) -> None:
        assert self.session is not None
        await self.session.aclose()
        await asyncio.wait_for(self.shut.wait(), 60)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a worker whose session has no room to start in."""
    registered: list[Any] = []
    handed: dict[str, Any] = {}
    working: list[Work] = []
    init, really_start = AgentServer.__init__, AgentSession.start

    def noted(server: AgentServer, **options: Any) -> None:
        handed.update(options)
        init(server, **options)

    async def start(session: AgentSession[Any], *, agent: Any, **options: Any) -> Any:
        working[-1].session, working[-1].options = session, options
        return await really_start(session, agent=agent)

    monkeypatch.setattr(AgentServer, "__init__", noted)
    monkeypatch.setattr(AgentServer, "rtc_session", lambda server, function, **options: registered.append(function))
    monkeypatch.setattr(AgentSession, "start", start)

    @contextlib.asynccontextmanager
    async def made(**options: Any) -> AsyncIterator[Work]:
        create_server(f"{__file__}:graph", session={"vad": None}, call=describe, **options)
        working.append(Work(Room(), registered[-1], handed["setup_fnc"]))
        yield working[-1]

    return made


async def test_observers_and_nobody_else_are_told_the_call_without_its_secrets(worker: Any) -> None:
    async with worker(observe=tell_observers) as work:
        await work.begin()
        await work.say("My card is 4929 1234 5678, please pay.")
        await asyncio.sleep(1)
        await work.end()
        room = work.room
        assert {to for _, to in room.sent} == {SEATS}
        assert "4929" not in json.dumps(room.sent)
        assert room.all("userdata")[-1]["fields"]["name"] == "Ada"
        last = room.all("turn")[-1]
        assert [step["calls"][0]["name"] for step in last["steps"] if step["calls"]] == ["pay"]
        assert last["prompts"] == []
        assert room.all("started")[0]["agents"] == ["desk"]
        assert "<svg" in room.all("started")[0]["svg"]
        assert room.all("ended") == [{"type": "ended", "reason": "user_initiated"}]
        assert CONFIGURED  # the program's own callbacks hear the runs as well


async def test_all_is_told_again_for_who_comes_later(worker: Any) -> None:
    async with worker(observe=tell_observers) as work:
        await work.begin()
        await work.say("Pay, please.")
        await asyncio.sleep(30)
        snapshots = work.room.all("snapshot")
        assert 4 <= len(snapshots) <= 8
        assert len({snapshot["call"] for snapshot in snapshots}) == 1
        kinds = [message["type"] for message in snapshots[-1]["messages"]]
        assert kinds[0] == "started"
        assert {"turn", "userdata", "agent", "state"} <= set(kinds)
        told = len(work.room.sent)
        await asyncio.sleep(30)
        assert {message["type"] for message, _ in work.room.sent[told:]} == {"snapshot"}  # nothing else has changed
        await work.end()
        assert work.room.all("snapshot")[-1]["messages"][-1]["type"] == "ended"


async def test_a_room_that_fails_does_not_harm_the_call(worker: Any) -> None:
    async with worker(observe=tell_observers) as work:
        work.room.fails = 3
        await work.begin()
        await work.say("Pay, please.")
        await asyncio.sleep(10)
        assert work.session.history.items[-1].text_content == "That is paid."
        assert work.room.all("snapshot")
        work.room.fails = 10**6
        await work.end()


def broken() -> Any:
    raise LookupError("no")


async def test_who_can_not_follow_a_call_does_not_keep_it_from_being_held(
    worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(observe=broken) as work:
        await work.begin()
        await work.say("Pay, please.")
        await work.end()
        assert not work.room.sent
        assert "the call is not followed" in caplog.text


@pytest.mark.parametrize(("observe", "fake"), [(None, False), (tell_observers, True)])
async def test_nobody_is_told_unless_it_was_asked_for_and_there_is_a_room(
    worker: Any, observe: Any, fake: bool
) -> None:
    async with worker(observe=observe) as work:
        await work.begin(fake=fake)
        await work.say("Pay, please.")
        await asyncio.sleep(10)
        await work.end()
        assert not work.room.sent
        assert "room_options" not in work.options


async def test_words_are_told_as_they_are_heard(worker: Any) -> None:
    async with worker(observe=tell_observers) as work:
        await work.begin()
        text_output = work.options["room_options"].text_output
        assert text_output.next_in_chain.label == "page captions"
        await work.end()


def test_the_worker_of_the_page_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_agent.py").write_text("graph = None", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert isinstance(names["server"], AgentServer)


def test_a_closure_is_refused_with_the_fix() -> None:
    with pytest.raises(BuildError, match="def make_observe"):
        create_server(f"{__file__}:graph", observe=lambda: tell_observers())
    assert pickle.loads(pickle.dumps(tell_observers)) is tell_observers
