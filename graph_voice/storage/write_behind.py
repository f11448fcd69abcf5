"""Writing to a durable checkpointer in the background: in order, with retries, and without delaying the call."""

import asyncio
import contextvars
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from graph_voice.errors import SaverError

__all__ = ["Lag", "Op", "Report", "WriteBehind"]

logger = logging.getLogger("graph_voice")

_IN_THE_DATA = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
"""Errors in the data, not in the store: a retry would fail again."""
_REMEMBERED = 10_000
"""Losses that have been told, so that each is told once."""


@dataclass(frozen=True)
class Lag:
    """How far behind the durable copy is."""

    pending: int
    """Writes that are not durable yet."""
    seconds: float
    """How long the oldest of them has been waiting."""
    error: BaseException | None = None
    """Why the last attempt failed; None while nothing fails."""
    lost: tuple[str, ...] = ()
    """What the durable copy does not have as it was, and never will: the last few values, with their threads."""


@dataclass(eq=False)
class Op:
    """One write to the durable saver."""

    thread_id: str
    awaited: Callable[[bool], Awaitable[Any]]
    """Writes it, for a saver with asynchronous methods. True: in the form that any store takes."""
    blocking: Callable[[bool], Any]
    """Writes it, for a saver without; runs in a thread."""
    done: Callable[[], None]
    """Called when it is durable, or was given up."""
    since: float = field(default_factory=lambda: time.monotonic())
    careful: bool = False
    """Whether it is written in the form that any store takes."""


@dataclass
class Report:
    """What became of the writes of a thread."""

    lost: list[str] = field(default_factory=list)
    """The values that are not stored as they were."""
    given_up: list[BaseException] = field(default_factory=list)
    """Why whole writes were given up."""


