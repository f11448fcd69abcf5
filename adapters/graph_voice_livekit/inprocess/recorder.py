"""The recording: caller on the left, agents on the right, both by the clock of the call."""

from enum import IntEnum
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples

__all__ = ["CallRecorder", "Channel"]


class Channel(IntEnum):
    """Whose voice a channel holds."""

    CALLER = 0
    AGENTS = 1


class CallRecorder:
    """Records a call: each sample at the moment at which it sounded.

    It is kept in memory, 16 bit at `SAMPLE_RATE`: about 6 MB a minute.
    """

    def __init__(self) -> None:
        self._samples: NDArray[np.int16] = np.zeros((60 * SAMPLE_RATE, 2), dtype=np.int16)

    def write(self, channel: Channel, samples: Samples, at: float) -> None:
        """Write samples to a channel, the first at call second `at`, over what was there."""
        first = max(0, round(at * SAMPLE_RATE))
        last = first + len(samples)
        if last > len(self._samples):
            grown = np.zeros((max(last, 2 * len(self._samples)), 2), dtype=np.int16)
            grown[: len(self._samples)] = self._samples
            self._samples = grown
        self._samples[first:last, channel] = samples

    def caller(self, samples: Samples, at: float) -> None:
        """What the caller said."""
        self.write(Channel.CALLER, samples, at)

    def agents(self, samples: Samples, at: float) -> None:
        """What the agents were heard to say."""
        self.write(Channel.AGENTS, samples, at)

    def samples(self, duration: float) -> NDArray[np.int16]:
        """The first `duration` seconds as an array of (samples, 2)."""
        count = round(duration * SAMPLE_RATE)
        kept = self._samples[:count]
        return np.pad(kept, ((0, count - len(kept)), (0, 0)))

    def save(self, path: str | Path, *, duration: float) -> Path:
        """Write a WAV of exactly `duration` seconds: caller left, agents right."""
        path = Path(path)
        soundfile.write(path, self.samples(duration), SAMPLE_RATE, subtype="PCM_16", format="WAV")
        return path
