"""Whoever speaks at the same time is heard one behind the other."""

from collections.abc import Callable, Sequence

__all__ = ["OneByOne"]

Do = Callable[[], None]


class OneByOne:
    """Lets one speaker speak at a time; what the others say meanwhile waits, in the order in which they began.

    A speaker is a path: a task of the graph, the tasks inside it, and one message of theirs. So all that one task says
    comes before what another one says.
    """

    def __init__(self) -> None:
        self._now: str | None = None
        self._inside: dict[str, OneByOne] = {}
        self._waiting: dict[str, list[Do]] = {}

    def speak(self, path: Sequence[str], words: Do) -> None:
        """Say these words: now, or when those who began earlier have ended."""
        speaker, *inner = path
        if self._now is None:
            self._now = speaker
        do = words
        if inner:
            inside = self._inside.setdefault(speaker, OneByOne())
            do = lambda: inside.speak(inner, words)  # noqa: E731
        if self._now == speaker:
            do()
        else:
            self._waiting.setdefault(speaker, []).append(do)

    def ended(self, path: Sequence[str], then: Do = lambda: None) -> None:
        """This speaker says nothing more. `then` is done behind its last word."""
        speaker, *inner = path
        if speaker in self._waiting:
            self._waiting[speaker].append(lambda: self._end(speaker, inner, then))
        else:
            self._end(speaker, inner, then)
            self._next()

    def flush(self) -> None:
        """Nobody says anything more: say what still waits."""
        while self._now is not None or self._waiting:
            if self._now is not None:
                self._end(self._now, (), lambda: None)
            self._next()

    def _end(self, speaker: str, inner: Sequence[str], then: Do) -> None:
        inside = self._inside.get(speaker)
        if inner:
            if inside is not None:
                inside.ended(inner, then)
            else:
                then()
            return
        if inside is not None:
            inside.flush()
            del self._inside[speaker]
        then()
        if self._now == speaker:
            self._now = None

    def _next(self) -> None:
        while self._now is None and self._waiting:
            speaker = next(iter(self._waiting))
            waited = self._waiting.pop(speaker)
            self._now = speaker
            for do in waited:
                do()
