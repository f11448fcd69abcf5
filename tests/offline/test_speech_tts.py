"""Synthesis with the real voice: four voices that differ and are understood, in time, and stopped at once."""

import asyncio
import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hearing import likeness, nearest
from livekit import rtc
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT, TimedString
from numpy.typing import NDArray
from speech_support import ALIKE, SEED, STUCK

from graph_voice.errors import MissingDependencyError
from graph_voice_livekit.offline import PiperTTS, SpeechOptionError, WhisperSTT, load_all, voices
from graph_voice_livekit.offline.piper_voice import VOICES, LoadedVoice, Speech, voice_file

pytestmark = pytest.mark.speech

SENTENCES = (
    "I would like to check the status of my order please.",
    "Can you transfer me to the billing department?",
    "My internet connection keeps dropping every few minutes.",
    "Thank you very much, that is all I needed today.",
    "Your appointment has been moved to Friday afternoon.",
)
LONG = (
    "I can certainly look into that for you right away because the order that you placed last week was "
    "shipped from our warehouse on Tuesday morning and it should arrive within the next three days"
)
ENDLESS = f"{', and '.join([LONG] * 8)}."
"""The model works on it for many seconds, on any machine: what stops it stops it in the middle."""
EDGE = 0.15
"""Seconds by which the time of a word may miss what the sound itself shows: a consonant fades away."""


def fundamental(samples: NDArray[np.float64], rate: int) -> list[float]:
    """The fundamental frequency of the voiced 10 ms steps, in hertz, by normalised autocorrelation."""
    window, hop = rate // 25, rate // 100
    shortest, longest = rate // 400, rate // 50
    found = []
    for start in range(0, len(samples) - window - longest, hop):
        stretch = samples[start : start + window + longest]
        energy = np.concatenate([[0.0], np.cumsum(stretch**2)])
        energy = energy[window:] - energy[:-window]
        if energy[0] / window < 1e-3:
            continue
        match = np.correlate(stretch, stretch[:window], "valid") / np.sqrt(energy * energy[0] + 1e-9)
        best = match[shortest:longest].max()
        if best < 0.7:
            continue
        # The shortest good period: twice the period matches as well.
        peaks = (
            lag
            for lag in range(shortest, longest)
            if match[lag] > 0.9 * best and match[lag - 1] <= match[lag] >= match[lag + 1]
        )
        found.append(rate / next(peaks, longest))
    return found


