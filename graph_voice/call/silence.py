"""The caller's silence: how long nobody speaks and nothing runs, and when the agent nudges (`Idle`)."""

import asyncio
from collections.abc import Callable

from graph_voice.agents.idle import Idle
from graph_voice.call.live_state import LiveState
from graph_voice.turn.run import TurnRun

__all__ = ["Silence"]


class Silence:
    """Counts the silence of one call, and asks the front end to nudge.

    The call knows of its turns: while one is being made or spoken, or its tools run, nobody is silent. The front end
    knows of the rest, and reports it by `calm`: whether the caller speaks, and whether a line of the program is played.

    Args:
        live: the turns of the call.
        idle: returns when to nudge, for the agent that is active now; None: never.
    """

    def __init__(self, live: LiveState, idle: Callable[[], Idle | None]) -> None:
        self._live = live
        self._idle = idle
        self._on_due: Callable[[], None] | None = None
        self._calm = True
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._nudges = 0
        """How many there were since the caller has spoken."""
        self._answered: str | None = None
        """The last turn in which the caller has spoken."""

    def begin(self, on_due: Callable[[], None]) -> None:
        """Count from now on. `on_due` is called when a nudge is due: `Conversation.nudge()` makes it."""
        self._on_due = on_due
        self.changed()

    def end(self) -> None:
        """The call is over."""
        self._on_due = None
        self._stop()

    def calm(self, calm: bool) -> None:
        """Whether neither the caller nor the program speaks, as far as the front end knows."""
        self._calm = calm
        self.changed()

    def changed(self) -> None:
        """A turn has changed, or what the front end reports."""
        if self._on_due is None:
            return
        if not self._calm or any(turn.state.happened and not turn.settled for turn in self._live.turns):
            self._stop()
        elif self._timer is None and not self._due:
            self._start()

    def take_due(self) -> Idle | None:
        """What to nudge with, if it is still time to: the caller may have begun to speak since. It counts as done."""
        idle = self._idle() if self._due else None
        if idle is not None:
            self._nudges += 1
        self._due = False
        return idle

    def _start(self) -> None:
        last = next((turn for turn in reversed(self._live.turns) if _caller_spoke(turn)), None)
        if last is not None and last.id != self._answered:
            self._answered, self._nudges = last.id, 0
        idle = self._idle()
        seconds = idle.seconds(self._nudges) if idle is not None else None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _stop(self) -> None:
        self._due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer, self._due = None, True
        if self._on_due is not None:
            self._on_due()


def _caller_spoke(turn: TurnRun) -> bool:
    return turn.state.happened and turn.record.user is not None
