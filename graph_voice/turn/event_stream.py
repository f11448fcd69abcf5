"""The events of one turn on their way to the front end."""

import asyncio
from collections import deque
from collections.abc import Callable

from graph_voice import events

__all__ = ["EventStream", "TurnListener"]


class TurnListener:
    """What a front end is told of a turn, at the moment in which it happens. Override what you need.

    All methods are called from the code that the moment belongs to, so they return at once and raise nothing.
    """

    def happens(self, event: events.Event) -> None:
        """An event. Whoever listens gets the events here, and can't iterate the turn."""

    def message_over(self, message_id: str) -> None:
        """This message is complete. The run may go on."""

    def waits(self, message_id: str) -> None:
        """The run waits until this message was heard (`ctx.say`)."""

    def holds(self, held: bool) -> None:
        """`ctx.disallow_interruptions()` takes effect (True), or no longer does (False)."""

    def entered(self) -> None:
        """An agent's `on_enter` method has ended, or does not run."""


class EventStream:
    """Events in the order in which they happen: for one listener, or to be iterated.

    Args:
        watch: gets each event first.
    """

    def __init__(self, watch: Callable[[events.Event], None]) -> None:
        self.listener: TurnListener | None = None
        self._watch = watch
        self._events: deque[events.Event] = deque()
        self._wake = asyncio.Event()
        self._ended = False

    def put(self, event: events.Event) -> None:
        """An event has happened. After `Ended` there are no others, except for who watches: custom data of a run that
        was over when its turn was committed."""
        if self._ended:
            if isinstance(event, events.Custom):
                self._watch(event)
            return
        self._ended = isinstance(event, events.Ended)
        self._watch(event)
        if self.listener is not None:
            self.listener.happens(event)
        else:
            self._events.append(event)
            self._wake.set()

    def listen(self, listener: TurnListener) -> None:
        """Give this listener all events, those from before included."""
        self.listener = listener
        while self._events:
            listener.happens(self._events.popleft())

    async def next(self) -> events.Event:
        """The next event. Raises `StopAsyncIteration` behind the last one."""
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()
