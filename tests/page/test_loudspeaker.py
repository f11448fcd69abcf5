"""The page's loudspeaker: what LiveKit takes as heard is what the page has played, and no more than it can have."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import rtc

from graph_voice.testing import run
from graph_voice_livekit.page.clock import PageClock
from graph_voice_livekit.page.loudspeaker import LEAD, PageLoudspeaker
from graph_voice_livekit.page.protocol import Played

RATE = 48_000
SECOND = rtc.AudioFrame(bytes(2 * RATE), RATE, 1, RATE)

pytestmark = pytest.mark.virtual_clock


class FakePage:
    """Plays what it is sent, 20 ms each 20 ms, as the worklet does. `lie` changes what it says of it."""

    def __init__(self, lie: Callable[[int], int] = lambda samples: samples, plays: bool = True) -> None:
        self.lie, self.plays = lie, plays
        self.waiting: list[tuple[int, int]] = []
        self.played: dict[int, int] = {}
        self.told: list[dict[str, Any]] = []
        self.paused = False
        self.finished: list[tuple[float, bool]] = []
        self.started: list[float] = []
        self.most = 0
        self.muted = 0
        self.out = PageLoudspeaker(self.take, RATE, PageClock(), self.mute)
        self.out.on("playback_finished", lambda e: self.finished.append((e.playback_position, e.interrupted)))
        self.out.on("playback_started", lambda e: self.started.append(e.created_at))

    def mute(self) -> None:
        self.muted += 1

    def take(self, message: Any) -> None:
        if isinstance(message, bytes):
            (segment,) = struct.unpack("<I", message[:4])
            self.waiting.append((segment, (len(message) - 4) // 2))
            self.most = max(self.most, sum(count for _, count in self.waiting))
            return
        self.told.append(message)
        match message["type"]:
            case "pause" | "resume":
                self.paused = message["type"] == "pause"
            case "clear":
                segment = message["segment"]
                self.waiting = [each for each in self.waiting if each[0] != segment]
                self.report(segment, final=True)

    def report(self, segment: int, final: bool = False) -> None:
        samples = max(0, self.lie(self.played.get(segment, 0)))
        self.out.report(Played(type="played", segment=segment, samples=samples, at=0.0, final=final))

    async def play(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            await asyncio.sleep(0.02)
            if self.plays and not self.paused and self.waiting:
                segment, count = self.waiting.pop(0)
                self.played[segment] = self.played.get(segment, 0) + count
                self.report(segment)


async def test_a_segment_is_over_when_the_page_has_played_it() -> None:
    page = FakePage()
    for _ in range(2):
        await page.out.capture_frame(SECOND)
    page.out.flush()
    await page.play(1.9)
    assert page.finished == []
    await page.play(0.5)
    assert page.finished == [(2.0, False)]
    assert len(page.started) == 1
    assert page.most <= (LEAD + 0.02) * RATE  # a barge-in has little to drop
    await page.out.aclose()


async def test_a_barge_in_ends_at_the_sample_that_was_played() -> None:
    page = FakePage()
    for _ in range(5):
        await page.out.capture_frame(SECOND)
    page.out.flush()
    await page.play(1.0)
    heard = page.played[1]
    page.out.clear_buffer()
    assert [m["type"] for m in page.told if m["type"] == "clear"] == ["clear"]
    assert page.finished == []  # LiveKit is still ending the speech's tasks
    await page.play(0.1)
    assert page.finished == [(heard / RATE, True)]
    assert page.played[1] == heard
    await page.out.aclose()


async def test_what_comes_after_a_barge_in_is_another_segment() -> None:
    page = FakePage()
    await page.out.capture_frame(SECOND)
    await page.play(0.3)
    page.out.clear_buffer()
    await page.out.capture_frame(SECOND)  # LiveKit's forwarding has not noticed yet
    page.out.flush()
    await page.play(0.2)
    await page.out.capture_frame(SECOND)
    page.out.flush()
    await page.play(2.0)
    assert [interrupted for _, interrupted in page.finished] == [True, False]
    assert page.finished[1][0] == 1.0
    await page.out.aclose()


async def test_a_false_interruption_goes_on_with_the_next_sample() -> None:
    page = FakePage()
    await page.out.capture_frame(SECOND)
    page.out.flush()
    await page.play(0.4)
    page.out.pause()
    page.out.pause()
    await page.play(20.0)  # however long: a pause is not a page that is mute
    assert page.finished == []
    page.out.resume()
    await page.play(1.0)
    assert page.finished == [(1.0, False)]
    assert [m["type"] for m in page.told] == ["pause", "flush", "resume"] or [m["type"] for m in page.told] == [
        "flush",
        "pause",
        "resume",
    ]
    await page.out.aclose()


async def test_a_page_that_plays_nothing_does_not_hold_the_call() -> None:
    page = FakePage(plays=False)
    await page.out.capture_frame(SECOND)
    page.out.flush()
    await page.play(10.0)
    assert page.finished == [(0.0, True)]
    assert page.muted == 1
    await page.out.aclose()


async def test_a_page_that_is_gone_has_heard_what_it_reported() -> None:
    page = FakePage()
    await page.out.capture_frame(SECOND)
    await page.play(0.5)
    heard = page.played[1]
    await page.out.aclose()
    assert page.finished == [(heard / RATE, True)]


@pytest.mark.parametrize("later", [0.0, 0.005, 0.01, 0.015])
async def test_a_page_can_go_at_any_moment(later: float) -> None:
    page = FakePage()
    await page.out.capture_frame(SECOND)
    await page.play(0.5)
    await asyncio.sleep(later)
    async with asyncio.timeout(5.0):
        await page.out.aclose()
    assert page.finished == [(page.played[1] / RATE, True)]


async def test_a_page_that_does_not_answer_a_barge_in() -> None:
    page = FakePage()
    await page.out.capture_frame(SECOND)
    await page.play(0.5)
    heard = page.played[1]
    page.plays = False
    page.report = lambda *_, **__: None  # type: ignore[method-assign]
    page.out.clear_buffer()
    await page.play(1.0)
    assert page.finished == [(heard / RATE, True)]
    await page.out.aclose()


@given(st.lists(st.integers(min_value=-(10**6), max_value=2**40), min_size=1, max_size=20), st.floats(0.1, 3.0))
@pytest.mark.filterwarnings("ignore")
def test_no_lie_is_believed_beyond_what_can_be_true(lies: list[int], barge_in: float) -> None:
    async def call() -> None:
        told = iter(lies * 500)
        page = FakePage(lie=lambda samples: next(told))
        for _ in range(2):
            await page.out.capture_frame(SECOND)
        page.out.flush()
        await page.play(barge_in)
        page.out.clear_buffer()
        await page.play(12.0)
        assert len(page.finished) == 1
        position, _ = page.finished[0]
        assert 0 <= position <= min(2.0, barge_in + 0.4)
        await page.out.aclose()

    run(call())
