"""The active agent's name as an attribute of the worker in the room."""

import asyncio
import logging
from typing import Any

from livekit.agents import AgentSession, JobContext
from livekit.agents.voice.events import ConversationItemAddedEvent

__all__ = ["show_active_agent"]

logger = logging.getLogger("graph_voice.livekit")


def show_active_agent(job: JobContext, session: AgentSession[Any], attribute: str) -> None:
    """Keep this attribute at the name of the active agent, until the call ends."""
    changed = asyncio.Event()
    active_agent = ""

    def added(event: ConversationItemAddedEvent) -> None:
        nonlocal active_agent
        if event.item.type == "agent_handoff":
            active_agent = event.item.new_agent_id
            changed.set()

    async def publish() -> None:
        await job.connect()
        while True:
            await changed.wait()
            changed.clear()
            try:
                await job.room.local_participant.set_attributes({attribute: active_agent})
            except Exception:  # the call works without it
                logger.exception("the attribute %s can't be set to %s", attribute, active_agent)

    publishing = asyncio.create_task(publish(), name="graph_voice.active_agent_attribute")
    session.on("conversation_item_added", added)
    session.on("close", lambda event: publishing.cancel())
