"""The applications as workers: importable, built without a network; the room sees who has the floor."""

import asyncio
import importlib
import pickle
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.graph import StateGraph
from livekit.agents import AgentServer, AgentSession

from graph_voice import Voice
from graph_voice.launch.loading import load_graph
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS
from graph_voice_livekit.worker.active_agent_attribute import show_active_agent

APPS = ["restaurant", "medical_triage", "drive_thru", "front_desk"]


@pytest.mark.parametrize("app", APPS)
def test_a_worker_is_importable_and_its_server_is_made_without_a_network(
    app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: dict[str, Any] = {}
    init = AgentServer.__init__

    def noted(server: AgentServer, **options: Any) -> None:
        handed.update(options)
        init(server, **options)

    monkeypatch.setattr(AgentServer, "__init__", noted)
    worker = importlib.import_module(f"graphs.{app}.worker")
    assert isinstance(worker.make_server(), AgentServer)
    process = SimpleNamespace(userdata={})
    pickle.loads(pickle.dumps(handed["setup_fnc"]))(process)  # as LiveKit's job process does before a call comes
    prepared = process.userdata["graph_voice"]
    assert prepared.error is None
    assert prepared.graph.builder is load_graph(f"graphs/{app}")


@pytest.mark.parametrize("app", APPS)
def test_the_graph_is_given_uncompiled_for_studio_which_brings_its_own_checkpointer(app: str) -> None:
    assert type(importlib.import_module(f"graphs.{app}.graph").graph).__mro__[1] is StateGraph


class Participant:
    def __init__(self) -> None:
        self.attributes: list[dict[str, str]] = []
        self.fails = 0
        self.asked = asyncio.Semaphore(0)

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.asked.release()
        if self.fails:
            self.fails -= 1
            raise ConnectionError("gone for a moment")
        self.attributes.append(attributes)


@pytest.mark.parametrize("fails", [0, 1])
async def test_the_room_sees_who_has_the_floor(fails: int, caplog: pytest.LogCaptureFixture) -> None:
    participant = Participant()
    participant.fails = fails
    connected = asyncio.Event()
    job: Any = SimpleNamespace(room=SimpleNamespace(local_participant=participant), connect=connected.wait)
    model = ScriptedModel(
        ["Hello.", call("transfer_to_support"), "Patient support.", call("transfer_to_billing"), "Billing."]
    )
    voices = {name: Voice(tts=partial(FakeTTS, name)) for name in ("triage", "support", "billing")}
    agent = GraphAgent(load_graph("graphs/medical_triage"), voices=voices, config={"configurable": {"llm": model}})

    async with AgentSession[Any](vad=None) as session:
        show_active_agent(job, session, "agent")
        await session.start(agent)
        connected.set()
        await participant.asked.acquire()
        await session.run(user_input="I need a refill.")
        await participant.asked.acquire()
        await session.run(user_input="And my bill?")
        await participant.asked.acquire()
    await asyncio.sleep(0)  # a task that is cancelled ends in the next round of the loop
    names = [a["agent"] for a in participant.attributes]
    assert names == ["triage", "support", "billing"][fails:]
    assert names[-1] == agent.conversation.active_agent == "billing"
    assert ("can't be set" in caplog.text) == bool(fails)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "graph_voice.active_agent_attribute"]
