"""Threads of graphs in files that the server loads by their paths are there when it has been restarted."""

from pathlib import Path
from typing import Any

import pytest

from tests.studio.studio_server import Studio, langgraph_dev

MY_AGENT = '''
import enum
from dataclasses import dataclass, field

from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, VoiceState, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Address(BaseModel):
    city: str = "Graz"


class Caller(BaseModel):
    name: str | None = None
    mood: Mood = Mood.GOOD
    address: Address = Address()


@dataclass
class Guest:
    name: str | None = None
    addresses: list[Address] = field(default_factory=lambda: [Address()])


class Shop(VoiceState[Guest]):
    mood: Mood


@function_tool
async def record_name(ctx: RunContext, name: str) -> str:
    """Record."""
    ctx.userdata.name = name
    return "Noted."


def answer(messages):
    last = messages[-1]
    if last.type == "human" and last.text.startswith("I am "):
        return call("record_name", {"name": last.text[5:]}, id=f"c{len(messages)}")
    return f"You said {last.text}."


desk = Agent("desk", instructions="Help.", tools=[record_name], handoffs=[Handoff("billing", "Bills.")])
billing = Agent("billing", instructions="Bill.")
one = create_voice_graph([desk, billing], userdata=Caller, llm=ScriptedModel(answer))
two = create_voice_graph([Agent("shop", instructions="Sell.", tools=[record_name])], state_schema=Shop, llm=one_model)
'''.replace("llm=one_model", "llm=ScriptedModel(answer)")
LOADED = """
from graph_voice.studio import studio_graph

by_path = studio_graph({file!r})
"""


def serve(folder: Path) -> Any:
    return langgraph_dev(
        folder,
        {
            "one": f"{folder / 'my_agent.py'}:one",
            "two": f"{folder / 'my_agent.py'}:two",
            "by_path": f"{folder / 'loaded.py'}:by_path",
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("restarted")
    (made / "my_agent.py").write_text(MY_AGENT, encoding="utf-8")
    (made / "loaded.py").write_text(LOADED.format(file=f"{made / 'my_agent.py'}:one"), encoding="utf-8")
    return made


def values(studio: Studio, thread: str) -> dict[str, Any]:
    found: dict[str, Any] = studio.get(f"/threads/{thread}/state")["values"]
    return found


def test_threads_survive_a_restart_and_a_saved_file(folder: Path) -> None:
    threads: dict[str, str] = {}
    with serve(folder) as studio:
        for graph in ("one", "two", "by_path"):
            threads[graph] = studio.thread()
            extra = {"mood": "bad"} if graph == "two" else {"userdata": {"mood": "bad"}}
            input = {"messages": [{"role": "user", "content": "I am Ann"}], **extra}
            assert studio.run(threads[graph], graph, input=input)["userdata"]["name"] == "Ann"
        before = {graph: values(studio, thread) for graph, thread in threads.items()}
    with (folder / "my_agent.py").open("a", encoding="utf-8") as file:
        file.write("\n# saved\n")
    for number in (1, 2):
        with serve(folder) as studio:
            listed = {found["thread_id"]: found for found in studio.post("/threads/search", limit=100)}
            for graph, thread in threads.items():
                assert listed[thread]["values"]["userdata"]["name"] == "Ann"
                if number == 1:
                    assert values(studio, thread) == before[graph]
                said = studio.say(thread, graph, f"number {number}")
                assert said["messages"][-1]["content"] == f"You said number {number}."
                assert said["userdata"]["name"] == "Ann"
                assert len(studio.post(f"/threads/{thread}/history", limit=100)) > 4


def test_the_active_agent_is_a_choice_and_a_wrong_state_is_refused_with_words(folder: Path) -> None:
    with serve(folder) as studio:
        schema = studio.get(f"/assistants/{studio.assistant('one')}/schemas")
        for kind in ("input_schema", "state_schema"):
            assert schema[kind]["properties"]["active_agent"]["enum"] == ["desk", "billing"]
        thread = studio.thread()
        studio.say(thread, "one", "hello")
        for wrong, told in (
            ({"active_agent": "Billing"}, 'did you mean "billing"? The agents are desk, billing.'),
            ({"handoffs": 5}, "write a list of handoffs"),
            ({"contexts": 5}, "write agent -> its `chat_ctx`"),
            ({"messages": 5}, "write messages"),
            ({"userdata": 5}, "a dict of the fields that change"),
        ):
            answer = studio.http.post(f"/threads/{thread}/state", json={"values": wrong})
            assert answer.status_code == 400
            assert told in answer.json()["detail"]
        studio.post(f"/threads/{thread}/state", values={"userdata": {"name": "Bo"}}, as_node="desk_tools")
        assert values(studio, thread)["userdata"]["name"] == "Bo"
        studio.post(f"/threads/{thread}/state", values={"active_agent": "billing"}, as_node="desk")
        said = studio.say(thread, "one", "and now")
        assert (said["active_agent"], said["messages"][-1]["name"]) == ("billing", "billing")
