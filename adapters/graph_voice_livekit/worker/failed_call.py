"""Telling a caller that the worker can't hold the call."""

import asyncio
import logging
from typing import Any

from livekit.agents import Agent, AgentSession, JobContext
from livekit.agents.types import TOPIC_CHAT
from livekit.agents.voice.events import AgentStateChangedEvent
from livekit.agents.voice.room_io import RoomOptions

__all__ = ["FAILED", "tell_caller"]

logger = logging.getLogger("graph_voice.livekit")

FAILED = "graph_voice.failed"
"""The participant attribute of an agent that can't hold its call: the exception's type. Its text stays in the log."""
SPEAKING = 15.0
"""Seconds within which the apology must begin to be played: who hears it needs no written one."""
LINGERING = 3.0
"""Seconds to stay in the room after a written apology: LiveKit doesn't report when text has arrived, and loses it if
the writer leaves before."""
TELLING = 30.0
"""Seconds for everything: the room, the caller's arrival, the apology."""


async def tell_caller(job: JobContext, error: BaseException, *, apology: str | None, tts: Any) -> None:
    """Join the room and say that there is no call. It raises nothing: handle `error` yourself.

    The attribute `FAILED` is set in any case. The apology is spoken, with LiveKit's own transcription, if there is a
    TTS and it works; otherwise it is written to the chat (topic `lk.chat`).

    Args:
        job: LiveKit's job of the call; it is connected if it is not yet.
        error: why there is no call.
        apology: what is said; None says nothing.
        tts: a LiveKit TTS or its model string; None for none.
    """
    try:
        async with asyncio.timeout(TELLING):
            await job.connect()
            participant = job.room.local_participant
            await participant.set_attributes({FAILED: type(error).__name__})
            if apology is None:
                return
            await job.wait_for_participant()
            if not await _spoken(job, apology, tts):
                await participant.send_text(apology, topic=TOPIC_CHAT)
                await asyncio.sleep(LINGERING)
    except Exception as trouble:
        logger.warning("room %s: the caller could not be told that the call failed: %r", job.room.name, trouble)


async def _spoken(job: JobContext, apology: str, tts: Any) -> bool:
    """Speak the apology. Returns whether any of it was heard."""
    if tts is None:
        return False
    session: AgentSession[Any] = AgentSession(tts=tts, vad=None, turn_handling={"turn_detection": "manual"})
    try:
        async with asyncio.timeout(SPEAKING) as limit:

            def changed(event: AgentStateChangedEvent) -> None:
                if event.new_state == "speaking":
                    limit.reschedule(None)

            session.on("agent_state_changed", changed)
            await session.start(
                Agent(instructions="You say one line."),
                room=job.room,
                room_options=RoomOptions(audio_input=False, text_input=False),
                record=False,
            )
            speech = session.say(apology, allow_interruptions=False)
            await speech.wait_for_playout()
        return any(item.type == "message" and item.text_content for item in speech.chat_items)
    except Exception as trouble:
        logger.warning("room %s: the apology could not be spoken: %r", job.room.name, trouble)
        return False
    finally:
        await session.aclose()
