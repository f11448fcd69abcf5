"""Custom data (`get_stream_writer()`) as text streams to the participants of a room."""

import asyncio
import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents import JobContext

from graph_voice import events

__all__ = ["OnCustom", "both", "send_custom"]

logger = logging.getLogger("graph_voice.livekit")
OnCustom = Callable[[events.Custom], Any]


def send_custom(job: JobContext, topic: str) -> OnCustom:
    """Send custom data to the room: LiveKit's text streams, with the data as JSON, and who wrote it as attributes.

    Whoever joins the room later gets the latest data of each key.
    """
    latest: dict[str, events.Custom] = {}
    one_by_one = asyncio.Lock()
    welcoming: set[asyncio.Task[None]] = set()

    async def write(event: events.Custom, to: list[str] | None = None) -> None:
        named = {"agent": event.agent, "node": event.node, "tool": event.tool, "key": event.key}
        await job.room.local_participant.send_text(
            json.dumps(event.data, default=str, ensure_ascii=False),
            topic=topic,
            attributes={name: value for name, value in named.items() if value},
            destination_identities=to,
        )

    async def send(event: events.Custom) -> None:
        if event.key is not None:
            latest[event.key] = event
        await job.connect()
        async with one_by_one:
            await write(event)

    async def welcome(identity: str) -> None:
        async with one_by_one:
            for event in list(latest.values()):
                try:
                    await write(event, [identity])
                except Exception:  # the call works without it
                    logger.exception("%s did not get the custom data of %s", identity, event.key)

    def joined(participant: rtc.RemoteParticipant) -> None:
        if latest:
            welcoming.add(task := asyncio.create_task(welcome(participant.identity), name="graph_voice.custom_topic"))
            task.add_done_callback(welcoming.discard)

    job.room.on("participant_connected", joined)
    return send


def both(first: OnCustom | None, second: OnCustom | None) -> OnCustom | None:
    """A function that calls both; if the first one fails, that is logged, and the second one is called."""
    if first is None or second is None:
        return first or second

    async def call(event: events.Custom) -> None:
        for function in (first, second):
            try:
                made = function(event)
                if inspect.isawaitable(made):
                    await made
            except Exception:
                logger.exception("on_custom failed: %r is not delivered", event)

    return call
