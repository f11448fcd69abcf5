"""What a page is told that comes when a call goes on already."""

from collections.abc import Iterator

from graph_voice_livekit.page.protocol import ToPage

__all__ = ["Snapshot"]

_KEPT = 100
"""Turns and lines. Older ones are left out."""
_LATEST = ("agent", "state", "nodes", "userdata")
"""Of these the last one says everything."""
_LINES = ("turn", "line", "notice")


class Snapshot:
    """Keeps what was told, as far as it still counts. A new call (`started`) begins it anew."""

    def __init__(self) -> None:
        self._first: ToPage | None = None
        self._lines: dict[str, ToPage] = {}
        self._latest: dict[str, ToPage] = {}
        self._last: ToPage | None = None
        self._count = 0

    def keep(self, message: ToPage) -> None:
        """The page was told this."""
        kind = message["type"]
        if kind == "started":
            self._first, self._last = message, None
            self._lines.clear()
            self._latest.clear()
        elif kind in _LINES:
            self._count += 1
            self._lines[f"turn {message['id']}" if kind == "turn" else str(self._count)] = message
            while len(self._lines) > _KEPT:
                del self._lines[next(iter(self._lines))]
        elif kind in _LATEST:
            self._latest[kind] = message
        elif kind == "ended":
            self._last = message

    def messages(self) -> Iterator[ToPage]:
        """All of it, in order."""
        if self._first is not None:
            yield self._first
        yield from self._lines.values()
        yield from self._latest.values()
        if self._last is not None:
            yield self._last
