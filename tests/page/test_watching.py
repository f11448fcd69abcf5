"""`serve --watch`: the page that watches, and the command."""

from typing import Any

import pytest
from page_support import page, served
from room_support import SECRET

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.console.setup import Choices
from graph_voice_livekit.page.commands import serve
from graph_voice_livekit.page.observer import ObserverAccess, RoomObserver
from graph_voice_livekit.page.parts import Shelf


async def test_a_page_is_told_that_it_watches_and_has_no_say() -> None:
    observer = RoomObserver(ObserverAccess("ws://live.example", "key", SECRET), "desk", "<svg/>", ["desk"])
    shelf = Shelf(Choices("none.py"), text_only=True)
    async with served(shelf, observer=observer) as http, page(http) as one, page(http) as two:
        assert one.last("welcome")["watch"] == "desk"
        await one.until(lambda: bool(one.all("started")))
        assert one.last("started")["svg"] == "<svg/>"
        for message in ('{"type": "start", "mode": "voice"}', '{"type": "say", "text": "Hi."}', "nonsense"):
            await one.socket.send_str(message)
        await two.until(lambda: bool(two.all("started")))
        assert [message["type"] for message in one.told] == ["welcome", "started"]
        await one.socket.close()
        assert not two.socket.closed


def test_the_command_refuses_what_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(GraphVoiceError, match="--watch: set LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET"):
        serve(watch="desk", port=0, open_browser=False)
    more: dict[str, Any]
    for more in ({"livekit": True}, {"observers": True}, {"text": True}, {"replay": "calls/x"}):
        with pytest.raises(GraphVoiceError, match="leave out --livekit"):
            serve(watch="desk", port=0, open_browser=False, **more)
