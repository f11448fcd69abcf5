"""What the caller hears: audio that is played in real time by the call's clock, without a device."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples, samples_of

__all__ = ["RecordingAudioOutput"]

_TICK = 0.02

Played = Callable[[Samples, float], None]
"""Takes samples and the call second at which the first of them was heard."""


@dataclass(eq=False, slots=True)
class _Segment:
    """The audio between two flushes, which is one playback for LiveKit."""

    queue: deque[Samples] = field(default_factory=deque)
    queued: int = 0
    played: int = 0
    started: bool = False
    flushed: bool = False
    cut: bool = False
    report_at: float | None = None
    """When to report its end, in call seconds; None while it plays."""
    reported: bool = False


@dataclass(slots=True)
class _Run:
    """A stretch of a segment that plays without a gap."""

    at: float
    offset: int
    played: int = 0

    @property
    def end(self) -> float:
        return self.at + self.played / SAMPLE_RATE


class RecordingAudioOutput(AudioOutput):
    """A LiveKit audio output that plays by a clock instead of a device.

    Audio that arrives faster than real time is queued; if it arrives too late, there is a gap in what is heard.
    `clear_buffer` (an interruption) cuts at the sample that is due at that moment; `pause` (a false interruption) holds
    the rest back until `resume`. `on_played` is called with every sample that was heard, and only those, with its call
    second: a recorder listens there, as a device would.
    """

    def __init__(self, *, clock: CallClock, on_played: Played | None = None) -> None:
        super().__init__(
            label="RecordingAudioOutput",
            capabilities=AudioOutputCapabilities(pause=True),
            sample_rate=SAMPLE_RATE,
        )
        self.clock = clock
        self.on_played = on_played
        self._segments: deque[_Segment] = deque()
        self._run: _Run | None = None
        self._paused = False
        self._wake = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None

    @property
    def playing(self) -> bool:
        """Whether something is being played, is queued, or is paused."""
        return any(not segment.reported for segment in self._segments)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Queue audio for playout."""
        await super().capture_frame(frame)
        self.clock.start()
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive(), name="RecordingAudioOutput._drive")
        elif self._driver.done():
            self._driver.result()  # playout has failed: say so here, where LiveKit logs it
        self._advance()
        if not self._segments or self._segments[-1].flushed:
            self._segments.append(_Segment())
        segment = self._segments[-1]
        if segment.cut:
            return  # the rest of a segment that was interrupted before its flush
        samples = samples_of([frame])
        if len(samples):
            segment.queue.append(samples)
            segment.queued += len(samples)
        self._advance()
        self._wake.set()

    def flush(self) -> None:
        """The segment is complete."""
        super().flush()
        if self._segments and not self._segments[-1].flushed:
            self._segments[-1].flushed = True
            self._advance()
        self._wake.set()

    def clear_buffer(self) -> None:
        """Stop at once, and drop what has not been heard."""
        self._advance()
        self._end_run()
        for segment in self._segments:
            if not segment.cut and segment.report_at is None:
                segment.cut = True
                segment.queue.clear()
                segment.queued = 0
                # LiveKit is still ending the speech's tasks: like a device, report a little later
                segment.report_at = self.clock.now() + _TICK
        self._wake.set()

    def pause(self) -> None:
        """Fall silent, until `resume` goes on with the next sample."""
        super().pause()
        self._advance()
        self._end_run()
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        super().resume()
        self._paused = False
        self._advance()
        self._wake.set()

    async def aclose(self) -> None:
        """Stop the playout task."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)

    async def _drive(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            # real time must pass here: this is the device
            while (delay := self._step()) is not None:  # noqa: ASYNC110
                await asyncio.sleep(delay)

    def _step(self) -> float | None:
        """Play what is due, report what has ended. Returns seconds to the next step; None if none is due."""
        self._advance()
        now = self.clock.now()
        while self._segments and (due := self._segments[0].report_at) is not None and due <= now:
            segment = self._segments[0]
            if not segment.reported:
                segment.reported = True
                self.on_playback_finished(playback_position=segment.played / SAMPLE_RATE, interrupted=segment.cut)
            if not segment.flushed:
                return None  # LiveKit fills a segment until its flush; until then it is kept, to drop the rest
            self._segments.popleft()
            self._advance()
        if not self._segments:
            return None
        segment = self._segments[0]
        if segment.report_at is not None:
            return max(0.0, segment.report_at - now)
        if self._run is None:
            return None  # paused, or out of audio: capture_frame, flush, resume or clear_buffer wakes the task
        return min(_TICK, max(0.001, self._run.end + segment.queued / SAMPLE_RATE - now))

    def _advance(self) -> None:
        """Account for everything that has been heard up to now."""
        now = self.clock.now()
        while self._segments:
            segment = self._segments[0]
            if segment.cut or segment.report_at is not None or self._paused:
                return
            if segment.queued == 0:
                ended = self._run.end if self._run is not None else now
                self._end_run()
                if segment.flushed:
                    segment.report_at = ended
                return
            if self._run is None:
                self._run = _Run(at=now, offset=segment.played)
                if not segment.started:
                    segment.started = True
                    self.on_playback_started(created_at=self.clock.wall(now))
            # a thousandth of a sample: what floating point may lack
            due = int((now - self._run.at) * SAMPLE_RATE + 1e-3) - self._run.played
            if due <= 0:
                return
            self._play(segment, self._run, min(due, segment.queued))
            if segment.queued:
                return

    def _play(self, segment: _Segment, run: _Run, count: int) -> None:
        parts: list[Samples] = []
        left = count
        while left:
            head = segment.queue[0]
            parts.append(head[:left])
            if len(head) > left:
                segment.queue[0] = head[left:]
            else:
                segment.queue.popleft()
            left -= len(parts[-1])
        if self.on_played is not None:
            self.on_played(np.concatenate(parts), run.end)
        run.played += count
        segment.played += count
        segment.queued -= count

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None and run.played:
            self.on_playback_progressed(
                started_at=self.clock.wall(run.at),
                offset=run.offset / SAMPLE_RATE,
                duration=run.played / SAMPLE_RATE,
            )
