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

    def happens(self) -> None:
        """Stop what may be stopped. Only the first interruption counts."""
        if self.happened:
            return
        self.happened = True
        for task, may_be_cut in self._cuttable:
            if may_be_cut():
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
            task.cancel()
        try:
            yield
        except asyncio.CancelledError:
            # An interruption comes while this task is suspended inside the block. So a cancellation that arrives after
            # it is the interruption's, unless something else canceled the task as well.
            if not self.happened or is_discarded() or task.uncancel() > 0:
                raise
        finally:
            self._cuttable.remove(entry)