def as_floats(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, np.int16).astype(np.float64) / 32768


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[float, list[str]]]:
    """For each voice: median F0 in hertz, and what is heard for each sentence."""

    async def measure(name: str) -> tuple[float, list[str]]:
        voice, recogniser = PiperTTS(pitch=name, seed=SEED), WhisperSTT()
        pitches: list[float] = []
        heard: list[str] = []
        for sentence in SENTENCES:
            pcm = (await voice.speak(sentence)).pcm
            pitches += fundamental(as_floats(pcm), voice.sample_rate)
            audio = rtc.AudioFrame(pcm, voice.sample_rate, 1, len(pcm) // 2)
            heard.append((await recogniser.recognize(audio)).alternatives[0].text)
        return float(np.median(pitches)), heard

    async def measure_all() -> dict[str, tuple[float, list[str]]]:
        return {name: await measure(name) for name in voices()}

    return asyncio.run(measure_all())


def test_the_pitch_measurement_finds_a_known_pitch() -> None:
    time = np.arange(24_000) / 24_000
    for hertz in (75.0, 90.0, 130.0):
        tone = sum(np.sin(2 * np.pi * hertz * harmonic * time) / harmonic for harmonic in range(1, 9)) * 0.3
        assert np.median(fundamental(np.asarray(tone), 24_000)) == pytest.approx(hertz, rel=0.02)


def test_any_two_voices_differ_in_pitch_by_15_percent(measured: dict[str, tuple[float, list[str]]]) -> None:
    for low, high in itertools.combinations([measured[name][0] for name in voices()], 2):
        assert high / low >= 1.15


@pytest.mark.parametrize("name", voices())
def test_each_voice_is_understood(measured: dict[str, tuple[float, list[str]]], name: str) -> None:
    _, heard = measured[name]
    for sentence, text in zip(SENTENCES, heard, strict=True):
        assert nearest(text, SENTENCES) == sentence
        assert likeness(text, sentence) > ALIKE


async def test_pitch_and_rate_leave_the_length_of_a_sentence_alone() -> None:
    lengths = {}
    for pitch, rate in [("low", 24_000), ("bright", 24_000), ("medium", 16_000), ("high", 48_000)]:
        voice = PiperTTS(pitch=pitch, sample_rate=rate, seed=SEED)
        frame = await voice.synthesize(SENTENCES[0]).collect()
        assert frame.sample_rate == rate
        assert frame.num_channels == 1
        lengths[pitch, rate] = frame.duration
    # The model rounds the length of each phoneme up to whole steps, which are longer in a lower voice.
    assert max(lengths.values()) / min(lengths.values()) < 1.2


async def test_speed_changes_the_length() -> None:
    slow = await PiperTTS(speed=0.7, seed=SEED).speak(SENTENCES[0])
    fast = await PiperTTS(speed=1.4, seed=SEED).speak(SENTENCES[0])
    assert slow.duration / fast.duration == pytest.approx(2.0, rel=0.15)


def apart(one: Speech, other: Speech) -> float:
    """0 for the same sound; 1.4 for two of the same loudness that have nothing to do with each other."""
    first, second = as_floats(one.pcm), as_floats(other.pcm)
    if len(first) != len(second):
        return np.inf
    return float(np.sqrt(np.mean((first - second) ** 2) / np.mean(first**2)))


async def test_with_a_seed_a_sentence_sounds_the_same_whatever_was_said_before() -> None:
    text = "One moment please. I will look that up for you."
    first = await PiperTTS(seed=SEED).speak(text)
    await PiperTTS().speak(SENTENCES[0])
    again, together, _ = await asyncio.gather(
        PiperTTS(seed=SEED).speak(text), PiperTTS(seed=SEED).speak(text), PiperTTS(pitch="low").speak(SENTENCES[1])
    )
    # Not to the bit: threads may add up numbers in another order.
    assert apart(first, again) < 0.01
    assert apart(first, together) < 0.01
    for other in (PiperTTS(seed=SEED + 1), PiperTTS()):
        assert apart(first, await other.speak(text)) > 0.1


async def test_a_seed_is_refused_where_the_voice_can_not_honour_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = PiperTTS(seed=SEED)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match="'onnx'"):
        PiperTTS(seed=SEED)
    bare = LoadedVoice(voice_file(None))
    monkeypatch.setattr(VOICES, "get", lambda key: bare)
    with pytest.raises(SpeechOptionError, match="Leave the seed out"):
        await seeded.speak("Good morning.")


class Gated(PiperTTS):
    """Keeps a log of the sentences, and does not speak the last before it is let."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self.last = last
        self.let = asyncio.Event()
        self.log: list[str] = []

    async def speak(self, text: str) -> Speech:
        if self.last in text:
            await self.let.wait()
        self.log.append(text.strip())
        return await super().speak(text)


async def test_the_first_sound_is_there_before_the_last_sentence_is_synthesised() -> None:
    voice = Gated("Goodbye")
    stream = voice.stream()
    for token in re.findall(r"\S+\s*", "Sure. One moment please. Goodbye for now."):
        stream.push_text(token)
    stream.end_input()
    # Without streaming this would wait for ever: the last sentence is let by the first sound.
    first = await asyncio.wait_for(anext(stream), STUCK)
    assert first.frame.duration > 0
    assert not any("Goodbye" in sentence for sentence in voice.log)
    voice.let.set()
    rest = [audio async for audio in stream]
    assert voice.log == ["Sure.", "One moment please.", "Goodbye for now."]
    assert rest[-1].is_final
    await stream.aclose()


async def test_a_finished_sentence_is_spoken_while_the_next_is_still_being_written() -> None:
    stream = PiperTTS().stream()
    stream.push_text("Let me have a look at that. The next")
    audio = await asyncio.wait_for(anext(stream), STUCK)
    assert audio.frame.duration > 0
    stream.push_text(" sentence comes later.")
    stream.end_input()
    assert sum([audio.frame.duration async for audio in stream]) > 0.5
    await stream.aclose()


class Watched:
    """Counts what runs inside the model's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = asyncio.get_running_loop()
        self.entered = asyncio.Event()
        self.running = 0
        self.finished: list[str] = []
        original = LoadedVoice.chunks

        def chunks(voice: LoadedVoice, text: str, *options: Any) -> Iterator[Any]:
            self.running += 1
            self.loop.call_soon_threadsafe(self.entered.set)
            try:
                for chunk in original(voice, text, *options):
                    self.finished.append(text)
                    yield chunk
            finally:
                self.running -= 1

        monkeypatch.setattr(LoadedVoice, "chunks", chunks)


