"""The checkpointer of one job: opened in the job's process, closed after the end of the call."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from graph_voice import LiveSaver
from graph_voice.errors import BuildError, SaverError

__all__ = ["JobSaver"]

logger = logging.getLogger("graph_voice.livekit")
OPEN_TIMEOUT = 3.0
"""Seconds that the caller may have to wait for the connection."""
CLOSE_TIMEOUT = 2.0
"""Seconds for closing it. LiveKit kills a job's process 10 seconds after it has begun to shut down; five of them are
for making the end of the call durable."""


class JobSaver:
    """Opens what `create_server(saver=...)` makes.

    Args:
        make: returns a checkpointer, an async context manager of one, or a coroutine of either.
    """

    def __init__(self, make: Callable[[], Any] | None) -> None:
        self._make = make
        self._stack = AsyncExitStack()
        self._opened: BaseCheckpointSaver[Any] | None = None

    async def open(self) -> BaseCheckpointSaver[Any] | None:
        """The checkpointer; None if the server has none, or if it can't be opened. That is logged, and the caller is
        answered all the same.

        Raises `BuildError` for anything that is not a checkpointer.
        """
        if self._make is None:
            return None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                found = await self._enter(self._make)
        except Exception:
            logger.exception("the call's store can't be opened; the call is held, and not stored")
            return None
        if not isinstance(found, BaseCheckpointSaver):
            await self.aclose()
            name = getattr(self._make, "__name__", self._make)
            raise BuildError(
                f"create_server(saver={name}): it gave {found!r:.60}, which is no checkpointer. Return one, or what "
                "`AsyncSqliteSaver.from_conn_string(...)` gives."
            )
        self._opened = found
        return found

    async def _enter(self, make: Callable[[], Any]) -> Any:
        found = make()
        if inspect.isawaitable(found):
            found = await found
        if hasattr(found, "__aenter__") and not isinstance(found, BaseCheckpointSaver):
            found = await self._stack.enter_async_context(found)
        return found

    async def aclose(self) -> None:
        """Close it, without waiting for what is not durable yet."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if isinstance(self._opened, LiveSaver):
                    try:
                        await self._opened.aclose(timeout=0)
                    except SaverError as error:
                        logger.error("not everything is stored: %s", error)
                await self._stack.aclose()
        except Exception:
            logger.exception("the call's store could not be closed")
