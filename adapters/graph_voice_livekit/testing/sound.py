"""Audio that carries its own words, so that fakes recognize what really reached them and nothing else.

A spoken word is a run of samples: a header with the length of the run, the name of the voice and the text,
then a steady tone. If a word is cut, a part of it is silenced or a frame is dropped, it can't be understood any
more: what LiveKit discards is lost here as well. Resampled audio is not understood at all.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from livekit import rtc

__all__ = [
    "SAMPLE_RATE",
    "Samples",
    "Word",
    "decode",
    "encode",
    "frame_of",
    "is_silent",
    "noise",
    "samples_of",
    "split_words",
]

Samples = npt.NDArray[np.int16]

SAMPLE_RATE = 8000
"""Samples per second of all fake audio."""

_MARK = -32768
_TONE = 4000
_BASE = 30000  # the length of a word is written as two digits to this base


@dataclass(frozen=True)
class Word:
    """A word found in audio."""

    voice: str
    text: str
    start: int
    """Its first sample, counted from the beginning of the audio that was searched."""
    stop: int
    """The sample after its last one."""


def split_words(text: str) -> list[str]:
    """Return the words of a text, each with the space before it (the last one also with what follows it)."""
    return re.findall(r"\s*\S+(?:\s+\Z)?", text)


def encode(words: Sequence[str], seconds_per_word: float, *, voice: str) -> Samples:
    """Return audio in which a voice says these words.

    Raises:
        ValueError: a word has too many letters for its time.
    """
    length = round(seconds_per_word * SAMPLE_RATE)
    audio = np.full(length * len(words), _TONE, np.int16)
    name = voice.encode()
    for position, word in enumerate(words):
        text = word.encode()
        header = [_MARK, length // _BASE, length % _BASE, len(name), len(text), *name, *text]
        if len(header) > length:
            least = len(header) / SAMPLE_RATE
            raise ValueError(f"{word!r} can't be said in {seconds_per_word} s: give it {least} s or more.")
        audio[position * length :][: len(header)] = header
    return audio


def noise(seconds: float) -> Samples:
    """Return audio without a word in it."""
    return np.full(round(seconds * SAMPLE_RATE), _TONE, np.int16)


def decode(audio: Samples) -> list[Word]:
    """Return the words in this audio, including one that goes on after its end, but no damaged words."""
    return list(_decode(audio))


def _decode(audio: Samples) -> Iterator[Word]:
    for mark in np.flatnonzero(audio == _MARK):
        start = int(mark)
        header = audio[start + 1 : start + 5]
        if len(header) < 4:
            continue
        high, low, name_length, text_length = map(int, header)
        letters = audio[start + 5 : start + 5 + name_length + text_length]
        stop = start + high * _BASE + low
        tone = audio[start + 5 + name_length + text_length : stop]
        if len(letters) < name_length + text_length or not tone.all():
            continue
        data = letters.astype(np.uint8).tobytes()
        yield Word(data[:name_length].decode(), data[name_length:].decode(), start, stop)


def is_silent(audio: Samples) -> bool:
    """Return whether nobody speaks."""
    return not audio.any()


def samples_of(frame: rtc.AudioFrame) -> Samples:
    """Return a frame's samples.

    Raises:
        ValueError: the frame is not fake audio (another rate, or stereo).
    """
    if frame.sample_rate != SAMPLE_RATE or frame.num_channels != 1:
        raise ValueError(
            f"Fake audio has {SAMPLE_RATE} Hz and one channel, this frame has {frame.sample_rate} Hz and "
            f"{frame.num_channels}: the fake parts understand each other only."
        )
    return np.frombuffer(frame.data, np.int16)


def frame_of(audio: Samples) -> rtc.AudioFrame:
    """Return a frame of these samples."""
    return rtc.AudioFrame(audio.tobytes(), SAMPLE_RATE, 1, len(audio))