async def test_closing_a_stream_stops_the_model_in_the_middle_of_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    VOICES.get(voice_file(None))
    watched = Watched(monkeypatch)
    voice = PiperTTS()
    stream = voice.stream()
    stream.push_text(ENDLESS)
    stream.end_input()
    await watched.entered.wait()
    assert watched.running == 1
    await stream.aclose()
    assert watched.running == 0
    assert watched.finished == []
    # The shared model is none the worse for it.
    assert (await voice.speak("Hello again.")).duration > 0.3


async def test_cancelling_a_text_stops_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    VOICES.get(voice_file(None))
    watched = Watched(monkeypatch)
    task = asyncio.create_task(PiperTTS().speak(ENDLESS))
    await watched.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (watched.running, watched.finished) == (0, [])


async def test_cancelling_one_sentence_leaves_another_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    VOICES.get(voice_file(None))
    watched = Watched(monkeypatch)
    first = asyncio.create_task(PiperTTS(pitch="low").speak(ENDLESS))
    second = asyncio.create_task(PiperTTS(pitch="bright").speak(SENTENCES[0]))
    await watched.entered.wait()
    first.cancel()
    speech = await second
    assert speech.duration > 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert watched.finished == [SENTENCES[0]]


@pytest.mark.parametrize("text", ["**", "🎉", "!!!", "...", "# - *", "` `", "—", "  \n ", "你好", "[[", "a"])
async def test_a_text_with_nothing_to_say_does_no_harm(text: str) -> None:
    voice = PiperTTS()
    stream = voice.stream()
    stream.push_text(text)
    stream.end_input()
    streamed = sum([audio.frame.duration async for audio in stream])
    await stream.aclose()
    whole = (await voice.synthesize(text).collect()).duration
    assert streamed > 0
    assert whole > 0


async def test_markdown_between_sentences_is_skipped() -> None:
    stream = PiperTTS(seed=SEED).stream()
    stream.push_text("First of all.\n\n**\n\n---\n\nThat was it.")
    stream.end_input()
    assert sum([audio.frame.duration async for audio in stream]) > 1
    await stream.aclose()


async def timed(voice: PiperTTS, text: str) -> tuple[list[TimedString], list[rtc.AudioFrame]]:
    stream = voice.stream()
    for token in re.findall(r"\s*\S+", text):
        stream.push_text(token)
    stream.end_input()
    frames = [audio.frame async for audio in stream]
    await stream.aclose()
    return [word for frame in frames for word in frame.userdata[USERDATA_TIMED_TRANSCRIPT]], frames


async def test_the_timed_words_are_the_text_in_the_order_of_the_sound() -> None:
    text = "Hi there, I am Robert. You owe us $42.50 - of the total of 120 dollars. Would you like to pay?"
    transcript, frames = await timed(PiperTTS(pitch="high", seed=SEED), text)
    assert "".join(transcript) == text
    times = [time for word in transcript for time in (word.start_time, word.end_time)]
    assert times == sorted(times)  # type: ignore[type-var]
    assert times[-1] <= sum(frame.duration for frame in frames)  # type: ignore[operator]
    # "$42.50" is four spoken words, the dash none.
    length = {word.strip(): word.end_time - word.start_time for word in transcript}  # type: ignore[operator]
    assert length["$42.50"] > 1
    assert length["-"] == 0
    assert 0 < length["the"] < 0.3


