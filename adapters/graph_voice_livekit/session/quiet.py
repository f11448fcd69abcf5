"""Waiting until nobody speaks, and announcing late results then: LiveKit's deferred tool replies."""

import asyncio
import logging

from livekit.agents.voice.agent_activity import ActivityClosedError

from graph_voice_livekit.session.call import Call

__all__ = ["Announcer", "wait_quiet"]

logger = logging.getLogger("graph_voice.livekit")


async def wait_quiet(call: Call) -> bool:
    """Wait until nobody speaks, no turn of the caller waits for an answer, and no reply is being made.

    Returns False if the session closes instead. It is still quiet when this returns, until the next `await`.
    """
    while True:
        try:
            await call.session.wait_for_idle()
        except (ActivityClosedError, RuntimeError):
            return False
        # LiveKit takes a session as idle while a tool runs, but the reply to the tool is still to come.
        if (driver := call.busy) is None:
            return True
        await driver.over.wait()


class Announcer:
    """Lets the agent announce late results, one announcement at a time."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._task: asyncio.Task[None] | None = None

    def wanted(self) -> None:
        """A late result has come (`Conversation.on_late_result`)."""
        if self._task is None or self._task.done():
            self._task = self._call.background(self._announce())

    async def _announce(self) -> None:
        call = self._call
        if not await wait_quiet(call) or call.active_agent not in call.agents:
            return  # an external agent is active; an agent of the graph announces it when it becomes active
        if (turn := call.conversation.announce()) is not None:
            logger.debug("a tool's result came late; the agent announces it now")
            call.speak(call.drive(turn))
