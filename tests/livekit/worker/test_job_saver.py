"""`create_server(saver=...)`: one store per job, opened in its process, closed behind the end of the call."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from livekit.agents import AgentServer, AgentSession

from graph_voice import LiveSaver
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel
from graph_voice_livekit import GraphAgent, create_server
from graph_voice_livekit.worker.server import PRELOADED

WORKER = f"{Path(__file__).parents[2] / 'support' / 'worker_agent.py'}:graph"
pytestmark = pytest.mark.virtual_clock

seen: list[str] = []
store = InMemorySaver()


class Noted(InMemorySaver):
    """Notes what is written, into the one store of these tests."""

    def __init__(self) -> None:
        super().__init__()
        self.storage, self.writes, self.blobs = store.storage, store.writes, store.blobs

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        seen.append("write")
        return await super().aput(*args, **kwargs)


@asynccontextmanager
async def connected() -> AsyncIterator[BaseCheckpointSaver[Any]]:
    seen.append("open")
    yield Noted()
    seen.append("close")


async def opened() -> BaseCheckpointSaver[Any]:
    seen.append("open")
    return Noted()


def made() -> BaseCheckpointSaver[Any]:
    seen.append("open")
    return LiveSaver(Noted(), at_max_lag="end_call")


def unreachable() -> Any:
    raise OSError("no route to host")


async def hangs() -> Any:
    await asyncio.sleep(3600)


def no_saver() -> Any:
    return {"postgres": "please"}


def describe_call(job: Any) -> dict[str, Any]:
    model = ScriptedModel(["Hello there."] * 2)
    return {"thread_id": "t", "config": {"configurable": {"llm": model}}, "on_resume": lambda resumed: None}


async def hold(monkeypatch: pytest.MonkeyPatch, make: Any) -> GraphAgent:
    """One job whose caller says hello, with what LiveKit would pickle."""
    entrypoints: list[Any] = []
    options: dict[str, Any] = {}
    register, init, start = AgentServer.rtc_session, AgentServer.__init__, AgentSession.start
    agents: list[GraphAgent] = []

    def noted(server: AgentServer, **given: Any) -> None:
        options.update(given)
        init(server, **given)

    async def without_room(session: AgentSession[Any], *, agent: Any, room: Any = None) -> Any:
        agents.append(agent)
        started = await start(session, agent=agent)
        await session.run(user_input="hello")
        return started

    with monkeypatch.context() as patch:
        patch.setattr(AgentServer, "__init__", noted)
        patch.setattr(AgentServer, "rtc_session", lambda s, f, **k: (entrypoints.append(f), register(s, f, **k))[1])
        patch.setattr(AgentSession, "start", without_room)
        create_server(WORKER, session={"vad": None}, saver=make, call=describe_call)
        ended = asyncio.Event()
        job = SimpleNamespace(
            proc=SimpleNamespace(userdata={}),
            room=SimpleNamespace(name="room"),
            is_fake_job=lambda: True,
            add_shutdown_callback=lambda callback: None,
            shutdown=lambda reason: ended.set(),
        )
        pickle.loads(pickle.dumps(options["setup_fnc"]))(job.proc)
        await pickle.loads(pickle.dumps(entrypoints[0]))(job)
        await agents[0].session.aclose()
        await ended.wait()
    return agents[0]


@pytest.mark.parametrize("make", [connected, opened, made])
async def test_a_job_has_a_store_of_its_own_and_the_next_job_goes_on(
    monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    seen.clear()
    for kept in (store.storage, store.writes, store.blobs):
        kept.clear()
    first = await hold(monkeypatch, make)
    assert first.conversation.resumed is None
    second = await hold(monkeypatch, make)
    assert second.conversation.resumed is not None
    assert [m.text for m in second.conversation.messages] == ["hello", "Hello there."] * 2
    assert seen.count("open") == 2
    if make is connected:
        assert seen.count("close") == 2
        assert seen[-1] == "close"
        assert seen[: seen.index("close")].count("write") >= 1


@pytest.mark.parametrize(("make", "reason"), [(unreachable, "no route to host"), (hangs, "TimeoutError")])
async def test_a_store_that_can_not_be_opened_keeps_nobody_from_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make: Any, reason: str
) -> None:
    agent = await hold(monkeypatch, make)
    assert [m.text for m in agent.conversation.messages] == ["hello", "Hello there."]
    assert "the call is held, and not stored" in caplog.text
    assert reason in caplog.text


async def test_something_that_is_no_checkpointer_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"create_server\(saver=no_saver\).*AsyncSqliteSaver"):
        await hold(monkeypatch, no_saver)


def test_a_closure_is_refused() -> None:
    with pytest.raises(BuildError, match=r"create_server\(saver=.*def make_saver\(\)"):
        create_server(WORKER, saver=lambda: store)


def test_what_every_job_needs_is_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    init = AgentServer.__init__
    monkeypatch.setattr(AgentServer, "__init__", lambda s, **given: (options.update(given), init(s, **given))[1])
    create_server(WORKER, preload_modules=["my_package.agents"])
    assert options["preload_modules"] == [PRELOADED, "my_package.agents"]
