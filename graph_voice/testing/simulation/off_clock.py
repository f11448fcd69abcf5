"""Real models in calls on the virtual clock: they run in real time, elsewhere, and the call's clock follows them."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig

from graph_voice.testing.clock import VirtualClockLoop
from graph_voice.testing.models import ScriptedModel

__all__ = ["STOPPED", "ModelLoop", "off_clock"]

T = TypeVar("T")
STOPPED = "the simulation was stopped"
"""What the calls are told that were not over."""
PATIENCE = 90.0
"""Real seconds for which a call waits for the next piece of an answer."""


class ModelLoop:
    """One event loop, in a thread of its own, on which all models of a simulation run in real time.

    A model's client keeps connections that belong to one loop, and each call has a loop of its own. While a call waits
    for a model, its clock stands still.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopped = False
        """Nothing is begun any more: what was begun before is cancelled, and its call is told."""
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="graph_voice.simulation.models", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopped = True
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]], *, patience: float | None = PATIENCE) -> T:
        """Await this on the models' loop, for so many real seconds. The calling loop's clock stands still meanwhile."""
        here = asyncio.get_running_loop()
        done: asyncio.Future[T] = here.create_future()

        async def work() -> None:
            try:
                async with asyncio.timeout(patience):
                    found = await make()
            except BaseException as error:
                _tell(here, done, lambda e=error: done.set_exception(_raised(e)))  # type: ignore[misc]
                if isinstance(error, asyncio.CancelledError):
                    raise
            else:
                _tell(here, done, lambda: done.set_result(found))

        stop = self.start(work())
        try:
            with held(here):
                return await done
        finally:
            stop()

    def start(self, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run this on the models' loop, in the context of the caller. Returns what cancels it."""
        task: list[asyncio.Task[None]] = []
        context = contextvars.copy_context()

        def begin() -> None:
            task.append(self._loop.create_task(work, context=context))

        with self._lock:
            if self._stopped:
                work.close()
                raise RuntimeError(STOPPED)
            self._loop.call_soon_threadsafe(begin)
        return lambda: self._stop(task)

    def _stop(self, task: list[asyncio.Task[None]]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: task and task[0].cancel())


def off_clock(model: Any, models: ModelLoop) -> Any:
    """The model as it is used in a call: a scripted one as it is, any other on the models' loop."""
    return model if model is None or isinstance(model, ScriptedModel) else OffClock(model, models)


class OffClock:
    """A chat model that answers in real time, in a call on the virtual clock.

    The call's clock stands still until a piece of the answer is there. Then as much time passes on it as the piece
    took, so that the call's latencies are those that a caller would have.
    """

    def __init__(self, model: Any, models: ModelLoop) -> None:
        self._model = model
        self._models = models

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_model", "_models"):  # copying asks before there is a model
            raise AttributeError(name)
        return getattr(self._model, name)

    def bind_tools(self, tools: Any, **options: Any) -> "OffClock":
        """As the model's own."""
        return OffClock(self._model.bind_tools(tools, **options), self._models)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AIMessage:
        """As the model's own."""
        took = 0.0

        async def ask() -> AIMessage:
            nonlocal took
            start = time.monotonic()
            found: AIMessage = await self._model.ainvoke(input, config, **options)
            took = time.monotonic() - start
            return found

        answer = await self._models.run(ask)
        await asyncio.sleep(took if _is_virtual(asyncio.get_running_loop()) else 0)
        return answer

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """As the model's own."""
        here = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

        async def pump() -> None:
            start = time.monotonic()
            try:
                found = aiter(self._model.astream(input, config, **options))
                while True:
                    async with asyncio.timeout(PATIENCE):
                        piece = await anext(found, None)
                    _put(here, pieces, (time.monotonic() - start, piece))
                    if piece is None:
                        return
            except BaseException as error:
                _put(here, pieces, (time.monotonic() - start, _raised(error)))
                if isinstance(error, asyncio.CancelledError):
                    raise

        began = here.time()
        stop = self._models.start(pump())
        try:
            while True:
                with held(here):
                    took, piece = await pieces.get()
                await asyncio.sleep(max(0.0, began + took - here.time()) if _is_virtual(here) else 0)
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stop()


def held(loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
    """Keep a virtual clock from jumping. A real one goes on."""
    return loop.hold() if isinstance(loop, VirtualClockLoop) else nullcontext()


def _is_virtual(loop: asyncio.AbstractEventLoop) -> bool:
    return isinstance(loop, VirtualClockLoop)


def _raised(error: BaseException) -> BaseException:
    """A cancellation of the models' loop must not look like one of the call."""
    return RuntimeError(STOPPED) if isinstance(error, asyncio.CancelledError) else error


def _tell(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[Any]", act: Callable[[], None]) -> None:
    def tell() -> None:
        if not done.done():
            act()

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)


def _put(loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[Any]", piece: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(pieces.put_nowait, piece)


async def _cancel_all() -> None:
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # one that ends may begin another
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
