"""A worker's module, as a user writes it: what its job processes load by name."""

from typing import Any

from livekit.agents import JobContext

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel
from graph_voice_livekit.testing import FakeTTS

graph = create_voice_graph([Agent("host", instructions="You are the host.")], llm=ScriptedModel(["Hello there."]))


def make_tts() -> Any:
    return FakeTTS("host")


def describe_call(job: JobContext) -> dict[str, Any]:
    return {"thread_id": f"thread of {job.room.name or 'nobody'}", "config": {"tags": ["worker"]}}
