"""The live page in Chromium with `serve --watch`. The room is a stand-in."""

import asyncio
import json
import os
from typing import Any

import pytest
from browser_support import Complaints, opened
from livekit.agents import utils
from observed_support import CALLER, CAPTIONS, PAGE, WatchedRoom
from page_support import served
from room_support import SECRET

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.drawing import to_svg
from graph_voice_livekit.console.setup import Choices
from graph_voice_livekit.page.observer import ObserverAccess, RoomObserver
from graph_voice_livekit.page.parts import Shelf

pytestmark = pytest.mark.browser
GRAPH = create_voice_graph(
    [Agent("desk", instructions="D", handoffs=[Handoff("billing", "Invoices.")]), Agent("billing", instructions="B")]
)


def turn(words: str, **more: Any) -> dict[str, Any]:
    said = {"id": "m1", "heard": words, "unheard": " and more", "state": "cut"}
    step = {"agent": "desk", "words": [said], "calls": []}
    empty: dict[str, Any] = {name: [] for name in ("failed", "handoffs", "prompts", "written", "spans")}
    about = {"number": 1, "state": "closed", "began": 0.0, "user": "Hello.", "interrupted": True}
    return {"type": "turn", "id": "t1", "steps": [step], **about, **empty, **more}


async def test_a_page_that_watches_shows_the_call_and_offers_nothing_to_say(
    browse: Any, complaints: Complaints
) -> None:
    room = WatchedRoom()
    rooms = {"office": 1}

    async def which() -> dict[str, int]:
        return rooms

    observer = RoomObserver(ObserverAccess("wss://live.example", "key", SECRET, which, lambda: room), "office")
    room.seat("agent", state="speaking")
    room.seat("caller", CALLER)
    running = asyncio.create_task(observer.run())
    shelf = Shelf(Choices("none.py"), text_only=True)
    async with served(shelf, observer=observer) as client, browse() as browser:
        shown = await opened(browser, client, complaints)
        await shown.locator("#state", has_text="speaking").wait_for()
        assert await shown.title() == "office · graph_voice"
        for name in ("#say", "#save", "#start", "#mute"):
            assert not await shown.locator(name).is_visible()

        # What any agent tells: its captions.
        room.send(CAPTIONS, ["Hello, ", "this is the desk."], segment_id="s1")
        await shown.locator("#lines .line.heard", has_text="Hello, this is the desk.").wait_for()
        assert await shown.get_by_text("There is no drawing of this graph.").is_visible()

        # What a worker of ours tells replaces it.
        started = {"type": "started", "graph": "office", "svg": to_svg(GRAPH), "agents": ["desk", "billing"]}
        userdata = {"type": "userdata", "fields": {"name": "<b>Ada</b>"}}
        messages = [started, turn("One, two"), userdata, {"type": "agent", "name": "billing", "before": "desk"}]
        room.send(PAGE, [json.dumps({"type": "snapshot", "call": "c1", "messages": messages})])
        await shown.locator("g.active[data-node=billing]").wait_for()
        assert await shown.locator("#lines .turn").count() == 1
        assert await shown.locator("#lines s").inner_text() == "and more"
        assert await shown.locator("#facts dd").inner_text() == "<b>Ada</b>"
        if folder := os.environ.get("SCREENSHOTS"):
            await shown.screenshot(path=f"{folder}/watches.png")

        # A page that is loaded again has all of it, and the next call begins a new page.
        await shown.reload()
        await shown.locator("#lines .line.cut").wait_for()
        rooms["office"] = 0
        room.leave("caller")
        room.leave("agent")
        await shown.locator("#lines .end").wait_for()
        await shown.click("#restart")
        await shown.locator("#lines .end").wait_for()
        rooms["office"] = 1
        room.seat("agent", state="listening")
        await shown.locator("#state", has_text="listening").wait_for()
        await shown.locator("#lines .turn").wait_for(state="detached")
    await utils.aio.cancel_and_wait(running)
