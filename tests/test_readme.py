"""Every snippet of the README runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from livekit.agents import AgentSession

from graph_voice import Conversation
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def no_key_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-used")


async def test_the_first_snippet_makes_a_graph_that_hands_off_and_greets_by_name(no_key_needed: None) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(SNIPPETS[0], str(README), "exec"), names)
    model = ScriptedModel(
        {"intake": [say(call("record_name", {"name": "Ann"}))], "billing": [say("Hello Ann, this is billing.")]}
    )
    conversation: Conversation[Any] = Conversation(names["graph"], config={"configurable": {"llm": model}})
    await conversation.run("I'm Ann")
    assert conversation.active_agent == "billing"
    assert conversation.userdata.name == "Ann"
    assert conversation.messages[-1].text == "Hello Ann, this is billing."
    assert "Greet Ann by name." in model.prompts[-1].messages[-1].text
    assert not model.errors
    assert len(SNIPPETS[0].strip().splitlines()) - SNIPPETS[0].strip().splitlines().count("") <= 20


async def test_the_second_snippet_makes_an_existing_graph_speak() -> None:
    model = ScriptedModel([say("I am the graph.")])
    names: dict[str, Any] = {"your_graph": create_agent(model, name="yours")}
    exec(SNIPPETS[1].replace('"agent"', '"model"'), names)
    agent = names["agent"]
    assert isinstance(agent, GraphAgent)
    async with AgentSession(vad=None, turn_handling={"turn_detection": "manual"}) as session:
        await session.start(agent=agent)
        result = await session.run(user_input="Who are you?")
        result.expect.next_event().is_message(role="assistant")
        result.expect.no_more_events()
    assert [m.text for m in agent.conversation.messages] == ["Who are you?", "I am the graph."]


def test_the_worker_is_ready_but_for_a_server(tmp_path: Path) -> None:
    (snippet,) = (s for s in SNIPPETS if s.startswith("# my_agent.py"))
    (tmp_path / "my_agent.py").write_text(snippet, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LIVEKIT_")} | {"OPENAI_API_KEY": "not-used"}
    told = subprocess.run(
        [sys.executable, "my_agent.py", "start"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    # Everything else is checked before: the graph is made, and what job processes need can be handed to them.
    assert "set LIVEKIT_URL environment variable" in told.stdout + told.stderr
    assert "Traceback" not in told.stderr
