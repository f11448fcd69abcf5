"""The front desk as a LiveKit worker: `python -m graphs.front_desk.worker dev`."""

import os
from pathlib import Path
from typing import Any

from livekit.agents import AgentServer, JobContext, cli

from graph_voice_livekit import create_server

from .appointments import Calendar
from .cal_com import CalComCalendar
from .fake_calendar import FakeCalendar

__all__ = ["describe_call", "make_server"]

GRAPH = str(Path(__file__).with_name("graph.py"))


async def describe_call(job: JobContext) -> dict[str, Any]:
    """A call in the room's name, with a calendar: cal.com's if there is a `CAL_COM_API_KEY`, else a made-up one."""
    key = os.environ.get("CAL_COM_API_KEY")
    calendar: Calendar = CalComCalendar(key) if key else FakeCalendar(seed=1)
    await calendar.initialize()
    return {"thread_id": job.room.name, "context": calendar}


def make_server() -> AgentServer:
    """A server that answers each job with a call of its own."""
    return create_server(
        GRAPH,
        stt="deepgram/nova-3",
        tts="inworld/inworld-tts-1:Ashley",
        call=describe_call,
        agent_name="front_desk",
    )


if __name__ == "__main__":
    cli.run_app(make_server())
