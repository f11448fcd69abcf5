"""Custom data of one turn (`get_stream_writer()`), held until it is certain that what wrote it has happened."""

from collections.abc import Callable

from graph_voice.events import Custom
from graph_voice.turn.handoff import HandoffInProgress, Handoffs

__all__ = ["HeldData"]


class HeldData:
    """What was written in a turn that is not committed, or behind a handoff that is not decided.

    Args:
        happened: returns whether the turn really happened.
        handoffs: those of the turn.
        emit: passes an event on.
    """

    def __init__(self, happened: Callable[[], bool], handoffs: Handoffs, emit: Callable[[Custom], None]) -> None:
        self._happened = happened
        self._handoffs = handoffs
        self._emit = emit
        self._held: list[tuple[list[HandoffInProgress], Custom]] = []

    def put(self, event: Custom) -> None:
        """This was written now. A tool has its permission, so all that was before it has happened."""
        behind = [] if event.tool is not None else [h for h in self._handoffs if not h.happened]
        if event.key is not None:
            # Not one that another handoff decides about: it may be the one that happens.
            self._held = [(h, e) for h, e in self._held if e.key != event.key or h != behind]
        self._held.append((behind, event))
        self.release()

    def release(self) -> None:
        """Pass on what has become certain, and drop what did not happen: something was decided."""
        if not self._happened():
            return
        held, self._held = self._held, []
        for behind, event in held:
            if all(handoff.happened for handoff in behind):
                self._emit(event)
            elif all(handoff.happened is not False for handoff in behind):
                self._held.append((behind, event))

    def drop(self) -> None:
        """The turn did not happen."""
        self._held.clear()
