"""`graph-voice serve --watch` in real rooms: who watches is not seen, says nothing, and is told what happens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from livekit.agents import utils

from graph_voice_livekit.page.observer import ObserverAccess, RoomObserver
from tests.rooms.caller import PATIENCE, joined
from tests.rooms.conftest import DESK
from tests.rooms.desk import BILLING, GREETING, TRANSFER
from tests.rooms.livekit_server import LiveKitServer
from tests.rooms.worker_process import Worker, run_worker

pytestmark = [pytest.mark.rooms, pytest.mark.speech]


@pytest.fixture(scope="module")
def quiet(server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that tells the room what every LiveKit agent tells."""
    folder = tmp_path_factory.mktemp("quiet")
    with run_worker(DESK, server, folder, WORKER_NAME="quiet") as worker:
        yield worker


@pytest.fixture(scope="module")
def open_desk(server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker that tells observers what the live page shows."""
    folder = tmp_path_factory.mktemp("open")
    with run_worker(DESK, server, folder, WORKER_NAME="open", WORKER_OBSERVED="yes") as worker:
        yield worker


class Watcher:
    """A page that watches."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self._changed = asyncio.Event()

    async def read(self, page: asyncio.Queue[Any]) -> None:
        while True:
            self.told.append(await page.get())
            self._changed.set()

    @property
    def turns(self) -> list[dict[str, Any]]:
        return list({message["id"]: message for message in self.told if message["type"] == "turn"}.values())

    @property
    def words(self) -> list[tuple[str, str]]:
        """Agent and words as they were heard, of all turns."""
        steps = [step for turn in self.turns for step in turn["steps"]]
        return [(step["agent"], words["heard"].strip()) for step in steps for words in step["words"]]

    def all(self, kind: str) -> list[Any]:
        return [message for message in self.told if message["type"] == kind]

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {PATIENCE} s for {what}; told: {self.told}") from None


@contextlib.asynccontextmanager
async def watching(server: LiveKitServer, room: str) -> AsyncIterator[Watcher]:
    observer = RoomObserver(ObserverAccess.of(server.environment), room)
    watcher = Watcher()
    running = asyncio.create_task(observer.run())
    with observer.page() as page:
        reading = asyncio.create_task(watcher.read(page))
        try:
            yield watcher
        finally:
            await utils.aio.cancel_and_wait(running, reading)


async def test_a_call_of_any_agent_is_seen_by_whom_nobody_sees(server: LiveKitServer, quiet: Worker, room: str) -> None:
    async with watching(server, room) as watcher:
        await watcher.until(lambda: watcher.all("notice"), "word that the room is not open")
        async with joined(server, room, agent="quiet") as caller:
            await watcher.until(lambda: GREETING in dict(watcher.words).values(), "the greeting")
            await caller.answered()
            await caller.write("Please connect me to billing.")
            await watcher.until(lambda: ("billing", BILLING) in watcher.words, "the new agent's words")
            assert [who.identity for who in caller.room.remote_participants.values()] == [caller.agent.identity]  # type: ignore[union-attr]
        last = next(turn for turn in watcher.turns if turn["user"])
        assert last["user"] == "Please connect me to billing."
        assert [(h["old"], h["new"]) for h in last["handoffs"]] == [("desk", "billing")]
        (call,) = [call for step in last["steps"] for call in step["calls"]]
        assert (call["name"], call["status"]) == ("transfer_to_billing", "done")
        assert {("desk", GREETING), ("desk", TRANSFER)} <= set(watcher.words)
        assert {"listening", "thinking"} <= {message["agent"] for message in watcher.all("state")}
    assert not quiet.errors(room)


async def test_a_worker_tells_its_observers_more_and_who_comes_late_is_told_all(
    server: LiveKitServer, open_desk: Worker, room: str
) -> None:
    async with joined(server, room, agent="open") as caller:
        overheard: list[str] = []
        caller.room.register_text_stream_handler("graph_voice.page", lambda reader, who: overheard.append(who))
        await caller.answered()
        await caller.write("Please connect me to billing.")
        await caller.until(lambda: any(BILLING in line.text for line in caller.captions()), "the new agent's words")
        async with watching(server, room) as watcher:
            await watcher.until(lambda: ("billing", BILLING) in watcher.words, "what was said before")
            started = [message for message in watcher.all("started") if message["svg"]]
            assert started[-1]["agents"] == ["desk", "billing"]
            assert ("desk", GREETING) in watcher.words
            assert watcher.all("agent")[-1]["name"] == "billing"
            await caller.write("Forty two.")
            await watcher.until(lambda: ("billing", "Billing heard: Forty two.") in watcher.words, "the next turn")
            assert watcher.all("nodes")
        assert overheard == []  # the caller is not told what only those who watch may know
    assert not open_desk.errors(room)


async def test_a_watched_call_that_ends_is_said_to_be_over(server: LiveKitServer, open_desk: Worker, room: str) -> None:
    async with watching(server, room) as watcher:
        async with joined(server, room, agent="open"):
            await watcher.until(lambda: ("desk", GREETING) in watcher.words, "the greeting")
        await watcher.until(lambda: watcher.all("ended"), "the end")
    (ended,) = watcher.all("ended")
    # The worker's own word may be lost when it leaves.
    assert ended["reason"] in ("participant_disconnected", "nobody is in the room")
