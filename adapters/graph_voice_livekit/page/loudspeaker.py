"""The page's loudspeaker as a LiveKit audio output: what was heard is what the page says it has played."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

from graph_voice_livekit.page.clock import PageClock
from graph_voice_livekit.page.protocol import Played, ToPage, sound_frame

__all__ = ["PageLoudspeaker"]

LEAD = 0.6
"""Seconds of sound that are on their way or wait in the page. A barge-in drops them there."""
_SLACK = 0.3
"""Seconds by which a page's loudspeaker may seem to be ahead of real time: clocks differ a little."""
_TICK = 0.02
_LAST_REPORT = 0.4
"""Seconds to wait for the page's last word on a segment that was cut."""
_MUTE = 8.0
"""Seconds without any progress, after which the page plays no sound any more."""


@dataclass(eq=False, slots=True)
class _Segment:
    """The sound between two flushes, which is one playback for LiveKit."""

    number: int
    waiting: deque[bytes] = field(default_factory=deque)
    """20 ms each, the last one maybe less; not sent yet."""
    total: int = 0
    sent: int = 0
    first_sent: float = 0.0
    played: int = 0
    started_at: float = 0.0
    moved: float = 0.0
    """When the page last reported progress, or was last given what to play."""
    flushed: bool = False
    cut: bool = False
    ended: bool = False
    end_by: float | None = None
    """When a segment that was cut ends even if the page says nothing more."""


class PageLoudspeaker(AudioOutput):
    """Sends sound to the page, a little ahead of what it plays, and believes its reports as far as they can be true.

    Args:
        send: takes JSON or a binary frame for the page.
        page_rate: hertz. LiveKit makes the voices' sound of this rate.
        clock: knows the page's clock.
        on_mute: called once when the page takes sound and plays none.
    """

    def __init__(
        self,
        send: Callable[[ToPage | bytes], None],
        page_rate: int,
        clock: PageClock,
        on_mute: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            label="page loudspeaker", capabilities=AudioOutputCapabilities(pause=True), sample_rate=page_rate
        )
        self._send, self._rate, self._clock, self._on_mute = send, page_rate, clock, on_mute
        self._segments: deque[_Segment] = deque()
        self._number = 0
        self._paused = False
        self._closed = False
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    # ---- LiveKit's side

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Queue sound."""
        await super().capture_frame(frame)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="PageLoudspeaker")
        if not self._segments or self._segments[-1].flushed:
            self._number += 1
            self._segments.append(_Segment(self._number))
        segment = self._segments[-1]
        if segment.cut or segment.ended:
            return  # the rest of a segment that was interrupted before its flush
        data = bytes(frame.data)
        step = 2 * int(self._rate * _TICK)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            segment.waiting.append(piece)
            segment.total += len(piece) // 2
        self._wake.set()

    def flush(self) -> None:
        """The segment is complete."""
        super().flush()
        if self._segments and not self._segments[-1].flushed:
            segment = self._segments[-1]
            segment.flushed = True
            if segment.ended:
                self._segments.pop()
        self._wake.set()

    def clear_buffer(self) -> None:
        """Be silent at once. The page answers how far it had come."""
        now = time.time()
        for segment in self._segments:
            if not segment.cut and not segment.ended:
                segment.cut = True
                segment.waiting.clear()
                # LiveKit is still ending the speech's tasks, so nothing ends before the next step.
                segment.end_by = now + (_LAST_REPORT if segment.sent and not self._closed else 0.0)
                if segment.sent:
                    self._send({"type": "clear", "segment": segment.number})
        self._wake.set()

    def pause(self) -> None:
        """Fall silent until `resume` goes on with the next sample: it may have been no interruption."""
        super().pause()
        if not self._paused:
            self._paused = True
            self._send({"type": "pause"})

    def resume(self) -> None:
        """Go on after `pause`."""
        super().resume()
        if self._paused:
            self._paused = False
            for segment in self._segments:
                segment.moved = time.time()
            self._send({"type": "resume"})
            self._wake.set()

    # ---- the page's side

    def report(self, played: Played) -> None:
        """The page has played so much of a segment. More than it can have played is not believed."""
        segment = next((s for s in self._segments if s.number == played.segment and not s.ended), None)
        if segment is None or not segment.sent:
            return
        now = time.time()
        possible = int((now - segment.first_sent + _SLACK) * self._rate)
        heard = min(played.samples, segment.sent, possible)
        if heard > segment.played:
            if not segment.played:
                at = self._clock.here(played.at, earliest=segment.first_sent, now=now)
                segment.started_at = max(segment.first_sent, at - heard / self._rate)
                self.on_playback_started(created_at=segment.started_at)
            segment.played, segment.moved = heard, now
        if played.final and segment.cut:
            segment.end_by = now
        self._wake.set()

    async def aclose(self) -> None:
        """The page is gone: what it has not reported by now was not heard."""
        self._closed = True
        self.clear_buffer()
        for segment in self._segments:
            segment.end_by = 0.0
        self._step(time.time())
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    # ---- between them

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (delay := self._step(time.time())) is not None:
                try:
                    # Not `wait_for`: Python 3.11's forgets that it was canceled if it was woken at the same time.
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                self._wake.clear()

    def _step(self, now: float) -> float | None:
        """Send what is due, end what is over. Returns seconds until the next step; None if none is due."""
        ahead = int(LEAD * self._rate)
        for segment in list(self._segments):
            self._fill(segment, ahead, now)
            ahead -= segment.sent - segment.played
            self._end(segment, now)
        while self._segments and self._segments[0].ended and self._segments[0].flushed:
            self._segments.popleft()
        return _TICK if any(not s.ended and (s.sent or s.cut) for s in self._segments) else None

    def _fill(self, segment: _Segment, ahead: int, now: float) -> None:
        while segment.waiting and segment.sent - segment.played < ahead and not self._closed:
            piece = segment.waiting.popleft()
            if not segment.sent:
                segment.first_sent = segment.moved = now
            segment.sent += len(piece) // 2
            self._send(sound_frame(segment.number, piece))
        if segment.flushed and not segment.waiting and segment.sent and not segment.cut:
            self._say_complete(segment)

    def _say_complete(self, segment: _Segment) -> None:
        """The page need not wait for more before it plays a short segment."""
        if segment.end_by is None:
            segment.end_by = float("inf")
            self._send({"type": "flush", "segment": segment.number})

    def _end(self, segment: _Segment, now: float) -> None:
        if segment.ended:
            return
        complete = segment.flushed and not segment.cut and segment.played >= segment.total
        late = segment.end_by is not None and now >= segment.end_by
        mute = bool(segment.sent > segment.played and not self._paused and now - segment.moved > _MUTE)
        if complete or late or mute:
            segment.ended = True
            segment.waiting.clear()
            played = segment.played / self._rate
            if played:
                self.on_playback_progressed(started_at=segment.started_at, offset=0.0, duration=played)
            self.on_playback_finished(playback_position=played, interrupted=not complete)
            if mute and self._on_mute is not None:
                on_mute, self._on_mute = self._on_mute, None
                on_mute()