def loud(samples: NDArray[np.int16], rate: int) -> list[tuple[float, float]]:
    """Where sound begins and ends between pauses of at least 0.1 s, in seconds."""
    hop = rate // 100
    level = np.abs(samples[: len(samples) // hop * hop].astype(float)).reshape(-1, hop).max(axis=1)
    steps = np.flatnonzero(level > 0.02 * level.max())
    parts = np.split(steps, np.flatnonzero(np.diff(steps) > 10) + 1)
    return [(float(part[0]) / 100, float(part[-1] + 1) / 100) for part in parts]


@pytest.mark.parametrize("name", ["low", "bright"])
async def test_the_times_of_the_words_are_those_of_the_sound(name: str) -> None:
    # The commas are pauses, so the sound itself tells where the words beside them begin and end.
    voice = PiperTTS(pitch=name, seed=SEED)
    transcript, frames = await timed(voice, "Tomorrow morning, somebody will arrive, unless you would rather stay.")
    sound = rtc.combine_audio_frames(frames)
    parts = loud(np.frombuffer(sound.data, np.int16), sound.sample_rate)
    spoken = [transcript[0:2], transcript[2:5], transcript[5:]]
    assert len(parts) == len(spoken)
    for (begin, end), phrase in zip(parts, spoken, strict=True):
        assert phrase[0].start_time == pytest.approx(begin, abs=EDGE)
        assert phrase[-1].end_time == pytest.approx(end, abs=EDGE)


@pytest.mark.parametrize("name", ["low", "bright"])
async def test_a_sound_cut_at_the_end_of_a_word_holds_the_words_until_there(name: str) -> None:
    voice, recogniser = PiperTTS(pitch=name, seed=SEED), WhisperSTT()
    text = "Your appointment has been cancelled yesterday evening because the technician is ill."
    transcript, frames = await timed(voice, text)
    sound = rtc.combine_audio_frames(frames)
    samples = np.frombuffer(sound.data, np.int16)
    until = ["".join(transcript[:count]) for count in range(1, len(transcript) + 1)]
    for count in (2, 5, 6, 7):
        end = int(transcript[count - 1].end_time * sound.sample_rate)  # type: ignore[operator]
        start_of_next = int(transcript[count].start_time * sound.sample_rate)  # type: ignore[operator]
        assert end <= start_of_next
        cut = rtc.AudioFrame(samples[:end].tobytes(), sound.sample_rate, 1, end)
        heard = (await recogniser.recognize(cut)).alternatives[0].text
        assert nearest(heard, until) == until[count - 1]


async def test_without_timings_of_the_voice_none_are_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = voice_file(None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    bare = LoadedVoice(path)
    monkeypatch.setattr(VOICES, "peek", lambda key: bare)
    monkeypatch.setattr(VOICES, "get", lambda key: bare)
    voice = PiperTTS()
    assert not voice.capabilities.aligned_transcript
    transcript, frames = await timed(voice, SENTENCES[0])
    assert transcript == []
    assert sum(frame.duration for frame in frames) > 1


def test_loading_everything_reports_progress_and_shares_the_models() -> None:
    steps: list[tuple[str, float]] = []
    parts = load_all(lambda step, done: steps.append((step, done)))
    assert steps[0][1] == 0
    assert steps[-1] == ("ready", 1.0)
    assert [done for _, done in steps] == sorted(done for _, done in steps)
    assert parts.voices == voices()
    assert [parts.tts(index).pitch for index in range(5)] == [
        parts.tts(name).pitch for name in (*voices(), voices()[0])
    ]
    assert VOICES.peek(parts.voice) is not None
    assert VOICES.get(parts.voice) is VOICES.get(voice_file(None))
    assert parts.tts().capabilities.streaming
    assert parts.tts().capabilities.aligned_transcript
