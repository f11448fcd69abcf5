"""The one clock of a call: seconds since its audio began to flow."""

import asyncio
import time

__all__ = ["CallClock"]


class CallClock:
    """Seconds since the call began, on the event loop's monotonic clock.

    LiveKit stamps its events with `time.time()`; `at` turns such a stamp into call seconds. The clock starts
    with the first frame that flows in either direction, so loading models before that is no part of the call.
    """

    def __init__(self) -> None:
        self._origin: float | None = None
        self._end: float | None = None

    def start(self) -> None:
        """Begin the call now. A second call changes nothing."""
        if self._origin is None:
            self._origin = asyncio.get_running_loop().time()

    @property
    def end(self) -> float | None:
        """When the call ended, in call seconds; None while it goes on."""
        return self._end

    def stop(self) -> float:
        """End the call now; later stamps count as its last instant. Returns the call's length in seconds."""
        if self._end is None:
            self._end = self.now()
        return self._end

    def now(self) -> float:
        """Call seconds now; 0.0 before the start. Goes on after `stop`: what still plays needs a clock."""
        if self._origin is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._origin

    def at(self, wall: float) -> float:
        """Call seconds of a `time.time()` stamp, held within the call."""
        # by way of now, so that a step of the wall clock during the call shifts nothing
        seconds = max(0.0, self.now() - (time.time() - wall))
        return seconds if self._end is None else min(seconds, self._end)

    def wall(self, at: float) -> float:
        """The `time.time()` stamp of a moment given in call seconds."""
        return time.time() - (self.now() - at)

    async def sleep_until(self, at: float) -> None:
        """Wait until call second `at`; returns at once (after one turn of the loop) when that is past."""
        await asyncio.sleep(max(0.0, at - self.now()))
