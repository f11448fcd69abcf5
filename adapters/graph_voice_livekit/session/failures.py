"""Turns that have failed: LiveKit is told, and the session ends when too many fail in a row."""

from collections.abc import Callable

from livekit.agents import AgentSession

from graph_voice_livekit.session.driver import Driver

__all__ = ["Failures"]


class Failures:
    """Counts the turns of one call that have failed since one was answered.

    LiveKit ends a session whose model stays dead: after `max_unrecoverable_errors` errors in a row, it closes with
    `CloseReason.ERROR`. It counts anew when the agent speaks, and an apology is speech. So the turns are counted here.
    """

    def __init__(self) -> None:
        self._in_a_row = 0
        self._failed: set[Driver] = set()
        self._spoke: set[Driver] = set()

    def report(self, driver: Driver, session: AgentSession[object], emit: Callable[[], None]) -> None:
        """This turn has failed. `emit` tells LiveKit, by its `error` event: the last one of too many closes it."""
        if driver not in self._failed:
            self._failed.add(driver)
            self._in_a_row += 1
        options = session.conn_options
        allowed = options.max_unrecoverable_errors
        if self._in_a_row > allowed:
            options.max_unrecoverable_errors = 0  # LiveKit decides while the event is emitted
        try:
            emit()
        finally:
            options.max_unrecoverable_errors = allowed

    def spoke(self, driver: Driver) -> None:
        """Words of this turn were played."""
        self._spoke.add(driver)

    def over(self, driver: Driver) -> None:
        """This turn is over."""
        if driver in self._spoke and driver not in self._failed:
            self._in_a_row = 0
        self._failed.discard(driver)
        self._spoke.discard(driver)