class WriteBehind:
    """A queue of writes with one worker: what is put first is durable first.

    A write that fails is retried for as long as it takes. One that hangs is stopped after `timeout` seconds and
    retried: writing a checkpoint twice is the same as once. When the store refuses the data, they are written in
    another form; when it refuses that too, the write is given up.

    Args:
        timeout: seconds for one write.
        bound: writes that may wait.
        max_lag: seconds that the oldest write may wait before an error is logged.
        on_lag: called when the store begins to fail, at each further failure, when all is durable again, and when
            something is lost.
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
        self._reports: dict[str, Report] = {}
        """Thread -> what has not been reported yet."""
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._last_lost: deque[str] = deque(maxlen=20)
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        """How many writes must have left the queue, and what is done then."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def lag(self) -> Lag:
        with self._lock:
            oldest = self._queue[0].since if self._queue else None
            seconds = 0.0 if oldest is None else time.monotonic() - oldest
            return Lag(len(self._queue), seconds, self._error, tuple(self._last_lost))

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
            self._start_in(loop)

    async def flush(self, thread_id: str | None = None, *, timeout: float | None = None) -> None:
        """Return when all that was put before is durable.

        Args:
            thread_id: only what belongs to this thread.
            timeout: seconds to wait. Default: without limit.

        Raises `SaverError` after the timeout, and when something was lost or given up since the last `flush`.
        """
        await self.wait(thread_id, timeout=timeout)
        lost = [one for report in self._take(thread_id) for one in (*map(repr, report.given_up), *report.lost)]
        if lost:
            raise SaverError(f"Stored, but for this, which never will be: {'; '.join(lost)}")

    def take_report(self, thread_id: str) -> Report:
        """What was lost or given up of this thread since the last `take_report` or `flush`."""
        return next(iter(self._take(thread_id)), Report())

    def _take(self, thread_id: str | None) -> list[Report]:
        with self._lock:
            taken = list(self._reports) if thread_id is None else [thread_id]
            return [self._reports.pop(thread) for thread in taken if thread in self._reports]

    def tell(self, thread_id: str, loss: str, *, gone: bool) -> None:
        """Something of a thread is not stored as it was. `gone`: the value is lost, not only its kind."""
        with self._lock:
            if (thread_id, loss) in self._told:
                return
            self._told[thread_id, loss] = None
            while len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            self._last_lost.append(f"thread {thread_id}: {loss}")
            if gone:
                self._reports.setdefault(thread_id, Report()).lost.append(loss)
        logger.log(logging.ERROR if gone else logging.WARNING, "thread %s: in the durable copy, %s", thread_id, loss)
        self._report(self.lag)

    def note(self, thread_id: str, what: str) -> None:
        """The durable copy of a thread lacks something, which no write of it will change."""
        with self._lock:
            self._last_lost.append(f"thread {thread_id}: {what}")
        self._report(self.lag)

    async def wait(self, thread_id: str | None = None, *, timeout: float | None = None) -> None:
        """As `flush`, without raising for what was lost."""
        try:
            async with asyncio.timeout(timeout):  # `wait_for` may forget a cancellation before Python 3.12
                await self.written(thread_id)
        except TimeoutError:
            lag = self.lag
            raise SaverError(
                f"{lag.pending} writes to the durable saver are not done after {timeout} s "
                f"(the oldest has waited {lag.seconds:.1f} s). Last error: {lag.error!r}"
            ) from lag.error

    def written(self, thread_id: str | None = None) -> "asyncio.Future[None]":
        """A future that is done when all that was put before, of this thread or at all, is durable or given up."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            mine = [i for i, op in enumerate(self._queue, 1) if thread_id is None or op.thread_id == thread_id]
            if mine:
                self._waiters.append((self._taken + mine[-1], future))
        if mine:
            self._start_in(loop)
        else:
            future.set_result(None)
        return future

    async def aclose(self, timeout: float | None = None) -> None:
        """`flush()`, then stop the worker. Raises as `flush`."""
        try:
            await self.flush(timeout=timeout)
        finally:
            await self._stop()

    async def abandon(self) -> None:
        """Stop at once, and drop the waiting writes."""
        with self._lock:
            self._queue.clear()
        await self._stop()

    async def _stop(self) -> None:
        if self._worker is not None and self._loop is asyncio.get_running_loop():
            self._worker.cancel()
            await asyncio.wait([self._worker])
        self._worker = None

    # ---- the worker

    def _start_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the worker, in the event loop of whoever was first, or in this one when that no longer runs."""
        if self._loop is None or not self._loop.is_running():
            self._loop = loop
        if self._loop is loop:
            self._start()
        else:
            self._loop.call_soon_threadsafe(self._start)

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
            except Exception as error:
                if self._change(op, error):
                    continue
            self._finish(op)

    async def _write(self, op: Op) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, Exception) and not _is_in_the_data(error)),
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
            await op.awaited(op.careful)
        except NotImplementedError:
            await asyncio.to_thread(op.blocking, op.careful)

    def _drain(self) -> None:
        """Write everything now, since no event loop is running to do it later. LangGraph puts from threads."""
        with self._draining:
            while self._queue:
                op = self._queue[0]
                try:
                    op.blocking(op.careful)
                except Exception as error:
                    if not _is_in_the_data(error):
                        raise
                    if self._change(op, error):
                        continue
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

    def _change(self, op: Op, error: Exception) -> bool:
        """Write it in another form, since the store refuses this one. False: it is refused in both, and given up."""
        if not op.careful:
            op.careful = True
            return True
        logger.error("thread %s: a write can't be stored and is left out", op.thread_id, exc_info=error)
        with self._lock:
            self._reports.setdefault(op.thread_id, Report()).given_up.append(error)
            self._last_lost.append(f"thread {op.thread_id}: a whole write: {error!r}")
        self._report(self.lag)
        return False

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
        for _, waiter in ready:
            if not (loop := waiter.get_loop()).is_closed():
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


def _is_in_the_data(error: BaseException) -> bool:
    """Whether the store refuses the data. Database drivers have an error of this name for that (PEP 249)."""
    return isinstance(error, _IN_THE_DATA) or any(kind.__name__ == "DataError" for kind in type(error).__mro__)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
