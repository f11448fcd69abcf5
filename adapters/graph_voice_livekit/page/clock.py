"""The page's clock and ours: when did something happen there, in seconds of `time.time()` here?"""

from collections import deque

__all__ = ["PageClock"]

_KEPT = 16


class PageClock:
    """Knows the page's clock by pings. The answer that came fastest counts, since it says most exactly when it left."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}
        self._answers: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        """Round trip in seconds, and what to add to the page's seconds."""
        self._next = 0

    def ping(self, now: float) -> int:
        """Number a ping that leaves now."""
        self._next += 1
        self._sent[self._next] = now
        while len(self._sent) > _KEPT:
            del self._sent[min(self._sent)]
        return self._next

    def pong(self, number: int, page_ms: float, now: float) -> None:
        """The page has answered. An answer to no ping says nothing."""
        sent = self._sent.pop(number, None)
        if sent is not None and now >= sent:
            self._answers.append((now - sent, (sent + now) / 2 - page_ms / 1000))

    def here(self, page_ms: float, *, earliest: float, now: float) -> float:
        """The time here of a moment there, but not before `earliest` and not in the future, whatever the page says."""
        if not self._answers:
            return now
        _, offset = min(self._answers)
        return min(max(page_ms / 1000 + offset, earliest), now)

    @property
    def round_trip(self) -> float | None:
        """Seconds of the fastest one lately; None if none has come back."""
        return min(self._answers)[0] if self._answers else None
