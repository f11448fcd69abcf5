"""What the agents hear, in real time: an audio file, or lines that can be spoken at any moment."""

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from livekit import rtc
from livekit.agents.voice.io import AudioInput

from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples, at_call_rate, frame, voiced
from graph_voice_livekit.inprocess.result import AudioFileError

__all__ = ["FRAME_SECONDS", "CallerUtterance", "FileAudioInput", "LineAudioInput", "PacedAudioInput", "read_file"]

FRAME_SECONDS = 0.02
_FRAME = int(SAMPLE_RATE * FRAME_SECONDS)

Heard = Callable[[Samples, float], None]
"""Takes samples and the call second at which the first of them sounds."""


@dataclass(frozen=True, slots=True)
class CallerUtterance:
    """Something the caller said, without the silence around it."""

    text: str | None
    """The words, where they are known; None for an audio file."""
    started: float
    """Call seconds."""
    ended: float
    """Call seconds."""


class PacedAudioInput(AudioInput):
    """A LiveKit audio input that gives one frame of 20 ms whenever 20 ms of the call have passed.

    Frame n is due when the call is (n + 1) frames old, whatever happened before: a late reader gets the frames that it
    missed at once, and is on time again. `on_heard` is called with the samples of each frame.
    """

    def __init__(self, *, label: str, clock: CallClock | None = None, on_heard: Heard | None = None) -> None:
        super().__init__(label=label)
        self.clock = clock or CallClock()
        self.on_heard = on_heard
        self.on_line: Callable[[CallerUtterance], None] | None = None
        """Called with each line when it begins. Its end is known by then, because a line plays without a gap."""
        self._index = 0
        self._closed = asyncio.Event()

    @abstractmethod
    def _next(self, count: int, at: float) -> Samples:
        """The next `count` samples, the first of which sounds at call second `at`."""

    async def __anext__(self) -> rtc.AudioFrame:
        self.clock.start()
        at = self._index * FRAME_SECONDS
        await self.clock.sleep_until(at + FRAME_SECONDS)
        if self._closed.is_set():
            raise StopAsyncIteration
        self._index += 1
        samples = self._next(_FRAME, at)
        if self.on_heard is not None:
            self.on_heard(samples, at)
        return frame(samples)

    def close(self) -> None:
        """End the stream: the reader gets no further frame."""
        self._closed.set()

    def _line(self, line: CallerUtterance) -> None:
        if self.on_line is not None:
            self.on_line(line)


class FileAudioInput(PacedAudioInput):
    """Plays an audio file into the call in real time, followed by silence until it is closed.

    Args:
        path: any file that libsndfile reads, at any rate, mono or not.
        held: play silence until `release`, for a caller who lets the agent greet first.

    Raises:
        AudioFileError: the file is missing, empty or no audio. Raised here, before the call starts.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        held: bool = False,
        clock: CallClock | None = None,
        on_heard: Heard | None = None,
    ) -> None:
        super().__init__(label="FileAudioInput", clock=clock, on_heard=on_heard)
        self.path = Path(path)
        self._samples = read_file(path)
        self._position = 0
        self._held = held
        self._finished = asyncio.Event()

    @property
    def duration(self) -> float:
        """Seconds of audio in the file."""
        return len(self._samples) / SAMPLE_RATE

    @property
    def finished(self) -> bool:
        """Whether the last sample has been played."""
        return self._finished.is_set()

    def release(self) -> None:
        """Let the file begin, if it was held."""
        self._held = False

    async def wait_finished(self) -> None:
        """Wait until the last sample of the file has been played."""
        await self._finished.wait()

    def _next(self, count: int, at: float) -> Samples:
        if self._held or self.finished:
            return np.zeros(count, dtype=np.int16)
        if self._position == 0:
            first, last = voiced(self._samples)
            if last > first:
                self._line(CallerUtterance(None, at + first / SAMPLE_RATE, at + last / SAMPLE_RATE))
        part = self._samples[self._position : self._position + count]
        self._position += len(part)
        if self._position >= len(self._samples):
            self._finished.set()
        return np.pad(part, (0, count - len(part)))


class LineAudioInput(PacedAudioInput):
    """Silence, into which lines can be spoken at any moment. Lines that overlap are played one after the other."""

    def __init__(self, *, clock: CallClock | None = None, on_heard: Heard | None = None) -> None:
        super().__init__(label="LineAudioInput", clock=clock, on_heard=on_heard)
        self._queue: deque[_Spoken] = deque()

    async def speak(self, samples: Samples, *, text: str | None = None) -> CallerUtterance:
        """Say samples (mono at `SAMPLE_RATE`) when no other line is playing; return when the last has sounded.

        If it is canceled, the rest is not played.
        """
        spoken = _Spoken(samples, text, asyncio.get_running_loop().create_future())
        self._queue.append(spoken)
        try:
            return await spoken.done
        except asyncio.CancelledError:
            if spoken in self._queue:
                self._queue.remove(spoken)
            raise

    @property
    def speaking(self) -> bool:
        """Whether a line is playing, or is waiting to."""
        return bool(self._queue)

    def _next(self, count: int, at: float) -> Samples:
        out = np.zeros(count, dtype=np.int16)
        filled = 0
        while filled < count and self._queue:
            spoken = self._queue[0]
            if spoken.began is None:
                spoken.began = at + filled / SAMPLE_RATE
                self._line(spoken.line())
            part = spoken.samples[spoken.position : spoken.position + count - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            spoken.position += len(part)
            if spoken.position >= len(spoken.samples):
                self._queue.popleft()
                if not spoken.done.done():
                    spoken.done.set_result(spoken.line())
        return out


@dataclass(eq=False, slots=True)
class _Spoken:
    samples: Samples
    text: str | None
    done: asyncio.Future[CallerUtterance]
    position: int = 0
    began: float | None = None

    def line(self) -> CallerUtterance:
        began = self.began or 0.0
        first, last = voiced(self.samples)
        if last <= first:
            last = len(self.samples)
        return CallerUtterance(self.text, began + first / SAMPLE_RATE, began + last / SAMPLE_RATE)


def read_file(path: str | Path) -> Samples:
    """An audio file (WAV, FLAC, OGG, MP3...; any rate, any channels) as mono at `SAMPLE_RATE`.

    Raises:
        AudioFileError: there is no such file, it is no audio, or it holds no sample.
    """
    path = Path(path)
    if not path.exists():
        raise AudioFileError(f"{path}: there is no such file. Give the path of an audio file, for example a WAV.")
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder. Give the path of an audio file, for example a WAV.")
    if path.stat().st_size == 0:
        raise AudioFileError(f"{path} is empty (0 bytes). Give a recording that holds some sound.")
    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioFileError(
            f"{path} can't be read as audio ({error}). Give a WAV, FLAC, OGG or MP3 file; its name alone does"
            " not make it one."
        ) from error
    if len(data) == 0:
        raise AudioFileError(f"{path} is an audio file of zero length. Give a recording that holds some sound.")
    return at_call_rate(np.nan_to_num(data.mean(axis=1)), rate)
