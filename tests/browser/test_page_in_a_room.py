"""The live page in Chromium with `serve --livekit`: what it does with LiveKit's client. That one is a stand-in."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from browser_support import STUCK, Complaints, opened, until
from livekit import api
from page_support import served
from room_support import SECRET, StandInServer, speaking_shelf

from graph_voice_livekit.page.room import RoomAccess

pytestmark = pytest.mark.browser

CLIENT = """
window.done = [];
window.rooms = [];
window.LivekitClient = {
  RoomEvent: {
    TrackSubscribed: "trackSubscribed",
    TrackUnsubscribed: "trackUnsubscribed",
    Disconnected: "disconnected",
  },
  createAudioAnalyser: () => ({ calculateVolume: () => 0.5, cleanup: async () => window.done.push("cleanup") }),
  Room: class {
    constructor() {
      this.heard = {};
      rooms.push(this);
      this.localParticipant = {
        setMicrophoneEnabled: async (on) => {
          done.push(`microphone ${on}`);
          return on ? { track: {} } : undefined;
        },
      };
    }
    on(name, act) { this.heard[name] = act; return this; }
    async startAudio() {}
    async connect(url, token) {
      if (window.shut) {
        this.heard.disconnected();  // as LiveKit's does
        throw new Error("it is shut");
      }
      done.push(`connect ${url}`);
      this.token = token;
    }
    async disconnect() { done.push("disconnect"); this.heard.disconnected(); }
  },
};
"""


@pytest.fixture
def server() -> StandInServer:
    return StandInServer()


@pytest.fixture
def access(tmp_path: Path, server: StandInServer) -> RoomAccess:
    file = tmp_path / "client.js"
    file.write_text(CLIENT, encoding="utf-8")
    return RoomAccess("wss://live.example", "key", SECRET, file, join=server.join)


async def test_the_page_enters_its_room_speaks_and_leaves(
    browse: Any, complaints: Complaints, access: RoomAccess
) -> None:
    async with served(speaking_shelf(), livekit=access, token="t") as client, browse() as browser:
        shown = await opened(browser, client, complaints, "/?token=t")
        assert "through a LiveKit server" in await shown.locator("#start-words").inner_text()
        await shown.click("#start-voice")
        await until(shown, "window.done?.includes('microphone true')")
        assert await shown.evaluate("done[0]") == "connect wss://live.example"
        given = api.TokenVerifier("key", SECRET).verify(await shown.evaluate("rooms[0].token"))
        assert given.video is not None
        assert given.video.room_join
        await until(shown, "document.querySelector('#meter').getAttribute('aria-valuenow') === '50'")
        # The agent's voice is heard as long as its track is there.
        await shown.evaluate("""() => {
            const element = document.createElement("audio");
            window.track = { kind: "audio", attach: () => element, detach: () => [element] };
            rooms[0].heard.trackSubscribed(track);
        }""")
        assert await shown.locator("body > audio").count() == 1
        await shown.evaluate("rooms[0].heard.trackUnsubscribed(track)")
        assert await shown.locator("body > audio").count() == 0
        await shown.click("#mute")
        await shown.click("#mute")
        await until(shown, "done.join().includes('microphone true,microphone false,microphone true')")
        await shown.click("#restart")
        await until(shown, "rooms.length === 2 && done.includes('disconnect') && done.includes('cleanup')")
        await until(shown, "rooms[1].token && rooms[1].token !== rooms[0].token")
        assert await shown.locator(".notice.error").count() == 0  # who leaves has not lost the room


async def test_a_room_that_is_shut_or_lost_is_said_and_its_call_ends(
    browse: Any, complaints: Complaints, access: RoomAccess, server: StandInServer
) -> None:
    async with served(speaking_shelf(), livekit=access, token="t") as client, browse() as browser:
        shown = await opened(browser, client, complaints, "/?token=t")
        await shown.evaluate("window.shut = true")
        await shown.click("#start-voice")
        await shown.get_by_text("it is shut").wait_for()
        assert await shown.locator(".notice.error").count() == 1
        assert await shown.locator("#state").inner_text() == "over"
        await shown.evaluate("window.shut = false")
        await shown.click("#restart")
        await until(shown, "window.done?.includes('microphone true')")
        await shown.evaluate("rooms.at(-1).heard.disconnected()")
        await shown.get_by_text("the room was left").wait_for()
        await asyncio.gather(*(asyncio.wait_for(room.left.wait(), STUCK) for room in server.rooms))


async def test_a_client_that_can_not_be_loaded_leaves_a_call_in_text(
    browse: Any, complaints: Complaints, access: RoomAccess
) -> None:
    await asyncio.to_thread(access.client.unlink)
    complaints.expect("livekit-client.js")
    async with served(speaking_shelf(), livekit=access, token="t") as client, browse() as browser:
        shown = await opened(browser, client, complaints, "/?token=t")
        await shown.click("#start-voice")
        await shown.get_by_text("so this is a call in text").wait_for()
        await shown.wait_for_selector("#text:enabled")
