"""The page's clock, its allowances, its microphone, and the words as they are heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_voice.turn.record import Spoken
from graph_voice_livekit.page.captions import PageCaptions
from graph_voice_livekit.page.clock import PageClock
from graph_voice_livekit.page.limits import Allowance, Places
from graph_voice_livekit.page.microphone import RATE, PageMicrophone
from graph_voice_livekit.page.protocol import PageError

TIMES = st.floats(min_value=0, max_value=1e6)


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 2.0)), min_size=1), st.floats(0, 1e6))
def test_the_clocks_differ_by_at_most_half_the_fastest_round_trip(
    ways: list[tuple[float, float]], ahead: float
) -> None:
    clock, now = PageClock(), 1000.0
    for there, back in ways:
        number = clock.ping(now)
        page = now + there + ahead
        now += there + back
        clock.pong(number, page * 1000, now)
    fastest = min(there + back for there, back in ways[-16:])
    here = clock.here((now + ahead) * 1000, earliest=0.0, now=now + 10)
    assert abs(here - now) <= fastest / 2 + 1e-6


@given(st.floats(-1e9, 1e9), st.lists(st.floats(-1e9, 1e9)), TIMES, TIMES)
def test_a_page_can_claim_no_time_outside_of_the_playback(page: float, claims: list[float], a: float, b: float) -> None:
    clock, (earliest, now) = PageClock(), sorted((a, b))
    for claim in claims:
        clock.pong(clock.ping(earliest), claim, now)
    assert earliest <= clock.here(page, earliest=earliest, now=now) <= now


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=50), st.floats(0.1, 50), st.floats(1, 50))
def test_an_allowance_is_never_exceeded(steps: list[tuple[float, float]], rate: float, burst: float) -> None:
    allowance, now, taken = Allowance(rate, burst), 0.0, 0.0
    for wait, amount in steps:
        now += wait
        if allowance.take(amount, now):
            taken += amount
    assert taken <= burst + rate * now + 1e-6


def test_places() -> None:
    places = Places(2)
    assert [places.take() for _ in range(3)] == [True, True, False]
    places.give_back()
    assert places.take()


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
async def test_the_microphone_gives_livekits_rate(rate: int) -> None:
    microphone, step = PageMicrophone(rate), rate // 50
    for number in range(50):
        microphone.feed(bytes(2 * step), number * 0.02)
    microphone.close()
    frames = [frame async for frame in microphone]
    assert {frame.sample_rate for frame in frames} == {RATE}
    seconds = sum(frame.samples_per_channel for frame in frames) / RATE
    assert 0.9 <= seconds <= 1.01


async def test_the_microphone_takes_no_more_sound_than_time_and_keeps_the_last_seconds() -> None:
    microphone = PageMicrophone(48_000)
    for _ in range(1500):  # 30 seconds
        microphone.feed(bytes(2 * 960), 0.0)
    with pytest.raises(PageError):
        microphone.feed(bytes(2 * 960), 0.0)
    microphone.close()
    assert len([frame async for frame in microphone]) <= 251


@pytest.mark.parametrize("samples", [b"", b"\0", b"\0\0\0"])
async def test_a_frame_of_half_a_sample_is_refused(samples: bytes) -> None:
    with pytest.raises(PageError):
        PageMicrophone(48_000).feed(samples, 0.0)


WORDS = st.lists(st.text(alphabet="ab ", min_size=1, max_size=8), min_size=1, max_size=5)


@given(WORDS, st.integers(0, 40))
async def test_words_are_heard_from_the_beginning(messages: list[str], count: int) -> None:
    waiting = [Spoken(str(number), text) for number, text in enumerate(messages)]
    letters = "".join("".join(messages).split())[:count]
    captions = PageCaptions(lambda: None)
    await captions.capture_text(" ".join(letters))
    places = captions.places(waiting)
    heard = "".join(spoken.produced[: places.get(spoken.id, 0)] for spoken in waiting)
    assert "".join(heard.split()) == letters


async def test_a_reply_begins_anew() -> None:
    captions = PageCaptions(lambda: None)
    await captions.capture_text("Hello there.")
    captions.flush()
    await captions.capture_text("Now")
    assert captions.places([Spoken("1", "Now this.")]) == {"1": 3}
