"""Results that came late, spoken of by the agent itself once the line is quiet. LiveKit's deferred tool replies."""

import asyncio
import logging
from typing import TYPE_CHECKING

from livekit.agents.voice.agent_activity import ActivityClosedError

if TYPE_CHECKING:
    from graph_voice_livekit.session.bridge import Bridge

__all__ = ["Announcer", "wait_quiet"]

logger = logging.getLogger("graph_voice.livekit")


async def wait_quiet(bridge: "Bridge") -> bool:
    """Until nobody speaks, no turn of the caller is about to be answered, and no reply is being made.

    Returns False when the session closes instead. What the caller does before its next `await` happens in that quiet.
    """
    while True:
        try:
            await bridge.session.wait_for_idle()
        except (ActivityClosedError, RuntimeError):
            return False
        # LiveKit calls a session idle while a tool runs: the reply behind it is still to come.
        if (driver := bridge.busy) is None:
            return True
        await driver.over.wait()


class Announcer:
    """Starts the announcements of one call: at most one at a time."""

    def __init__(self, bridge: "Bridge") -> None:
        self._bridge = bridge
        self._task: asyncio.Task[None] | None = None

    def wanted(self) -> None:
        """There is something to announce (`Conversation.on_late_result`)."""
        if self._task is None or self._task.done():
            self._task = self._bridge.background(self._announce())

    async def _announce(self) -> None:
        bridge = self._bridge
        if not await wait_quiet(bridge) or bridge.handoffs.agent not in bridge.agents:
            return  # an agent that is not the graph's has the floor: it is asked again when one of the graph's takes it
        if (turn := bridge.conversation.announce()) is not None:
            logger.debug("a tool's result came late; the agent speaks of it now")
            bridge.speak(bridge.drive(turn))
