"""Writing to a durable checkpointer in the background: in order, with retries, and without delaying the call."""

import asyncio
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_not_exception_type, wait_exponential

from graph_voice.errors import SaverError

__all__ = ["Lag", "Op", "WriteBehind"]

logger = logging.getLogger("graph_voice")

_NEVER = (TypeError, ValueError, NotImplementedError)
"""Errors in the data, not in the store: a retry would fail again."""


@dataclass(frozen=True)
class Lag:
    """How far behind the durable copy is."""

    pending: int
    """Writes that are not durable yet."""
    seconds: float
    """How long the oldest of them has been waiting."""
    error: BaseException | None = None
    """Why the last attempt failed; None while nothing fails."""


@dataclass(eq=False)
class Op:
    """One write to the durable saver."""

    thread_id: str
    awaited: Callable[[], Awaitable[Any]]
    """Writes it, for a saver with asynchronous methods."""
    blocking: Callable[[], Any]
    """Writes it, for a saver without; runs in a thread."""
    done: Callable[[], None]
    """Called when it is durable, or was given up."""
    since: float = field(default_factory=lambda: time.monotonic())


class WriteBehind:
    """A queue of writes with one worker: what is put first is durable first.

    A write that fails is retried for as long as it takes. One that hangs is stopped after `timeout` seconds and
    retried: writing a checkpoint twice is the same as once. What can't be stored at all (a value that can't be
    serialized) is logged and left out.

    Args:
        timeout: seconds for one write.
        bound: writes that may wait.
        max_lag: seconds that the oldest write may wait before an error is logged.
        on_lag: called when the store begins to fail, at each further failure, and when all is durable again.
    """

    def __init__(self, *, timeout: float, bound: int, max_lag: float, on_lag: Callable[[Lag], None] | None) -> None:
        self.bound = bound
        self.max_lag = max_lag
        self._too_late = False
        self._timeout = timeout
        self._on_lag = on_lag
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._queue: deque[Op] = deque()
        self._taken = 0
        """How many writes have left the queue."""
        self._error: BaseException | None = None
        self._unstorable: list[BaseException] = []
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def lag(self) -> Lag:
        with self._lock:
            oldest = self._queue[0].since if self._queue else None
            seconds = 0.0 if oldest is None else time.monotonic() - oldest
            return Lag(len(self._queue), seconds, self._error)

    def is_pending(self, thread_id: str | None = None) -> bool:
        with self._lock:
            return any(thread_id is None or op.thread_id == thread_id for op in self._queue)

    def put(self, op: Op) -> None:
        """Write this after all earlier writes. Returns at once where an event loop runs; else when it is written."""
        with self._lock:
            self._queue.append(op)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None and self._loop.is_running():
                self._loop.call_soon_threadsafe(self._start)
            else:
                self._drain()
        else:
            if self._loop is None or not self._loop.is_running():
                self._loop = loop
            if self._loop is loop:
                self._start()
            else:
                self._loop.call_soon_threadsafe(self._start)

    async def flush(self, thread_id: str | None = None, *, timeout: float | None = None) -> None:
        """Return when all that was put before is durable.

        Args:
            thread_id: only what belongs to this thread.
            timeout: seconds to wait. Default: without limit.

        Raises `SaverError` after the timeout, or when something can't be stored at all.
        """
        with self._lock:
            mine = [i for i, op in enumerate(self._queue) if thread_id is None or op.thread_id == thread_id]
            if mine:
                loop = asyncio.get_running_loop()
                waiter: asyncio.Future[None] = loop.create_future()
                self._waiters.append((self._taken + mine[-1] + 1, loop, waiter))
        if mine:
            if self._loop is None or not self._loop.is_running():
                self._loop = loop
            if self._loop is loop:
                self._start()
            try:
                await asyncio.wait_for(waiter, timeout)
            except TimeoutError:
                lag = self.lag
                raise SaverError(
                    f"{lag.pending} writes to the durable saver are not done after {timeout} s "
                    f"(the oldest has waited {lag.seconds:.1f} s). Last error: {lag.error!r}"
                ) from lag.error
        if self._unstorable:
            errors, self._unstorable = self._unstorable, []
            raise SaverError(f"Not stored, and never will be: {errors[0]!r}") from errors[0]

    async def aclose(self, timeout: float | None = None) -> None:
        """`flush()`, then stop the worker. Raises as `flush`."""
        try:
            await self.flush(timeout=timeout)
        finally:
            if self._worker is not None and self._loop is asyncio.get_running_loop():
                self._worker.cancel()
                await asyncio.wait([self._worker])
            self._worker = None

    async def abandon(self) -> None:
        """Stop at once, and drop the waiting writes."""
        with self._lock:
            self._queue.clear()
        if self._worker is not None and self._loop is asyncio.get_running_loop():
            self._worker.cancel()
            await asyncio.wait([self._worker])
        self._worker = None

    # ---- the worker

    def _start(self) -> None:
        if self._worker is None or self._worker.done():
            assert self._loop is not None
            # An empty context: the worker must not keep the turn that woke it alive, or be traced in it.
            self._worker = self._loop.create_task(
                self._work(), name="graph_voice write-behind", context=contextvars.Context()
            )

    async def _work(self) -> None:
        while self._queue:
            op = self._queue[0]
            try:
                await self._write(op)
            except _NEVER as error:
                self._give_up(op, error)
            self._finish(op)

    async def _write(self, op: Op) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_not_exception_type((*_NEVER, asyncio.CancelledError)),
            wait=wait_exponential(multiplier=0.05, max=5),
            before_sleep=self._failed,
            sleep=asyncio.sleep,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                # Not `wait_for`: if the write fails at the moment this task is canceled, it loses the cancellation.
                async with asyncio.timeout(self._timeout):
                    await self._once(op)

    async def _once(self, op: Op) -> None:
        try:
            await op.awaited()
        except NotImplementedError:
            await asyncio.to_thread(op.blocking)

    def _drain(self) -> None:
        """Write everything now, since no event loop is running to do it later. LangGraph puts from threads."""
        with self._draining:
            while self._queue:
                op = self._queue[0]
                try:
                    op.blocking()
                except _NEVER as error:
                    self._give_up(op, error)
                self._finish(op)

    def _failed(self, state: RetryCallState) -> None:
        first = self._error is None
        self._error = state.outcome.exception() if state.outcome is not None else None
        lag = self.lag
        if lag.seconds > self.max_lag and not self._too_late:
            self._too_late = True
            logger.error("the durable copy is %.0f s behind; %d writes wait: %r", lag.seconds, lag.pending, lag.error)
        if first:
            logger.warning("the durable saver fails; the call goes on, %d writes wait: %r", lag.pending, lag.error)
        self._report(lag)

    def _give_up(self, op: Op, error: BaseException) -> None:
        logger.error("thread %s: a write can't be stored and is left out", op.thread_id, exc_info=error)
        self._unstorable.append(error)

    def _finish(self, op: Op) -> None:
        with self._lock:
            self._queue.popleft()
            self._taken += 1
            ready = [w for w in self._waiters if w[0] <= self._taken]
            self._waiters = [w for w in self._waiters if w[0] > self._taken]
            recovered = self._error is not None and not self._queue
            if recovered:
                self._error = None
                self._too_late = False
        op.done()
        for _, loop, waiter in ready:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, waiter)
        if recovered:
            logger.warning("the durable saver works again; everything is stored")
            self._report(self.lag)

    def _report(self, lag: Lag) -> None:
        if self._on_lag is not None:
            try:
                self._on_lag(lag)
            except Exception:
                logger.exception("on_lag failed")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
