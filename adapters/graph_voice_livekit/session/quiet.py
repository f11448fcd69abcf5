"""Results that came late, spoken of by the agent itself once the line is quiet. LiveKit's deferred tool replies."""

import asyncio
import logging

from livekit.agents.voice.agent_activity import ActivityClosedError

from graph_voice_livekit.session.call import Call

__all__ = ["Announcer", "wait_quiet"]

logger = logging.getLogger("graph_voice.livekit")


async def wait_quiet(call: Call) -> bool:
    """Until nobody speaks, no turn of the caller is about to be answered, and no reply is being made.

    Returns False when the session closes instead. What the caller does before its next `await` happens in that quiet.
    """
    while True:
        try:
            await call.session.wait_for_idle()
        except (ActivityClosedError, RuntimeError):
            return False
        # LiveKit calls a session idle while a tool runs: the reply behind it is still to come.
        if (driver := call.busy) is None:
            return True
        await driver.over.wait()


class Announcer:
    """Starts the announcements of one call: at most one at a time."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._task: asyncio.Task[None] | None = None

    def wanted(self) -> None:
        """There is something to announce (`Conversation.on_late_result`)."""
        if self._task is None or self._task.done():
            self._task = self._call.background(self._announce())

    async def _announce(self) -> None:
        call = self._call
        if not await wait_quiet(call) or call.active_agent not in call.agents:
            return  # an agent that is not the graph's has the floor: it is asked again when one of the graph's takes it
        if (turn := call.conversation.announce()) is not None:
            logger.debug("a tool's result came late; the agent speaks of it now")
            call.speak(call.drive(turn))
