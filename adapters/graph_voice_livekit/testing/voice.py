"""The agent's side of a fake call: voices, and the loudspeaker that knows what was heard."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, tokenize, utils
from livekit.agents.tts import TTS, AudioEmitter, ChunkedStream, SynthesizeStream, TTSCapabilities
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, TimedString
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, TextOutput

from graph_voice_livekit.testing.sound import SAMPLE_RATE, Samples, Word, decode, encode, samples_of, split_words

__all__ = ["FakeAudioOutput", "FakeCaptions", "FakeTTS", "Spoken", "Synthesis"]

# `_run`, `_input_ch` and `_mark_started` are protected names that LiveKit provides for TTS plugins.


@dataclass(frozen=True)
class Synthesis:
    """A text that a voice was given, whether or not it was played."""

    text: str
    at: float
    """The loop's time, in seconds."""


class FakeTTS(TTS[Any]):
    """A streaming voice that says any text. It speaks sentence by sentence, as LiveKit's plugins do.

    Args:
        name: whose voice it is; `Spoken.voice` has it.
        seconds_per_word: length of each word.
        first_audio: seconds from a sentence to its audio.
        aligned: whether to send word timings (`use_tts_aligned_transcript=True` lets LiveKit use them).
    """

    def __init__(
        self,
        name: str = "voice",
        *,
        seconds_per_word: float = 0.25,
        first_audio: float = 0.2,
        aligned: bool = False,
    ) -> None:
        super().__init__(
            capabilities=TTSCapabilities(streaming=True, aligned_transcript=aligned),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
        )
        self.name = name
        self.seconds_per_word = seconds_per_word
        self.first_audio = first_audio
        self.synthesized: list[Synthesis] = []
        """The sentences it was given, in order."""

    def synthesize(self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> ChunkedStream:
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> SynthesizeStream:
        return _SpeechStream(self, conn_options)


class _SpeechStream(SynthesizeStream):
    def __init__(self, voice: FakeTTS, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=voice, conn_options=conn_options)
        self._voice = voice

    async def _run(self, output_emitter: AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            mime_type="audio/pcm",
            stream=True,
        )
        output_emitter.start_segment(segment_id=utils.shortuuid())
        sentences = tokenize.blingfire.SentenceTokenizer(retain_format=True).stream()

        async def read() -> None:
            async for text in self._input_ch:
                if isinstance(text, str):
                    sentences.push_text(text)
                else:
                    sentences.flush()
            sentences.end_input()

        reading = asyncio.create_task(read())
        try:
            spoken = 0.0
            async for sentence in sentences:
                spoken += await self._say(sentence.token, spoken, output_emitter)
            output_emitter.end_segment()
        finally:
            await utils.aio.gracefully_cancel(reading)
            await sentences.aclose()

    async def _say(self, text: str, start: float, output_emitter: AudioEmitter) -> float:
        voice = self._voice
        words = split_words(text)
        if not words:
            return 0.0
        self._mark_started()
        voice.synthesized.append(Synthesis(text, asyncio.get_running_loop().time()))
        await asyncio.sleep(voice.first_audio)
        if voice.capabilities.aligned_transcript:
            for position, word in enumerate(words):
                begin = start + position * voice.seconds_per_word
                output_emitter.push_timed_transcript(TimedString(word, begin, begin + voice.seconds_per_word))
        output_emitter.push(encode(words, voice.seconds_per_word, voice=voice.name).tobytes())
        output_emitter.flush()
        return len(words) * voice.seconds_per_word


@dataclass(frozen=True)
class Spoken:
    """What the caller heard of one stretch of speech."""

    voice: str
    """Name of the `FakeTTS`."""
    text: str
    """The words of which the caller heard the end."""
    started: float
    """Seconds since the call began."""
    ended: float
    """Seconds since the call began."""
    interrupted: bool
    """Whether the rest was cut off."""


@dataclass
class _Segment:
    """The audio between two flushes: what has come, and what of it was played."""

    audio: list[Samples] = field(default_factory=list)
    pushed: float = 0.0
    played: float = 0.0
    runs: list[tuple[float, float, float]] = field(default_factory=list)
    """Position in the audio, the loop's time then, and length of each stretch played without a break."""
    started: bool = False
    flushed: bool = False

    def play(self, since: float, now: float) -> None:
        step = min(now - since, self.pushed - self.played)
        if step <= 0:
            return
        self.runs.append((self.played, since, step))
        self.played += step

    def time_at(self, position: float) -> float:
        """Return the loop's time at which this position was played; it must have been."""
        for begin, at, length in self.runs:
            if position <= begin + length + 1e-9:
                return at + max(0.0, position - begin)
        raise ValueError(f"{position} s was not played: the segment ended at {self.played} s.")


class FakeAudioOutput(AudioOutput):
    """A loudspeaker that plays at the pace of the loop's clock and knows which words the caller heard.

    Where audio comes too late it is silent meanwhile. With each end of playback it reports the words heard as
    the synchronized transcript (LiveKit's own way for an output that knows), so an interrupted message in
    LiveKit's history has exactly these. Behind a `TranscriptSynchronizer` that one's estimate counts instead.

    Args:
        can_pause: whether LiveKit may pause it on a possible interruption, as it may a room's output.
    """

    def __init__(self, *, can_pause: bool = True) -> None:
        super().__init__(label="loudspeaker", capabilities=AudioOutputCapabilities(pause=can_pause))
        self.spoken: list[Spoken] = []
        """What the caller heard, in order, as far as it is over."""
        self.origin = 0.0
        """The loop's time at which the call began."""
        self._segment = _Segment()
        self._since = 0.0
        self._paused = False
        self._end: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    @property
    def playing(self) -> bool:
        """Whether there is audio that is not played yet."""
        return self._segment.pushed > 0

    @property
    def audible(self) -> bool:
        """Whether the caller hears something now."""
        self._advance()
        return self._segment.started and not self._paused and self._segment.played < self._segment.pushed

    @property
    def heard(self) -> str:
        """The words of the current stretch of which the caller has heard the end, until now."""
        self._advance()
        return "".join(word.text for word in self._words())

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        while self._segment.flushed:  # LiveKit waits for the end; a user's code may not
            await self._over.wait()
        await super().capture_frame(frame)
        self._advance()
        self._segment.audio.append(samples_of(frame))
        self._segment.pushed += frame.duration
        self._start()

    def flush(self) -> None:
        super().flush()
        if self.playing:
            self._segment.flushed = True
            self._over.clear()
            self._schedule()

    def clear_buffer(self) -> None:
        if self.playing:
            self._advance()
            self._finish(interrupted=True)

    def pause(self) -> None:
        super().pause()
        self._advance()
        self._paused = True
        self._schedule()

    def resume(self) -> None:
        super().resume()
        self._advance()
        self._paused = False
        self._start()
        self._schedule()

    def _start(self) -> None:
        if self.playing and not self._segment.started and not self._paused:
            self._segment.started = True
            self.on_playback_started(created_at=time.time())

    def _advance(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._paused:
            self._segment.play(self._since, now)
        self._since = now

    def _schedule(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._segment.flushed and not self._paused:
            self._advance()
            rest = self._segment.pushed - self._segment.played
            self._end = asyncio.get_running_loop().call_later(rest, self._finish)

    def _finish(self, *, interrupted: bool = False) -> None:
        self._advance()
        if not interrupted:
            self._segment.played = self._segment.pushed  # the clock may be short of it by a rounding error
        segment, heard = self._segment, self.heard
        self.spoken.extend(self._stretches(interrupted))
        self._segment = _Segment()
        self._schedule()
        self._over.set()
        self.on_playback_finished(
            playback_position=segment.played, interrupted=interrupted, synchronized_transcript=heard
        )

    def _words(self) -> Iterator[Word]:
        segment = self._segment
        if not segment.audio:
            return
        for word in decode(np.concatenate(segment.audio)):
            if word.stop / SAMPLE_RATE <= segment.played + 1e-6:
                yield word

    def _stretches(self, interrupted: bool) -> Iterator[Spoken]:
        segment = self._segment
        if segment.played <= 0:
            return
        words = list(self._words())
        if not words:  # cut off within the first word: its voice was audible
            words = [replace(word, text="") for word in decode(np.concatenate(segment.audio))[:1]]
        voices = [(voice, list(group)) for voice, group in itertools.groupby(words, lambda word: word.voice)]
        for number, (voice, group) in enumerate(voices, start=1):
            cut = interrupted and number == len(voices)
            end = segment.played if cut else min(group[-1].stop / SAMPLE_RATE, segment.played)
            started = segment.time_at(group[0].start / SAMPLE_RATE) - self.origin
            ended = segment.time_at(end) - self.origin
            yield Spoken(voice, "".join(word.text for word in group), round(started, 6), round(ended, 6), cut)


class FakeCaptions(TextOutput):
    """Captions: what LiveKit shows the caller as text."""

    def __init__(self) -> None:
        super().__init__(label="captions", next_in_chain=None)
        self.shown: list[str] = []
        """One text per segment."""
        self._open = ""

    async def capture_text(self, text: str) -> None:
        self._open += text

    def flush(self) -> None:
        if self._open:
            self.shown.append(self._open)
        self._open = ""
