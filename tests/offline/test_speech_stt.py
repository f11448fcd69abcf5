"""Recognition with the real model: what it hears, what it does not, and that the event loop goes on."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import faster_whisper
import numpy as np
import pytest
import soxr
from hearing import likeness
from livekit import rtc
from livekit.agents import stt
from numpy.typing import NDArray
from speech_support import ALIKE, SEED, STUCK

from graph_voice_livekit.offline import PiperTTS, WhisperSTT, load_vad

pytestmark = pytest.mark.speech

SENTENCE = "Can you transfer me to the billing department?"
RATE = 24_000


def frame(samples: NDArray[Any], rate: int, channels: int = 1) -> rtc.AudioFrame:
    pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return rtc.AudioFrame(np.repeat(pcm, channels).tobytes(), rate, channels, len(pcm))


def in_pieces(whole: rtc.AudioFrame, seconds: float) -> list[rtc.AudioFrame]:
    """The sound as it comes from a room: frame by frame."""
    size = int(seconds * whole.sample_rate)
    data = np.frombuffer(whole.data, np.int16)
    return [
        rtc.AudioFrame(data[at : at + size].tobytes(), whole.sample_rate, 1, len(data[at : at + size]))
        for at in range(0, len(data), size)
    ]


async def spoken(text: str) -> NDArray[np.float32]:
    speech = await PiperTTS(sample_rate=RATE, seed=SEED).speak(text)
    samples: NDArray[np.float32] = np.frombuffer(speech.pcm, np.int16).astype(np.float32) / np.float32(32768)
    return samples


async def heard(recogniser: WhisperSTT, audio: rtc.AudioFrame | list[rtc.AudioFrame]) -> str:
    event = await recogniser.recognize(audio)
    assert event.type is stt.SpeechEventType.FINAL_TRANSCRIPT
    return event.alternatives[0].text


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
async def test_any_rate_and_channel_count_is_understood(rate: int, channels: int) -> None:
    samples = soxr.resample(await spoken(SENTENCE), RATE, rate)
    assert likeness(await heard(WhisperSTT(), frame(samples, rate, channels)), SENTENCE) > ALIKE


async def test_speech_on_one_of_two_channels_is_understood() -> None:
    left = (await spoken(SENTENCE) * 32767).astype(np.int16)
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    audio = rtc.AudioFrame(stereo.tobytes(), RATE, 2, len(left))
    assert likeness(await heard(WhisperSTT(), audio), SENTENCE) > ALIKE


async def test_frames_are_recognised_as_one_utterance() -> None:
    pieces = in_pieces(frame(await spoken(SENTENCE), RATE), 0.02)
    assert len(pieces) > 50
    assert likeness(await heard(WhisperSTT(), pieces), SENTENCE) > ALIKE


def silence(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.zeros(count)


def white(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    return generator.standard_normal(count) * 0.1


def pink(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(generator.standard_normal(count))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), count)
    loudness: NDArray[np.float64] = noise / np.std(noise) * 0.1
    return loudness


def hum(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    time = np.arange(count) / RATE
    return 0.1 * np.sin(2 * np.pi * 50 * time) + 0.03 * np.sin(2 * np.pi * 150 * time)


def ringing(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    time = np.arange(count) / RATE
    return 0.2 * (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 480 * time)) * (time % 1 < 0.5)


def clicks(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    sound = np.zeros(count)
    sound[:: RATE // 4] = 0.8
    return sound


# None switches the detector off, so that Whisper's own judgement has to suffice.
@pytest.mark.parametrize("speech_threshold", [0.5, None])
@pytest.mark.parametrize("make", [silence, white, pink, hum, ringing, clicks])
async def test_what_is_not_speech_gives_an_empty_transcript(
    make: Callable[[np.random.Generator, int], NDArray[np.float64]], speech_threshold: float | None
) -> None:
    sound = make(np.random.default_rng(7), 2 * RATE)
    recogniser = WhisperSTT(speech_threshold=speech_threshold)
    assert await heard(recogniser, frame(sound, RATE)) == ""


async def test_no_samples_at_all_give_an_empty_transcript() -> None:
    assert await heard(WhisperSTT(), rtc.AudioFrame(b"", RATE, 1, 0)) == ""


async def test_quiet_speech_and_speech_in_noise_are_still_heard() -> None:
    samples = await spoken(SENTENCE)
    noise = np.random.default_rng(7).standard_normal(len(samples)) * np.std(samples) * 0.3
    assert likeness(await heard(WhisperSTT(), frame(samples * 0.03, RATE)), SENTENCE) > ALIKE
    assert likeness(await heard(WhisperSTT(), frame(samples * 0.5 + noise * 0.5, RATE)), SENTENCE) > ALIKE


async def test_the_confidence_is_a_probability_and_lower_for_what_is_hard_to_hear() -> None:
    samples = await spoken(SENTENCE)
    noise = np.random.default_rng(7).standard_normal(len(samples)) * np.std(samples)
    clear = (await WhisperSTT().recognize(frame(samples, RATE))).alternatives[0]
    hard = (await WhisperSTT().recognize(frame((samples + 1.5 * noise) * 0.3, RATE))).alternatives[0]
    assert 0 < hard.confidence < clear.confidence <= 1
    assert clear.language == "en"


async def test_a_region_in_the_language_code_is_understood() -> None:
    event = await WhisperSTT(language="en-US").recognize(frame(await spoken("Yes, please."), RATE))
    assert likeness(event.alternatives[0].text, "Yes, please.") > ALIKE


async def test_the_event_loop_goes_on_during_a_recognition(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    entered, let = asyncio.Event(), threading.Event()
    recognise = faster_whisper.WhisperModel.transcribe

    def held(*args: Any, **options: Any) -> Any:
        loop.call_soon_threadsafe(entered.set)
        assert let.wait(STUCK), "nobody could let it go on: the loop was held up"
        return recognise(*args, **options)

    recogniser = WhisperSTT()
    recogniser.load()
    audio = frame(await spoken(SENTENCE), RATE)
    monkeypatch.setattr(faster_whisper.WhisperModel, "transcribe", held)
    recognition = asyncio.create_task(heard(recogniser, audio))
    await entered.wait()
    let.set()
    assert likeness(await recognition, SENTENCE) > ALIKE


async def test_a_cancelled_recognition_does_not_disturb_the_next() -> None:
    recogniser = WhisperSTT()
    first = asyncio.create_task(heard(recogniser, frame(await spoken("Good morning."), RATE)))
    while not first.done():
        await asyncio.sleep(0)
        first.cancel()
    assert first.cancelled()
    assert likeness(await heard(recogniser, frame(await spoken(SENTENCE), RATE)), SENTENCE) > ALIKE


async def transcribed(engine: str, parts: Sequence[NDArray[Any]]) -> list[tuple[str, str]]:
    """What LiveKit's StreamAdapter makes of a stream of frames: (event, text)."""
    detector = load_vad(engine)  # type: ignore[arg-type]
    adapter = stt.StreamAdapter(stt=WhisperSTT(), vad=detector)
    stream = adapter.stream()
    for piece in in_pieces(frame(np.concatenate(parts), RATE), 0.02):
        stream.push_frame(piece)
    stream.end_input()
    events = [(event.type.value, event.alternatives[0].text if event.alternatives else "") async for event in stream]
    await stream.aclose()
    await adapter.aclose()
    return events


