"""Speech without speech: every sentence is a tone of its own, which a fake recogniser knows again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, llm, stt, tts, utils, vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples

SECONDS_PER_CHARACTER = 0.05


class Tones:
    """Gives each sentence a frequency, and finds the sentence of a frequency."""

    def __init__(self) -> None:
        self._hertz: dict[str, float] = {}

    def samples(self, text: str) -> Samples:
        hertz = self._hertz.setdefault(text, 300.0 + 40.0 * len(self._hertz))
        return tone(hertz, SECONDS_PER_CHARACTER * len(text))

    def text(self, samples: Samples) -> str:
        """The sentence whose tone is the loudest in the samples; "" if there is none."""
        if not self._hertz or len(samples) < 100 or np.abs(samples).max() < 100:
            return ""
        return min(self._hertz, key=lambda text: abs(self._hertz[text] - pitch(samples)))


def tone(hertz: float, seconds: float, amplitude: float = 0.3) -> Samples:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (amplitude * 32767 * np.sin(2 * np.pi * hertz * times)).astype(np.int16)


def pitch(samples: Samples) -> float:
    """The loudest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64)))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(samples))


def loud(samples: Samples) -> tuple[float, float]:
    """Where sound begins and ends, in seconds."""
    where = np.flatnonzero(np.abs(samples) > 300)
    return float(where[0] / SAMPLE_RATE), float((where[-1] + 1) / SAMPLE_RATE)


class FakeVAD(vad.VAD):
    """Speech is what is loud: begins after 60 ms of it, ends after 300 ms without."""

    def __init__(self) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=0.02))

    def stream(self) -> vad.VADStream:
        return _FakeVADStream(self)


class _FakeVADStream(vad.VADStream):
    def _tell(
        self,
        kind: vad.VADEventType,
        frames: list[rtc.AudioFrame],
        *,
        index: int,
        speech: float,
        silence: float,
        speaking: bool,
    ) -> None:
        self._event_ch.send_nowait(
            vad.VADEvent(
                type=kind,
                samples_index=index,
                timestamp=index / SAMPLE_RATE,
                speech_duration=speech,
                silence_duration=silence,
                frames=frames,
                speaking=speaking,
                raw_accumulated_silence=silence,
                raw_accumulated_speech=speech,
            )
        )

    async def _main_task(self) -> None:
        speech = silence = 0.0
        speaking = False
        frames: list[rtc.AudioFrame] = []
        index = 0
        async for item in self._input_ch:
            if not isinstance(item, rtc.AudioFrame):
                continue
            index += item.samples_per_channel
            is_loud = bool(np.abs(np.frombuffer(item.data, dtype=np.int16)).max() > 300)
            speech, silence = (speech + item.duration, 0.0) if is_loud else (speech, silence + item.duration)
            if is_loud or speaking:
                frames.append(item)

            if is_loud and not speaking and speech >= 0.06:
                speaking = True
                kind, kept = vad.VADEventType.START_OF_SPEECH, list(frames)
                self._tell(kind, kept, index=index, speech=speech, silence=silence, speaking=True)
            elif speaking and silence >= 0.3:
                speaking = False
                kind = vad.VADEventType.END_OF_SPEECH
                self._tell(kind, frames, index=index, speech=speech, silence=silence, speaking=False)
                frames, speech = [], 0.0
            elif not speaking and silence >= 0.3:
                frames, speech = [], 0.0
            kind = vad.VADEventType.INFERENCE_DONE
            self._tell(kind, [item], index=index, speech=speech, silence=silence, speaking=speaking)


class FakeSTT(stt.STT[Any]):
    """Recognises tones; takes 0.2 s."""

    def __init__(self, tones: Tones, delay: float = 0.2) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._tones = tones
        self._delay = delay

    async def _recognize_impl(
        self, buffer: utils.AudioBuffer, *, language: Any = None, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        await asyncio.sleep(self._delay)
        merged = rtc.combine_audio_frames(buffer)
        text = self._tones.text(np.frombuffer(merged.data, dtype=np.int16))
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            alternatives=[stt.SpeechData(language="en", text=text)],  # type: ignore[arg-type]
        )


class FakeTTS(tts.TTS[Any]):
    """Speaks tones; the first sound takes 0.1 s."""

    def __init__(self, tones: Tones, *, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=sample_rate, num_channels=1)
        self.tones = tones

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _FakeChunkedStream(tts=self, input_text=text, conn_options=conn_options)


class _FakeChunkedStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, FakeTTS)
        output_emitter.initialize(
            request_id="fake", sample_rate=voice.sample_rate, num_channels=1, mime_type="audio/pcm"
        )
        await asyncio.sleep(0.1)
        output_emitter.push(voice.tones.samples(self.input_text).tobytes())
        output_emitter.flush()


@dataclass(frozen=True)
class Call:
    """The model calls a tool."""

    name: str
    arguments: dict[str, Any]


Answer = str | Call
Model = Callable[[llm.ChatContext], Answer]


class FakeLLM(llm.LLM[Any]):
    """Answers with what a function makes of the chat context; the first token takes 0.3 s."""

    def __init__(self, answer: Model, delay: float = 0.3) -> None:
        super().__init__()
        self.answer = answer
        self.delay = delay

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> llm.LLMStream:
        return _FakeLLMStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _FakeLLMStream(llm.LLMStream):
    async def _run(self) -> None:
        model = self._llm
        assert isinstance(model, FakeLLM)
        answer = model.answer(self._chat_ctx)
        await asyncio.sleep(model.delay)
        if isinstance(answer, str):
            delta = llm.ChoiceDelta(role="assistant", content=answer)
        else:
            call = llm.FunctionToolCall(
                name=answer.name, arguments=json.dumps(answer.arguments), call_id=utils.shortuuid("call_")
            )
            delta = llm.ChoiceDelta(role="assistant", tool_calls=[call])
        self._event_ch.send_nowait(llm.ChatChunk(id="fake", delta=delta))


def closing_message(context: llm.ChatContext) -> str:
    """What the model is to answer: the last message of the caller, "" before the first."""
    messages = [item for item in context.items if isinstance(item, llm.ChatMessage) and item.role == "user"]
    return (messages[-1].text_content or "") if messages else ""


async def frames(samples: Samples, size: int = 480) -> AsyncIterator[rtc.AudioFrame]:
    for first in range(0, len(samples), size):
        part = samples[first : first + size]
        yield rtc.AudioFrame(part.tobytes(), SAMPLE_RATE, 1, len(part))
