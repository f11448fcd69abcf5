"""The end of a LiveKit call: the graph's side ends once, with LiveKit's reason, and the job waits for it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from livekit.agents import AgentSession, get_job_context
from livekit.agents.voice.events import CloseEvent, CloseReason

__all__ = ["CallEnd"]

JOB_PATIENCE = 8.0
"""Seconds that a job waits, when it shuts down, until LiveKit has closed the session. LiveKit kills the job's process
10 seconds after it has begun to shut down (`shutdown_process_timeout`)."""


class CallEnd:
    """Ends the graph's side of a call once, when the session has closed.

    Args:
        end: ends it, given LiveKit's close reason.
    """

    def __init__(self, end: Callable[[str], Awaitable[None]]) -> None:
        self._end = end
        self._session: AgentSession[Any] | None = None
        self._closed = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None

    def bind(self, session: AgentSession[Any]) -> None:
        """From now on the call ends with this session, and a LiveKit job waits for the end."""
        self._session = session
        session.on("close", self._on_close)
        if (job := get_job_context(required=False)) is not None:
            # Otherwise the process ends before the last tool and `on_exit` have ended.
            job.add_shutdown_callback(self._job_ends)

    async def aclose(self) -> None:
        """End the call: close the session if it is open, and wait until the graph's side has ended as well."""
        if self._session is not None and not self._closed.is_set():
            await self._session.aclose()
        await self._wait(CloseReason.USER_INITIATED)

    def _on_close(self, event: CloseEvent) -> None:
        self._closed.set()
        self._begin(event.reason)

    async def _job_ends(self) -> None:
        # LiveKit runs all shutdown callbacks at the same time, and one of them closes the session.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOB_PATIENCE):
                await self._closed.wait()
        await self._wait(CloseReason.JOB_SHUTDOWN)

    def _begin(self, reason: CloseReason) -> "asyncio.Task[None]":
        if self._ending is None:
            self._ending = asyncio.create_task(self._run(reason), name="graph_voice.end")
        return self._ending

    async def _wait(self, reason: CloseReason) -> None:
        await asyncio.shield(self._begin(reason))

    async def _run(self, reason: CloseReason) -> None:
        await self._end(reason.value)
        if self._session is not None:
            self._session.off("close", self._on_close)
            self._session = None