@pytest.mark.parametrize("engine", ["livekit", "silero"])
async def test_a_stream_is_cut_into_utterances_by_the_vad(engine: str) -> None:
    pause = silence(np.random.default_rng(7), RATE)
    sentences = ["Hello, my name is Robert.", "I have a question about my contract."]
    parts: list[NDArray[Any]] = [pause, await spoken(sentences[0]), pause, await spoken(sentences[1]), pause]
    events = await transcribed(engine, parts)
    assert [kind for kind, _ in events] == ["start_of_speech", "end_of_speech", "final_transcript"] * 2
    transcripts = [text for kind, text in events if kind == "final_transcript"]
    for text, sentence in zip(transcripts, sentences, strict=True):
        assert likeness(text, sentence) > ALIKE


@pytest.mark.parametrize("engine", ["livekit", "silero"])
async def test_a_stream_of_silence_and_noise_has_no_utterance(engine: str) -> None:
    generator = np.random.default_rng(7)
    events = await transcribed(engine, [silence(generator, RATE), white(generator, RATE)])
    assert "final_transcript" not in [kind for kind, _ in events]


async def test_the_pauses_inside_a_sentence_do_not_cut_it() -> None:
    for sentence in ("My number is five, five, five, one, two, three, four.", "Wait, stop, stop."):
        pause = silence(np.random.default_rng(7), RATE)
        events = await transcribed("livekit", [pause, await spoken(sentence), pause])
        assert [kind for kind, _ in events].count("final_transcript") == 1
