"""Models that are loaded once in a process and shared."""

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["ModelCache"]

_logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class ModelCache(Generic[K, T]):
    """One loaded model per key, however many threads ask for it.

    Args:
        load: Makes the model of a key. Called in the thread that asks first; blocks for seconds.
            When it raises, nothing is kept and the next `get` tries again.
    """

    def __init__(self, load: Callable[[K], T]) -> None:
        self._load = load
        self._models: dict[K, T] = {}
        self._locks: dict[K, threading.Lock] = {}
        self._guard = threading.Lock()

    def peek(self, key: K) -> T | None:
        """The model if it is loaded, else None. Never blocks."""
        return self._models.get(key)

    def get(self, key: K) -> T:
        """The model, which is loaded if need be. That blocks: call it in a thread, or before the event loop runs."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._models:
                self._models[key] = self._load(key)
            return self._models[key]

    def prewarm(self, key: K) -> None:
        """Load the model before it is needed.

        Without a running event loop (the `setup_fnc` of a LiveKit worker) it returns when the model is
        loaded. Inside one, as when LiveKit's session prewarms its plugins, it returns at once and loads in
        a thread: the loop must go on, and the first use waits for the same load.
        """
        if self.peek(key) is not None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.get(key)
        else:
            threading.Thread(target=self._get_or_log, args=(key,), name="graph-voice-prewarm").start()

    def _get_or_log(self, key: K) -> None:
        try:
            self.get(key)
        except Exception as error:
            # Nobody awaits this thread. The first real use meets the same error and raises it.
            _logger.warning("could not load %s ahead of time: %s", key, error)
