"""Delivering the custom data of a call to the program: `Conversation(on_custom=...)`."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from graph_voice.events import Custom

__all__ = ["CustomDelivery", "OnCustom"]

logger = logging.getLogger("graph_voice")

OnCustom = Callable[[Custom], Any]
"""What gets custom data: a function, sync or async."""


class CustomDelivery:
    """Calls the program's function with one event at a time, in order. If it fails, that is logged.

    While an async function runs, what comes waits; of the events that wait with one key only the latest is delivered.

    Args:
        function: the program's. None: nothing is delivered.
    """

    def __init__(self, function: OnCustom | None) -> None:
        self._function = function
        self._waiting: list[Custom] = []
        self._context = contextvars.copy_context()
        self.running: set[asyncio.Task[Any]] = set()
        """The task in which the async function runs, if it does."""

    def deliver(self, event: Custom) -> None:
        """This has happened."""
        if self._function is None:
            return
        if event.key is not None:
            self._waiting = [earlier for earlier in self._waiting if earlier.key != event.key]
        self._waiting.append(event)
        self._next()

    def _next(self) -> None:
        while self._waiting and not self.running and self._function is not None:
            event = self._waiting.pop(0)
            # Not in the context of the node that wrote it: what the program starts is no part of the graph run.
            context = self._context.copy()
            try:
                made = context.run(self._function, event)
            except Exception:
                logger.exception("on_custom failed: %r is not delivered", event)
                continue
            if inspect.isawaitable(made):
                task = asyncio.get_running_loop().create_task(_finish(made), name="graph_voice.custom", context=context)
                self.running.add(task)
                task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[Any]") -> None:
        self.running.discard(task)
        if task.cancelled():
            self._waiting.clear()  # the call has ended, and the program did not take it in time
        elif (error := task.exception()) is not None:
            logger.error("on_custom failed", exc_info=error)
        self._next()


async def _finish(made: Awaitable[Any]) -> None:
    await made
