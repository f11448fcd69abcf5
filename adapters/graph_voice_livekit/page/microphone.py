"""The page's microphone as a LiveKit audio input."""

import asyncio

from livekit import rtc
from livekit.agents.voice.io import AudioInput

from graph_voice_livekit.page.limits import Allowance
from graph_voice_livekit.page.protocol import PageError

__all__ = ["PageMicrophone"]

RATE = 24_000
"""Hertz, what LiveKit's rooms give an agent."""
_WAITING = 250
"""Frames that may wait for the session. Older ones are dropped: nobody answers what was said seconds ago."""


class PageMicrophone(AudioInput):
    """Sound that comes in frames of the page's rate, given on at `RATE`.

    Args:
        page_rate: hertz.
    """

    def __init__(self, page_rate: int) -> None:
        super().__init__(label="page microphone")
        self._rate = page_rate
        self._resampler = rtc.AudioResampler(page_rate, RATE) if page_rate != RATE else None
        self._frames: asyncio.Queue[rtc.AudioFrame | None] = asyncio.Queue()
        # What has waited while this process was busy comes at once.
        self._allowed = Allowance(rate=1.25, burst=30.0)
        self._closed = False

    def feed(self, samples: bytes, now: float) -> None:
        """Take a frame. Raises `PageError` for one that is none, and for more sound than time has passed."""
        if len(samples) % 2 or not samples:
            raise PageError(f"a frame of sound has {len(samples)} bytes; a sample has two")
        count = len(samples) // 2
        if not self._allowed.take(count / self._rate, now):
            raise PageError("more sound than time has passed")
        frame = rtc.AudioFrame(samples, self._rate, 1, count)
        for each in self._resampler.push(frame) if self._resampler is not None else [frame]:
            self._put(each)

    def _put(self, frame: rtc.AudioFrame) -> None:
        if self._closed:
            return
        if self._frames.qsize() >= _WAITING:
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    def close(self) -> None:
        """The caller is gone: the session gets no more frames."""
        if not self._closed:
            self._closed = True
            self._frames.put_nowait(None)

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await self._frames.get()
        if frame is None:
            self._frames.put_nowait(None)
            raise StopAsyncIteration
        return frame
