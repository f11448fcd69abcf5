"""What an interruption of a turn stops: tasks that may be canceled, and a run of custom nodes."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interruption"]


class Interruption:
    """Whether a turn was interrupted, and what must stop then."""

    def __init__(self) -> None:
        self.happened = False
        self.on_stop: Callable[[], None] | None = None
        """Called when the run must stop."""
        self.on_rejected: Callable[[], None] | None = None
        """Called when a handoff did not happen, so that nothing behind it may run."""
        self._cuttable: list[tuple[asyncio.Task[Any], Callable[[], bool]]] = []
        self._cut: set[asyncio.Task[Any]] = set()
        """Tasks that the interruption has canceled, inside a block that may be cut."""

    def happens(self) -> None:
        """Stop what may be stopped. Only the first interruption counts."""
        if self.happened:
            return
        self.happened = True
        for task, may_be_cut in self._cuttable:
            if may_be_cut():
                self._cut.add(task)
                task.cancel()
        if self.on_stop is not None:
            self.on_stop()

    @contextmanager
    def cuttable(self, may_be_cut: Callable[[], bool], is_discarded: Callable[[], bool]) -> Iterator[None]:
        """Let an interruption cancel the block at its next await. The block then ends without an exception.

        Args:
            may_be_cut: asked at the moment of the interruption.
            is_discarded: whether the whole turn was canceled; then the exception goes on.
        """
        task = asyncio.current_task()
        assert task is not None
        entry = (task, may_be_cut)
        self._cuttable.append(entry)
        if self.happened and may_be_cut():
            self._cut.add(task)
            task.cancel()
        try:
            yield
        except asyncio.CancelledError:
            # The cancellation is the interruption's, unless something else canceled the task as well (a process ends).
            if task not in self._cut or is_discarded() or task.uncancel() > 0:
                raise
        finally:
            self._cut.discard(task)
            self._cuttable.remove(entry)
