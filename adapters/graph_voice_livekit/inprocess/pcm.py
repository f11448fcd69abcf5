"""Audio samples. In every call each party is mono, 16 bit, at the same rate."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import soxr
from livekit import rtc
from livekit.agents import tts
from numpy.typing import NDArray

__all__ = ["SAMPLE_RATE", "Samples", "at_call_rate", "frame", "samples_of", "seconds", "synthesize", "voiced"]

SAMPLE_RATE = 24_000
"""Hertz. What LiveKit's rooms give an agent, and what its console plays."""

Samples = NDArray[np.int16]


def seconds(samples: Samples) -> float:
    """The length of mono samples at `SAMPLE_RATE`, in seconds."""
    return len(samples) / SAMPLE_RATE


def frame(samples: Samples) -> rtc.AudioFrame:
    """Mono samples as a LiveKit frame."""
    return rtc.AudioFrame(
        data=samples.tobytes(), sample_rate=SAMPLE_RATE, num_channels=1, samples_per_channel=len(samples)
    )


def samples_of(frames: Iterable[rtc.AudioFrame]) -> Samples:
    """LiveKit frames (any one rate, mono or not) as mono samples at `SAMPLE_RATE`."""
    parts: list[NDArray[np.float32]] = []
    rate = SAMPLE_RATE
    for each in frames:
        data = np.frombuffer(each.data, dtype=np.int16).reshape(-1, each.num_channels)
        parts.append((data.mean(axis=1) / 32768.0).astype(np.float32))
        rate = each.sample_rate
    if not parts:
        return np.zeros(0, dtype=np.int16)
    return at_call_rate(np.concatenate(parts), rate)


def at_call_rate(mono: NDArray[np.float32], rate: int) -> Samples:
    """Mono samples of this rate, in hertz, at `SAMPLE_RATE`."""
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    scaled = np.clip(np.rint(mono * 32768.0), -32768, 32767)
    samples: Samples = scaled.astype(np.int16)
    return samples


async def synthesize(voice: tts.TTS[Any], text: str) -> Samples:
    """One line spoken by a LiveKit TTS, as mono samples at `SAMPLE_RATE`."""
    async with voice.synthesize(text) as stream:
        return samples_of([event.frame async for event in stream])


def voiced(samples: Samples) -> tuple[int, int]:
    """The sample indices between which there is sound; (0, 0) for silence."""
    window = SAMPLE_RATE // 100
    count = len(samples) // window
    if count == 0:
        return 0, len(samples)
    level = np.abs(samples[: count * window].astype(np.int32)).reshape(count, window).max(axis=1)
    # a hundredth of full scale is below any speech and above what a synthesizer leaves in its pauses
    loud = np.flatnonzero(level > max(60, min(330, level.max() // 20)))
    if len(loud) == 0:
        return 0, 0
    return int(loud[0]) * window, min(len(samples), int(loud[-1] + 1) * window)
