"""The voice of a modeled front end: it speaks word by word, can be cut off, and knows what was heard."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from graph_voice.turn.turn import Turn

__all__ = ["Mark", "ModelledVoice", "SpokenMessage"]

_WORD = re.compile(r"\s*\S+")


@dataclass(eq=False)
class SpokenMessage:
    """A message that is spoken while it is still being generated."""

    message_id: str
    turn: Turn | None
    text: str = ""
    over: bool = False
    """No more words will come."""
    heard: int = 0
    """Characters."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def next_word(self) -> int | None:
        """Where the next word ends; None while it is not complete."""
        found = _WORD.match(self.text, self.heard)
        if found is None or (found.end() == len(self.text) and not self.over):
            return None
        return found.end()


@dataclass(eq=False)
class Mark:
    """A point between two lines: what to do when everything before it has been played or cut off."""

    turn: Turn
    reached: Callable[[], None]
    cut: Callable[[], None]


class ModelledVoice:
    """Plays lines one after the other.

    Args:
        per_word: seconds per word.
        first_audio: seconds from a line's first word to its sound.
        on_word: called after each word.
        on_heard: called with each line that has ended, and whether it was cut off.
    """

    def __init__(
        self,
        *,
        per_word: float,
        first_audio: float,
        on_word: Callable[[], None],
        on_heard: Callable[[SpokenMessage, bool], None],
    ) -> None:
        self._per_word = per_word
        self._first_audio = first_audio
        self._on_word = on_word
        self._on_heard = on_heard
        self._queue: deque[SpokenMessage | Mark] = deque()
        self._current: SpokenMessage | None = None
        self._news = asyncio.Event()
        self._runs = asyncio.Event()
        self._runs.set()
        self.idle = asyncio.Event()
        self.idle.set()
        self._task: asyncio.Task[None] | None = None

    def put(self, what: "SpokenMessage | Mark") -> None:
        """Play it after everything that is queued."""
        self._queue.append(what)
        self.idle.clear()
        self.changed()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._play(), name="graph_voice.testing.voice")

    def changed(self) -> None:
        """A line has more words, or is over."""
        self._news.set()

    def pause(self) -> None:
        self._runs.clear()

    def go_on(self) -> None:
        self._runs.set()

    def cut(self) -> None:
        """Stop at once, and drop everything that has not been played."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        current, self._current = self._current, None
        if current is not None:
            self._finish(current, True)
        while self._queue:
            what = self._queue.popleft()
            if isinstance(what, Mark):
                what.cut()
            else:
                self._finish(what, True)
        self._runs.set()
        self.idle.set()

    async def _play(self) -> None:
        while self._queue:
            what = self._queue.popleft()
            if isinstance(what, Mark):
                what.reached()
                continue
            await self._speak(what)
        self.idle.set()

    async def _speak(self, line: SpokenMessage) -> None:
        began = False
        self._current = line
        while True:
            end = line.next_word()
            if end is None:
                if line.over:
                    break
                self._news.clear()
                await self._news.wait()
                continue
            if not began:
                began = True
                await asyncio.sleep(self._first_audio)
            await asyncio.sleep(self._per_word)
            await self._runs.wait()
            line.heard = end
            self._on_word()
        self._current = None
        line.heard = len(line.text)
        self._finish(line, False)

    def _finish(self, line: SpokenMessage, cut: bool) -> None:
        self._on_heard(line, cut)
        line.done.set()
