"""LiveKit's "away", held back while a tool of the graph runs behind a barge-in."""

import asyncio

from graph_voice.turn.run import TurnRun
from graph_voice_livekit.session.call import Call

__all__ = ["AwayHold"]


class AwayHold:
    """Lets no caller count as away who waits for a tool.

    LiveKit holds `user_away_timeout` back while it runs a tool. After a barge-in it runs none: the mirror was released,
    so that the caller is answered, and the tool goes on in the graph.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._holding: asyncio.Task[None] | None = None

    def state_changed(self, event: object) -> None:
        """LiveKit's `agent_state_changed` and `user_state_changed`: it may have begun to count."""
        del event
        idle = self._holding is None or self._holding.done()
        if idle and self._call.session.options.user_away_timeout is not None and self._working():
            self._holding = self._call.background(self._hold())

    def _working(self) -> list[TurnRun]:
        """The turns whose tools still run although the caller has interrupted."""
        live = self._call.conversation.call.state.live.turns
        return [turn for turn in live if turn.interrupted and turn.runs_tools]

    async def _hold(self) -> None:
        session = self._call.session
        while working := self._working():
            self._restart()
            ends = [asyncio.ensure_future(turn.wait_finished()) for turn in working]
            timeout = session.options.user_away_timeout
            try:
                await asyncio.wait(ends, timeout=timeout and timeout / 2, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        self._restart()  # the caller's silence begins now

    def _restart(self) -> None:
        if self._call.session.user_state == "listening":
            self._call.session.reset_away_timer()
