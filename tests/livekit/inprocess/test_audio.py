"""Audio in and out of a call: files, lines, playout, recording."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from call_support import frames, loud, pitch, tone
from livekit.agents.voice.io import PlaybackFinishedEvent

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.inprocess import (
    AudioFileError,
    CallerUtterance,
    CallRecorder,
    FileAudioInput,
    LineAudioInput,
    RecordingAudioOutput,
)
from graph_voice_livekit.inprocess.audio_in import read_file
from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples
from graph_voice_livekit.inprocess.recorder import Channel

pytestmark = pytest.mark.virtual_clock(limit=60)


def at_rate(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
async def test_a_file_of_any_rate_and_channels_sounds_the_same(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "in.wav"
    sound = at_rate(440, 0.5, rate)
    soundfile.write(path, np.repeat(sound[:, None], channels, axis=1), rate)

    samples = read_file(path)
    assert len(samples) / SAMPLE_RATE == pytest.approx(0.5, abs=0.001)
    assert pitch(samples) == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(16384, rel=0.1)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
async def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, at_rate(440, 0.5, 16000), 16000)
    assert pitch(read_file(path)) == pytest.approx(440, abs=3)


def missing(path: Path) -> None: ...


def folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("I am not a sound, I only have the name of one.")


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0, dtype=np.int16), 16000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "no such file"),
        (folder, "is a folder"),
        (nothing, "is empty"),
        (text, "can't be read as audio"),
        (no_samples, "zero length"),
    ],
)
async def test_what_is_no_recording_is_refused_with_its_name(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "in.wav"
    assert callable(make)
    make(path)
    with pytest.raises(AudioFileError, match=message) as caught:
        FileAudioInput(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, GraphVoiceError | ValueError)


async def test_a_file_plays_in_real_time_and_then_there_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, at_rate(440, 0.5, 16000), 16000)
    recorder = CallRecorder()
    source = FileAudioInput(path, on_heard=recorder.caller)
    lines: list[CallerUtterance] = []
    source.on_line = lines.append

    begun = time.monotonic()
    for _ in range(50):
        frame = await anext(source)
    assert time.monotonic() - begun == pytest.approx(1.0, abs=0.005)
    assert source.finished
    assert not np.any(np.frombuffer(frame.data, dtype=np.int16))
    assert loud(recorder.samples(1.0)[:, Channel.CALLER]) == pytest.approx((0.0, 0.5), abs=0.005)
    assert lines == [CallerUtterance(None, pytest.approx(0.0, abs=0.02), pytest.approx(0.5, abs=0.02))]


async def test_a_held_file_waits(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, at_rate(440, 0.2, 16000), 16000)
    recorder = CallRecorder()
    source = FileAudioInput(path, held=True, on_heard=recorder.caller)
    for index in range(50):
        if index == 25:
            source.release()
        await anext(source)
    assert loud(recorder.samples(1.0)[:, Channel.CALLER]) == pytest.approx((0.5, 0.7), abs=0.005)


async def test_a_late_reader_catches_up_without_drift(tmp_path: Path) -> None:
    source = LineAudioInput()
    await anext(source)
    await asyncio.sleep(1.0)  # the reader was held up
    caught_up = time.monotonic()
    for _ in range(50):
        await anext(source)
    assert time.monotonic() - caught_up < 0.03
    for _ in range(50):
        await anext(source)
    assert source.clock.now() == pytest.approx(101 * 0.02, abs=0.001)


async def test_lines_sound_when_they_are_spoken_one_after_the_other() -> None:
    recorder = CallRecorder()
    source = LineAudioInput(on_heard=recorder.caller)
    seen: list[CallerUtterance] = []
    source.on_line = seen.append

    async def read() -> None:
        async for _ in source:
            pass

    reader = asyncio.create_task(read())
    await source.clock.sleep_until(0.5)
    first, second = await asyncio.gather(
        source.speak(tone(440, 0.3), text="one"), source.speak(tone(880, 0.2), text="two")
    )
    source.close()
    await reader

    assert seen == [first, second]
    assert (first.text, second.text) == ("one", "two")
    assert first.started == pytest.approx(0.5, abs=0.021)
    assert second.started == pytest.approx(first.ended, abs=0.011)
    assert second.ended - first.started == pytest.approx(0.5, abs=0.011)
    left = recorder.samples(2.0)[:, Channel.CALLER]
    assert loud(left) == pytest.approx((first.started, second.ended), abs=0.011)
    assert pitch(left[round((first.started + 0.05) * SAMPLE_RATE) :][: SAMPLE_RATE // 5]) == pytest.approx(440, abs=6)


async def test_a_line_is_timed_without_the_silence_around_it() -> None:
    source = LineAudioInput()
    silence = np.zeros(SAMPLE_RATE // 2, dtype=np.int16)
    speaking = asyncio.create_task(source.speak(np.concatenate([silence, tone(440, 0.3), silence])))
    await asyncio.sleep(0)
    while not speaking.done():
        await anext(source)
    line = await speaking
    assert (line.started, line.ended) == (pytest.approx(0.5, abs=0.011), pytest.approx(0.8, abs=0.011))


async def test_a_cancelled_line_is_not_finished() -> None:
    recorder = CallRecorder()
    source = LineAudioInput(on_heard=recorder.caller)
    speaking = asyncio.create_task(source.speak(tone(440, 5.0)))
    await asyncio.sleep(0)
    for _ in range(10):
        await anext(source)
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    for _ in range(10):
        await anext(source)
    assert not source.speaking
    assert loud(recorder.samples(1.0)[:, Channel.CALLER]) == pytest.approx((0.0, 0.2), abs=0.005)


class Played:
    """An output, what was heard of it and what it reported."""

    def __init__(self) -> None:
        self.clock = CallClock()
        self.clock.start()
        self.recorder = CallRecorder()
        self.output = RecordingAudioOutput(clock=self.clock, on_played=self.recorder.agents)
        self.started: list[float] = []
        self.finished: list[PlaybackFinishedEvent] = []
        self.runs: list[tuple[float, float, float]] = []
        self.output.on("playback_started", lambda event: self.started.append(self.clock.at(event.created_at)))
        self.output.on("playback_finished", self.finished.append)
        self.output.on(
            "playback_progressed",
            lambda event: self.runs.append((self.clock.at(event.started_at), event.offset, event.duration)),
        )

    async def push(self, samples: Samples) -> None:
        async for frame in frames(samples):
            await self.output.capture_frame(frame)

    def heard(self) -> Samples:
        return self.recorder.samples(5.0)[:, Channel.AGENTS]


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    played = Played()
    yield played
    await played.output.aclose()


async def test_audio_that_comes_at_once_is_played_in_real_time(played: Played) -> None:
    await played.clock.sleep_until(0.5)
    await played.push(tone(440, 1.0))
    played.output.flush()
    event = await played.output.wait_for_playout()

    assert played.clock.now() == pytest.approx(1.5, abs=0.005)
    assert (event.playback_position, event.interrupted) == (pytest.approx(1.0), False)
    assert played.started == [pytest.approx(0.5, abs=0.001)]
    assert played.runs == [(pytest.approx(0.5, abs=0.001), 0.0, pytest.approx(1.0))]
    assert loud(played.heard()) == pytest.approx((0.5, 1.5), abs=0.001)
    assert not played.output.playing


async def test_an_interruption_cuts_at_the_sample_that_is_due(played: Played) -> None:
    await played.push(tone(440, 3.0))
    played.output.flush()
    await played.clock.sleep_until(1.2345)
    played.output.clear_buffer()
    event = await played.output.wait_for_playout()

    assert event.interrupted
    assert event.playback_position == pytest.approx(1.2345, abs=0.001)
    assert loud(played.heard())[1] == pytest.approx(1.2345, abs=0.001)
    await played.clock.sleep_until(3.0)
    assert loud(played.heard())[1] == pytest.approx(1.2345, abs=0.001)
    assert len(played.finished) == 1


async def test_speech_after_an_interruption_is_played(played: Played) -> None:
    await played.push(tone(440, 3.0))
    played.output.flush()
    await played.clock.sleep_until(0.5)
    played.output.clear_buffer()
    await played.output.wait_for_playout()
    await played.clock.sleep_until(1.0)
    await played.push(tone(880, 0.5))
    played.output.flush()
    event = await played.output.wait_for_playout()

    assert (event.playback_position, event.interrupted) == (pytest.approx(0.5), False)
    heard = played.heard()
    assert not np.any(heard[round(0.502 * SAMPLE_RATE) : round(0.998 * SAMPLE_RATE)])
    assert pitch(heard[SAMPLE_RATE : round(1.5 * SAMPLE_RATE)]) == pytest.approx(880, abs=6)


async def test_what_still_comes_of_an_interrupted_speech_is_not_played(played: Played) -> None:
    await played.push(tone(440, 1.0))
    await played.clock.sleep_until(0.5)
    played.output.clear_buffer()  # before the flush: the synthesiser is still at it
    await played.push(tone(880, 1.0))
    played.output.flush()
    event = await played.output.wait_for_playout()
    await played.clock.sleep_until(3.0)

    assert event.interrupted
    assert event.playback_position == pytest.approx(0.5, abs=0.001)
    assert loud(played.heard())[1] == pytest.approx(0.5, abs=0.001)
    assert len(played.finished) == 1
    assert not played.output.playing


async def test_a_paused_speech_goes_on_with_the_next_sample(played: Played) -> None:
    ramp = np.arange(1, SAMPLE_RATE + 1, dtype=np.int16)  # one second, each sample different
    await played.push(ramp)
    played.output.flush()
    await played.clock.sleep_until(0.4)
    played.output.pause()
    await played.clock.sleep_until(1.4)
    assert played.output.playing
    played.output.resume()
    event = await played.output.wait_for_playout()

    assert event.playback_position == pytest.approx(1.0)
    assert played.clock.now() == pytest.approx(2.0, abs=0.005)
    heard = played.heard()
    assert np.array_equal(heard[heard != 0], ramp)
    assert not np.any(heard[round(0.401 * SAMPLE_RATE) : round(1.399 * SAMPLE_RATE)])
    assert len(played.runs) == 2
    assert played.started == [pytest.approx(0.0, abs=0.001)]


async def test_an_interruption_during_a_pause_ends_the_speech_where_it_was_paused(played: Played) -> None:
    await played.push(tone(440, 3.0))
    played.output.flush()
    await played.clock.sleep_until(0.6)
    played.output.pause()
    await played.clock.sleep_until(1.5)
    played.output.clear_buffer()
    event = await played.output.wait_for_playout()

    assert event.interrupted
    assert event.playback_position == pytest.approx(0.6, abs=0.001)
    (run,) = played.runs
    assert run[0] + run[2] == pytest.approx(0.6, abs=0.001)
    assert loud(played.heard())[1] == pytest.approx(0.6, abs=0.001)


async def test_a_gap_in_the_synthesis_is_a_gap_in_what_is_heard(played: Played) -> None:
    await played.push(tone(440, 0.5))
    await played.clock.sleep_until(1.0)
    await played.push(tone(880, 0.5))
    played.output.flush()
    event = await played.output.wait_for_playout()

    assert event.playback_position == pytest.approx(1.0)
    heard = played.heard()
    assert not np.any(heard[round(0.502 * SAMPLE_RATE) : round(0.998 * SAMPLE_RATE)])
    assert pitch(heard[SAMPLE_RATE : round(1.5 * SAMPLE_RATE)]) == pytest.approx(880, abs=6)
    assert [run[1] for run in played.runs] == [0.0, pytest.approx(0.5)]


async def test_two_speeches_in_a_row_are_reported_apart(played: Played) -> None:
    for hertz in (440, 880):
        await played.push(tone(hertz, 0.3))
        played.output.flush()
        await played.output.wait_for_playout()
    assert [event.playback_position for event in played.finished] == [pytest.approx(0.3)] * 2
    assert len(played.started) == 2


async def test_clearing_a_silent_output_reports_nothing(played: Played) -> None:
    played.output.clear_buffer()
    played.output.flush()
    await played.clock.sleep_until(0.2)
    assert played.finished == []


async def test_the_recording_keeps_both_sides_apart(tmp_path: Path) -> None:
    recorder = CallRecorder()
    recorder.caller(tone(440, 1.0), 0.5)
    recorder.agents(tone(880, 1.0), 1.0)
    path = recorder.save(tmp_path / "call.wav", duration=2.5)

    data, rate = soundfile.read(path, dtype="int16")
    assert (rate, data.shape) == (SAMPLE_RATE, (round(2.5 * SAMPLE_RATE), 2))
    assert loud(data[:, 0]) == pytest.approx((0.5, 1.5), abs=0.001)
    assert loud(data[:, 1]) == pytest.approx((1.0, 2.0), abs=0.001)


async def test_a_long_recording_grows() -> None:
    recorder = CallRecorder()
    recorder.agents(tone(440, 1.0), 130.0)
    samples = recorder.samples(131.0)
    assert len(samples) == 131 * SAMPLE_RATE
    assert loud(samples[:, 1]) == pytest.approx((130.0, 131.0), abs=0.001)


async def test_what_sounds_after_the_end_is_not_on_the_recording() -> None:
    recorder = CallRecorder()
    recorder.agents(tone(440, 2.0), 0.0)
    assert len(recorder.samples(1.0)) == SAMPLE_RATE


async def test_call_seconds_follow_the_loop_whatever_the_wall_clock_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = CallClock()
    assert clock.now() == 0.0
    clock.start()
    await asyncio.sleep(1.0)
    clock.start()
    assert clock.now() == pytest.approx(1.0)
    assert clock.at(time.time() - 0.25) == pytest.approx(0.75, abs=0.001)
    assert clock.at(time.time() - 5.0) == 0.0
    assert clock.at(clock.wall(0.5)) == pytest.approx(0.5, abs=0.001)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600.0)  # the wall clock is put forward
    assert clock.at(time.time()) == pytest.approx(1.0, abs=0.001)
    clock.stop()
    await asyncio.sleep(1.0)
    assert clock.at(time.time()) == pytest.approx(1.0, abs=0.001)
