"""A deterministic event loop on which waiting costs no time.

```python
from graph_voice.testing import run

async def conversation() -> float:
    await asyncio.sleep(30)                        # thirty seconds in the call, microseconds in real time
    return asyncio.get_running_loop().time()

assert run(conversation()) >= 30
```

In pytest, mark tests with `@pytest.mark.virtual_clock` (needs pytest-asyncio 1.5 or newer; pytest loads
`graph_voice.pytest_plugin` by itself).

These follow the virtual clock: the loop's timers (`asyncio.sleep`, `timeout`, `call_later`); and, on the loop's own
thread and in jobs that it gave to an executor, `time.time`, `time.perf_counter`, `time.monotonic`, their `_ns` forms,
and the `default_factory` of pydantic models that captured one of these functions when they were defined (LiveKit's
`created_at`). These do not: `datetime.now()`, names imported with `from time import time` (or captured by a dataclass's
`default_factory`), `time.sleep`, threads that the loop does not know, and sockets: see `hold`.
"""

import asyncio
import contextlib
import contextvars
import functools
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar, TypeVarTuple
from unittest import mock

from pydantic import BaseModel

from graph_voice.errors import GraphVoiceError

__all__ = ["ClockStalled", "VirtualClockLoop", "run", "virtual_time"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 2_000_000_000.0
"""The wall time at which every virtual clock starts, in seconds. It lies in the future (2033), so anything
stamped with real time before the test sorts before what the test does."""

# Two reads at one instant differ by this, so that time stamps keep the order in which they were taken.
_READ_STEP = 1e-6
# Timers due at one instant fire in the order in which they were set.
_TIE_STEP = 1e-12


class ClockStalled(GraphVoiceError, RuntimeError):
    """Nothing can happen any more on the virtual clock, or its limit has passed: the test would wait forever."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer whenever there is nothing to do.

    Runs are repeatable: the order of events depends on their scheduled times alone, and timers due at the
    same instant fire in the order in which they were set. Time stands still while a job is in an executor
    (`asyncio.to_thread`, synchronous graph nodes) and inside `hold()`: the loop then waits in real time.

    Args:
        limit: virtual seconds after which the loop gives up (otherwise a heartbeat would keep it going
            forever).
        patience: real seconds to wait for a job in an executor or a `hold()`. Without either, and without a
            timer, only another thread can wake the loop, and it waits a tenth of this.

    Raises:
        ClockStalled: from whatever runs the loop, when the limit or the patience is exhausted.
    """

    def __init__(self, *, limit: float = 3600.0, patience: float = 100.0) -> None:
        self._now = 0.0
        self._last_read = 0.0
        self._timers_at: dict[float, int] = {}
        self._limit = limit
        self._patience = patience
        self._waiting: set[object] = set()  # jobs in executors, and holds
        self._lock = threading.Lock()
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def read(self) -> float:
        """Virtual seconds for a time stamp: as `time`, but each read returns a little more than the one
        before."""
        with self._lock:
            self._last_read = max(self._now, self._last_read + _READ_STEP)
            return self._last_read

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the clock from jumping: for code that waits for a thread, a process or a socket that the loop
        does not know."""
        token = object()
        self._waiting.add(token)
        try:
            yield
        finally:
            self._waiting.discard(token)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        # A heap doesn't keep the order of equals, so each later timer of an instant is due a tiny bit later.
        # Rounding first keeps these from adding up.
        due = round(when, 9)
        earlier = self._timers_at[due] = self._timers_at.get(due, -1) + 1
        return super().call_at(due + earlier * _TIE_STEP, callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        job = _Job(self, functools.partial(func, *args))
        self._waiting.add(job)
        try:
            future = super().run_in_executor(executor, job)
        except BaseException:
            self._waiting.discard(job)
            raise
        future.add_done_callback(job.delivered)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        # Python 3.12 gives it a timeout, which would pass while the threads are joined.
        with self.hold():
            await super().shutdown_default_executor(*args, **kwargs)

    def _wait(self, real: selectors.BaseSelector, timeout: float | None) -> list[Any]:
        """Stand in for `select`: return at once if something is ready, else wait for jobs, else jump."""
        # With only the loop's own wake-up pipe there is nothing to poll: whoever writes to it has queued the
        # callback already.
        ready = real.select(0) if timeout != 0 or len(real.get_map()) > 1 else []
        if ready or timeout == 0:
            return ready
        if self._waiting or timeout is None:
            ready = real.select(self._patience if self._waiting else self._patience / 10)
            if not ready:
                raise ClockStalled(self._describe_stall())
            return ready
        if self._now + timeout > self._limit:
            limit, self._limit = self._limit, self._now + 60  # cleanup code may need a timer
            raise ClockStalled(
                f"The virtual clock reached its limit of {limit:g} s and the test still waits. "
                f"Make it end, or raise the limit: VirtualClockLoop(limit=...).\n{self._describe_tasks()}"
            )
        self._now += float(timeout)  # a delay may be a numpy number, which no checkpoint can hold
        if len(self._timers_at) > 1000:
            self._timers_at = {due: n for due, n in self._timers_at.items() if due >= self._now - 1e-6}
        return []

    def _describe_stall(self) -> str:
        jobs = sum(isinstance(waiting, _Job) for waiting in self._waiting)
        if self._waiting:
            cause = (
                f"{jobs} job(s) in executors and {len(self._waiting) - jobs} hold() had not ended after "
                f"{self._patience:g} real seconds. No virtual time passes meanwhile, so a job must not wait "
                "for a timer of the loop."
            )
        else:
            cause = (
                "No timer, no job and no callback is left, so what the test waits for can't happen. "
                "If another thread is to wake the loop, wait for it inside `with loop.hold():`."
            )
        return f"Nothing happens any more at {self._now:g} s. {cause}\n{self._describe_tasks()}"

    def _describe_tasks(self) -> str:
        lines = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "not started"
            lines.append(f"  {task.get_name()}: {task.get_coro()!r} at {where}")
        return "Waiting tasks:\n" + "\n".join(sorted(lines)) if lines else "No task is left."


class _Job(Generic[T]):
    """A function in an executor. It is over when it has returned and the loop knows (or has canceled it)."""

    def __init__(self, loop: VirtualClockLoop, func: Callable[[], T]) -> None:
        self._loop = loop
        self._func = func
        self._running = False
        self._delivered = False

    def __call__(self) -> T:
        self._running = True
        _thread.loop = self._loop
        try:
            return self._func()
        finally:
            _thread.loop = None
            with contextlib.suppress(RuntimeError):  # the loop may be closed: nobody waits for this job
                self._loop.call_soon_threadsafe(self._returned)

    def _returned(self) -> None:
        self._running = False
        if self._delivered:
            self._loop._waiting.discard(self)

    def delivered(self, future: asyncio.Future[Any]) -> None:
        # A canceled task leaves its thread behind: until that returns, time stands still. The result
        # of a job reaches the loop after `_returned`, so nothing can jump in between.
        self._delivered = True
        if not self._running:
            self._loop._waiting.discard(self)


class _JumpingSelector(selectors.BaseSelector):
    """The loop's selector: registers with a real one, and lets the virtual clock decide how to wait."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._loop._wait(self._real, timeout)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class _Thread(threading.local):
    loop: VirtualClockLoop | None = None


_thread = _Thread()


def _virtual_loop() -> VirtualClockLoop | None:
    """The virtual clock that the calling code runs on: that of the running loop, or of the executor job that
    it runs in."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _thread.loop
    return loop if isinstance(loop, VirtualClockLoop) else None


def _reading(real: Callable[[], Any], start: float, unit: float = 1.0) -> Callable[[], Any]:
    # Other threads (exporters, other loops) keep the real clock, although they see the patched function.
    def read() -> Any:
        loop = _virtual_loop()
        if loop is None:
            return real()
        if unit == 1.0:
            return start + loop.read()
        return int(start * unit) + int(loop.read() * unit)

    return read


_CLOCKS: dict[str, tuple[float, float]] = {
    "time": (EPOCH, 1.0),
    "time_ns": (EPOCH, 1e9),
    "perf_counter": (0.0, 1.0),
    "perf_counter_ns": (0.0, 1e9),
    "monotonic": (0.0, 1.0),
    "monotonic_ns": (0.0, 1e9),
}
_LATE: dict[Any, Callable[[], Any]] = {}
_SEEN: set[type[BaseModel]] = set()


def _late(name: str) -> Callable[[], Any]:
    return lambda: getattr(time, name)()


def _release_captured_clocks() -> None:
    """Let pydantic models that captured `time.time` as a `default_factory` look it up when they are made.

    The change has no effect outside a virtual clock, so it is made once for each model and stays.
    """
    if not _LATE:
        _LATE.update({getattr(time, name): _late(name) for name in _CLOCKS})
    models = list(BaseModel.__subclasses__())
    while models:
        model = models.pop()
        models.extend(model.__subclasses__())
        if model in _SEEN:
            continue
        captured = [field for field in model.model_fields.values() if field.default_factory in _LATE]
        for field in captured:
            field.default_factory = _LATE[field.default_factory]
        if captured:
            model.model_rebuild(force=True)
        _SEEN.add(model)


@contextlib.contextmanager
def virtual_time() -> Iterator[None]:
    """Let the functions of `time` follow the virtual clock, for code that runs on one. Everything else keeps
    real time.

    `run` and the pytest marker use it themselves. It can be nested.
    """
    with contextlib.ExitStack() as stack:
        if getattr(time.time, "__module__", None) != __name__:
            _release_captured_clocks()
            for name, (start, unit) in _CLOCKS.items():
                stack.enter_context(mock.patch.object(time, name, _reading(getattr(time, name), start, unit)))
        yield


def run(main: Coroutine[Any, Any, T], *, limit: float = 3600.0) -> T:
    """Run a coroutine on a new virtual clock, as `asyncio.run` does on a real one.

    Args:
        main: the coroutine.
        limit: virtual seconds after which to give up.

    Raises:
        ClockStalled: the coroutine waits for something that can't happen, or for longer than `limit`.
    """
    with (
        virtual_time(),
        asyncio.Runner(loop_factory=functools.partial(VirtualClockLoop, limit=limit)) as runner,
    ):
        return runner.run(main)
