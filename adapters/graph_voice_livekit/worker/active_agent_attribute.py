"""Who has the floor, as an attribute of the worker in the room."""

import asyncio
import logging
from typing import Any

from livekit.agents import AgentSession, JobContext
from livekit.agents.voice.events import ConversationItemAddedEvent

__all__ = ["show_active_agent"]

logger = logging.getLogger("graph_voice.livekit")


def show_active_agent(job: JobContext, session: AgentSession[Any], attribute: str) -> None:
    """Let this attribute name the agent that has the floor, from its first word to the end of the call."""
    changed = asyncio.Event()
    floor = ""

    def added(event: ConversationItemAddedEvent) -> None:
        nonlocal floor
        if event.item.type == "agent_handoff":
            floor = event.item.new_agent_id
            changed.set()

    async def publish() -> None:
        await job.connect()
        while True:
            await changed.wait()
            changed.clear()
            try:
                await job.room.local_participant.set_attributes({attribute: floor})
            except Exception:  # nobody in the room needs it to talk
                logger.exception("the attribute %s can't be set to %s", attribute, floor)

    publishing = asyncio.create_task(publish(), name="graph_voice.active_agent_attribute")
    session.on("conversation_item_added", added)
    session.on("close", lambda event: publishing.cancel())
