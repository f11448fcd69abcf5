"""The clock of a call: seconds since its audio began."""

import asyncio
import time

__all__ = ["CallClock"]


class CallClock:
    """Seconds since the call began, on the event loop's monotonic clock.

    LiveKit stamps its events with `time.time()`; `at` turns such a stamp into call seconds. The clock starts with the
    first audio frame in either direction, so the time that loading a model takes before it does not count.
    """

    def __init__(self) -> None:
        self._origin: float | None = None
        self._end: float | None = None

    def start(self) -> None:
        """Begin the call now, if it has not begun."""
        if self._origin is None:
            self._origin = asyncio.get_running_loop().time()

    @property
    def end(self) -> float | None:
        """When the call ended, in call seconds; None while it goes on."""
        return self._end

    def stop(self) -> float:
        """End the call now and return its length in seconds. A later stamp counts as its last moment."""
        if self._end is None:
            self._end = self.now()
        return self._end

    def now(self) -> float:
        """Call seconds now; 0.0 before the start. It goes on after `stop`, for what is still being played."""
        if self._origin is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._origin

    def at(self, wall: float) -> float:
        """Call seconds of a `time.time()` stamp, between 0 and the end of the call."""
        # counted back from now, so that a change of the wall clock during the call shifts nothing
        seconds = max(0.0, self.now() - (time.time() - wall))
        return seconds if self._end is None else min(seconds, self._end)

    def wall(self, at: float) -> float:
        """The `time.time()` stamp of a moment given in call seconds."""
        return time.time() - (self.now() - at)

    async def sleep_until(self, at: float) -> None:
        """Wait until call second `at`. If that has passed, only let other tasks run once."""
        await asyncio.sleep(max(0.0, at - self.now()))
