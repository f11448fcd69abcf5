"""The caller's side of a fake call: the microphone, and what the recognizers make of it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import NOT_GIVEN, APIConnectOptions, LanguageCode, NotGivenOr
from livekit.agents.stt import (
    STT,
    RecognizeStream,
    SpeechData,
    SpeechEvent,
    SpeechEventType,
    STTCapabilities,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.utils.audio import AudioBuffer
from livekit.agents.vad import VAD, VADCapabilities, VADEvent, VADEventType, VADStream
from livekit.agents.voice.io import AudioInput

from graph_voice_livekit.testing.sound import (
    SAMPLE_RATE,
    Samples,
    decode,
    encode,
    frame_of,
    is_silent,
    noise,
    samples_of,
    split_words,
)

__all__ = ["FakeAudioInput", "FakeSTT", "FakeVAD", "Heard"]

# The recognizers below use the protected names that LiveKit provides for plugins (`_input_ch`,
# `_event_ch`, `_run`, `_main_task`, `_recognize_impl`): there is no other way to subclass these streams.


class FakeAudioInput(AudioInput):
    """A microphone into which a test speaks.

    Frames come at the pace of the loop's clock while somebody speaks and for `tail` seconds afterwards. Then
    none come, so that a virtual clock can jump.

    Args:
        frame_seconds: length of a frame; LiveKit's rooms have 50 ms.
        tail: seconds of silence after what is said. It must be longer than the silences that the recognizers
            wait for.
    """

    def __init__(self, *, frame_seconds: float = 0.05, tail: float = 1.5) -> None:
        super().__init__(label="caller")
        self._frame = round(frame_seconds * SAMPLE_RATE)
        self._tail = np.zeros(round(tail * SAMPLE_RATE), np.int16)
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()
        self._utterances: asyncio.Queue[tuple[Samples, asyncio.Future[None]]] = asyncio.Queue()
        self._speaking = 0

    @property
    def speaking(self) -> bool:
        """Whether something is being said or is still to be said."""
        return self._speaking > 0

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()

    async def speak(self, text: str, *, seconds: float | None = None) -> None:
        """Say something, after what is being said already, and return when the last word is out.

        Args:
            text: what to say.
            seconds: how long it takes; by default 0.3 for each word. Whole frames: 50 ms.
        """
        words = split_words(text)
        if not words:
            raise ValueError("Give the caller something to say: the text has no words.")
        length = 0.3 if seconds is None else seconds / len(words)
        await self._sound(encode(words, length, voice="caller"))

    async def make_noise(self, seconds: float) -> None:
        """Make a sound in which nobody finds a word: a cough, a door."""
        await self._sound(noise(seconds))

    async def _sound(self, audio: Samples) -> None:
        said = asyncio.get_running_loop().create_future()
        self._speaking += 1
        try:
            self._utterances.put_nowait((audio, said))
            await said
        finally:
            self._speaking -= 1

    async def run(self) -> None:
        """Send the frames, until canceled. The rig runs it as a task."""
        while True:
            await self._send(*await self._utterances.get())
            for start in range(0, len(self._tail), self._frame):
                if not self._utterances.empty():
                    break
                await self._send_frame(self._tail[start : start + self._frame])

    async def _send(self, audio: Samples, said: asyncio.Future[None]) -> None:
        for start in range(0, len(audio), self._frame):
            await self._send_frame(audio[start : start + self._frame])
        if not said.done():  # canceled, when the test stopped waiting
            said.set_result(None)

    async def _send_frame(self, audio: Samples) -> None:
        await asyncio.sleep(self._frame / SAMPLE_RATE)  # a frame arrives when it is over
        self._frames.put_nowait(frame_of(np.pad(audio, (0, self._frame - len(audio)))))


class FakeVAD(VAD):
    """A voice activity detector that hears each sound, with the delays of LiveKit's own.

    Args:
        min_speech: seconds of speech before it says that somebody speaks.
        min_silence: seconds of silence before it says that nobody speaks any more (Silero's default).
    """

    def __init__(self, *, min_speech: float = 0.05, min_silence: float = 0.55) -> None:
        super().__init__(capabilities=VADCapabilities(update_interval=0.05))
        self.min_speech = min_speech
        self.min_silence = min_silence

    def stream(self) -> VADStream:
        return _VADStream(self)


class _VADStream(VADStream):
    def __init__(self, vad: FakeVAD) -> None:
        super().__init__(vad)
        self._settings = vad
        self._forget()

    def _forget(self) -> None:
        self._speaking = False
        self._speech = self._silence = self._sound = 0.0

    async def _main_task(self) -> None:
        seen = 0
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                self._forget()
                continue
            seen += frame.samples_per_channel
            silent = is_silent(samples_of(frame))
            self._silence = self._silence + frame.duration if silent else 0.0
            self._sound = 0.0 if silent else self._sound + frame.duration
            if self._speaking:
                self._speech += frame.duration
            self._tell(VADEventType.INFERENCE_DONE, seen, frame)
            if not self._speaking and self._sound >= self._settings.min_speech - 1e-9:
                self._speaking, self._speech = True, self._sound
                self._tell(VADEventType.START_OF_SPEECH, seen, frame)
            elif self._speaking and self._silence >= self._settings.min_silence - 1e-9:
                self._speaking = False
                self._speech -= self._silence
                self._tell(VADEventType.END_OF_SPEECH, seen, frame)
                self._speech = 0.0

    def _tell(self, kind: VADEventType, seen: int, frame: rtc.AudioFrame) -> None:
        event = VADEvent(
            type=kind,
            samples_index=seen,
            timestamp=seen / SAMPLE_RATE,
            speech_duration=self._speech,
            silence_duration=self._silence,
            frames=[frame],
            probability=1.0 if self._sound else 0.0,
            speaking=self._speaking,
            raw_accumulated_silence=self._silence,
            raw_accumulated_speech=self._sound,
        )
        self._event_ch.send_nowait(event)


@dataclass(frozen=True)
class Heard:
    """What a recognizer makes of an utterance."""

    final: str
    """The final transcript."""
    preflight: str | None = None
    """A guess before it, on which LiveKit may start a preemptive reply; None sends none."""


@dataclass
class _Utterance:
    audio: list[Samples] = field(default_factory=list)
    silence: float = 0.0
    words: int = 0
    preflight_sent: bool = False


class FakeSTT(STT[Any]):
    """A streaming recognizer that understands the words of fake audio that reached it completely.

    It sends an interim transcript after each word, a preflight transcript if `mishears` has one, and the final
    transcript after a silence.

    Args:
        delay: seconds of silence before the final transcript.
        preflight_delay: seconds of silence before the preflight transcript.
        interim: whether to send interim transcripts.
    """

    def __init__(self, *, delay: float = 0.2, preflight_delay: float = 0.1, interim: bool = True) -> None:
        super().__init__(capabilities=STTCapabilities(streaming=True, interim_results=interim))
        self.delay = delay
        self.preflight_delay = preflight_delay
        self.interim = interim
        self.transcripts: list[str] = []
        """All final transcripts, in order."""
        self._mishears: dict[str, Heard] = {}

    def mishears(self, spoken: str, *, final: str | None = None, preflight: str | None = None) -> None:
        """Let it understand something else whenever exactly this is spoken, from the guess to the final
        transcript."""
        self._mishears[spoken] = Heard(spoken if final is None else final, preflight)

    def understand(self, spoken: str) -> Heard:
        """Return what it makes of these words."""
        return self._mishears.get(spoken, Heard(spoken))

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> RecognizeStream:
        return _STTStream(self, conn_options)

    async def _recognize_impl(
        self, buffer: AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> SpeechEvent:
        frames = buffer if isinstance(buffer, list) else [buffer]
        text = _text(np.concatenate([samples_of(frame) for frame in frames]))
        self.transcripts.append(self.understand(text).final)
        return _event(SpeechEventType.FINAL_TRANSCRIPT, self.transcripts[-1])


class _STTStream(RecognizeStream):
    def __init__(self, stt: FakeSTT, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=stt, conn_options=conn_options)
        self._recognizer = stt

    async def _run(self) -> None:
        utterance: _Utterance | None = None
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):  # a flush: give what there is
                if utterance is not None:
                    self._finish(utterance)
                    utterance = None
                continue
            audio = samples_of(frame)
            if utterance is None:
                if is_silent(audio):
                    continue
                utterance = _Utterance()
                self._event_ch.send_nowait(SpeechEvent(type=SpeechEventType.START_OF_SPEECH))
            utterance.audio.append(audio)
            utterance.silence = utterance.silence + frame.duration if is_silent(audio) else 0.0
            utterance = self._listen(utterance)

    def _listen(self, utterance: _Utterance) -> _Utterance | None:
        recognizer = self._recognizer
        if utterance.silence >= recognizer.delay - 1e-9:
            self._finish(utterance)
            return None
        text = _text(np.concatenate(utterance.audio))
        if recognizer.interim and len(text.split()) > utterance.words:
            utterance.words = len(text.split())
            self._event_ch.send_nowait(_event(SpeechEventType.INTERIM_TRANSCRIPT, text))
        guess = recognizer.understand(text).preflight
        if guess and not utterance.preflight_sent and utterance.silence >= recognizer.preflight_delay - 1e-9:
            utterance.preflight_sent = True
            self._event_ch.send_nowait(_event(SpeechEventType.PREFLIGHT_TRANSCRIPT, guess))
        return utterance

    def _finish(self, utterance: _Utterance) -> None:
        text = _text(np.concatenate(utterance.audio))
        if text:  # else nothing was intelligible
            final = self._recognizer.understand(text).final
            self._recognizer.transcripts.append(final)
            self._event_ch.send_nowait(_event(SpeechEventType.FINAL_TRANSCRIPT, final))
        self._event_ch.send_nowait(SpeechEvent(type=SpeechEventType.END_OF_SPEECH))


def _text(audio: Samples) -> str:
    return "".join(word.text for word in decode(audio) if word.stop <= len(audio)).strip()


def _event(kind: SpeechEventType, text: str) -> SpeechEvent:
    return SpeechEvent(type=kind, alternatives=[SpeechData(language=LanguageCode("en"), text=text, confidence=1.0)])
