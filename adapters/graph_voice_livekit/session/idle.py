"""Nudging a silent caller (`Idle`): LiveKit knows who speaks, the graph what runs and what is said."""

import asyncio
import logging

from graph_voice_livekit.session.call import Call
from graph_voice_livekit.session.quiet import wait_quiet

__all__ = ["Nudger"]

logger = logging.getLogger("graph_voice.livekit")


class Nudger:
    """Lets the active agent speak when its caller has been silent for a while."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The session is there: count from now on."""
        self._call.conversation.call.silence.begin(self._due)
        self.state_changed()

    def state_changed(self) -> None:
        """LiveKit's `agent_state_changed` and `user_state_changed`."""
        session = self._call.session
        calm = session.agent_state in ("listening", "idle") and session.user_state != "speaking"
        self._call.conversation.call.silence.calm(calm)

    def _due(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._call.background(self._nudge())

    async def _nudge(self) -> None:
        call = self._call
        if not await wait_quiet(call) or call.active_agent not in call.agents:
            return
        if (turn := call.conversation.nudge()) is not None:
            logger.debug("the caller is silent; the agent speaks")
            call.speak(call.drive(turn))
