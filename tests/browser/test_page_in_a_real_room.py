"""`serve --livekit` and `--watch` in Chromium, with a real LiveKit server, LiveKit's own client, and real voices."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_support import Complaints, opened
from livekit.agents import utils
from page_support import served
from speech_support import SEED

from graph_voice_livekit.console.setup import CALLER_VOICE, Choices
from graph_voice_livekit.inprocess.pcm import synthesize
from graph_voice_livekit.offline import OfflineParts, load_all
from graph_voice_livekit.page.observer import ObserverAccess, RoomObserver
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.page.room import CLIENT, RoomAccess
from tests.browser.test_page_with_speech import GREETING, SPEAKS, wav
from tests.rooms.livekit_server import MISSING, LiveKitServer, find_server, serve

pytestmark = [pytest.mark.browser, pytest.mark.speech, pytest.mark.rooms]
LOUDNESS = """async () => {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(document.querySelector("body > audio").srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let loudest = 0;
  for (let look = 0; look < 600 && loudest < 0.01; look++) {
    await new Promise((done) => setTimeout(done, 50));
    analyser.getFloatTimeDomainData(samples);
    loudest = Math.max(loudest, ...samples.map(Math.abs));
  }
  return loudest;
}"""
"""The loudest sample that comes out of the agent's track, as soon as one is loud."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    program = find_server()
    if program is None:
        pytest.skip(MISSING)
    with serve(program, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Path:
    file = Path(os.environ.get("LIVEKIT_CLIENT") or CLIENT).absolute()
    if not file.is_file():
        pytest.skip(f"there is no {file}: npm install livekit-client@2, or LIVEKIT_CLIENT=/path/to/its umd.js")
    return file


@pytest.fixture(scope="module")
def speech() -> OfflineParts:
    return load_all(seed=SEED)


@contextlib.asynccontextmanager
async def watched(server: LiveKitServer, room: str) -> AsyncIterator[Any]:
    """A page that watches this room."""
    observer = RoomObserver(ObserverAccess.of(server.environment), room)
    running = asyncio.create_task(observer.run())
    try:
        async with served(Shelf(Choices("none.py"), text_only=True), observer=observer) as http:
            yield http
    finally:
        await utils.aio.cancel_and_wait(running)


async def test_a_spoken_call_goes_through_a_real_room_and_is_watched_from_another_page(
    browse: Any, server: LiveKitServer, client: Path, speech: OfflineParts, complaints: Complaints
) -> None:
    bill = await synthesize(speech.tts(CALLER_VOICE), "I have a question about my bill.")
    shelf = Shelf(Choices("graphs/customer_service.py", llm="offline", seed=SEED))
    access = RoomAccess.of(server.environment, client, watched=True)
    rooms: list[Any] = []
    made = RoomAccess.room

    def noted(self: RoomAccess) -> Any:
        rooms.append(made(self))
        return rooms[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoomAccess, "room", noted)
        async with served(shelf, livekit=access) as http, browse() as browser:
            shown = await opened(browser, http, complaints, script=SPEAKS)
            await shown.click("#start-voice")
            await shown.locator("body > audio").wait_for(state="attached")
            assert await shown.evaluate(LOUDNESS) >= 0.01
            greeting = shown.locator("#lines .line.heard").first
            await greeting.wait_for()
            assert GREETING in await greeting.inner_text()
            async with watched(server, rooms[0].name) as watching:
                other = await opened(browser, watching, complaints)
                assert not await other.locator("#say").is_visible()
                await other.locator("#state", has_text="listening").wait_for()
                await shown.evaluate("window.speak", wav(bill))
                await shown.locator("g.active[data-node=billing]").wait_for()
                await shown.locator("#lines .line.heard", has_text="billing").wait_for()
                await other.locator("#lines .line.heard", has_text="billing").wait_for()
                await other.locator("#lines .handoff", has_text="billing").wait_for()
                if folder := os.environ.get("SCREENSHOTS"):
                    await shown.screenshot(path=f"{folder}/room.png")
                    await other.screenshot(path=f"{folder}/watched.png")
                await shown.click("#mute")
                await shown.click("#restart")  # the caller hangs up
                await other.locator("#lines .end").wait_for()
