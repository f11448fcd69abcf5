"""Sound to words and words to sound, for what a caller says and hears."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from livekit import rtc

from graph_voice_livekit.offline import PiperTTS, WhisperSTT
from tests.rooms.caller import RATE

__all__ = ["loudness", "pitch", "plain", "record", "transcribe"]

LOUD = 300
"""Root mean square of 16-bit samples, above which somebody speaks."""


@cache
def _recogniser() -> WhisperSTT:
    stt = WhisperSTT(speech_threshold=None)
    stt.load()
    return stt


async def record(sentence: str, file: Path) -> Path:
    """Speak a sentence into a file, with the voice that no agent has."""
    async with PiperTTS(pitch="high", seed=7, sample_rate=RATE).synthesize(sentence) as stream:
        sound = b"".join([bytes(event.frame.data) async for event in stream])
    soundfile.write(file, np.frombuffer(sound, np.int16), RATE)
    return file


async def transcribe(sound: np.ndarray[Any, Any]) -> str:
    """What a recogniser of the caller's own hears in it."""
    frame = rtc.AudioFrame(sound.astype(np.int16).tobytes(), RATE, 1, len(sound))
    event = await _recogniser().recognize(frame)
    return event.alternatives[0].text if event.alternatives else ""


def loudness(sound: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean(np.square(sound.astype(float))))) if len(sound) else 0.0


def pitch(sound: np.ndarray[Any, Any]) -> float:
    """The median fundamental frequency of the voiced parts, in hertz."""
    size, found = RATE // 20, []
    shortest, longest = RATE // 250, RATE // 55
    for start in range(0, len(sound) - size, size // 2):
        part = sound[start : start + size].astype(float)
        if loudness(part) < LOUD:
            continue
        part -= part.mean()
        same = np.correlate(part, part, "full")[size - 1 :]
        lag = shortest + int(np.argmax(same[shortest:longest]))
        if same[lag] > 0.5 * same[0]:
            found.append(RATE / lag)
    assert found, "nobody speaks in this sound"
    return float(np.median(found))


def plain(text: str) -> list[str]:
    """The words, without case and punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())
