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
from graph_voice.cli import main
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GRAPH_VOICE_LLM"):
        monkeypatch.delenv(name, raising=False)


async def test_the_first_snippet_makes_a_graph_that_hands_off_and_greets_by_name() -> None:
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


EXAMPLES = """
slots: {name: name}
agents:
  intake:
    enter: ["Hello. What is your name?"]
    intents:
      - {name: gives_name, patterns: ["I'm {name}"], tool: record_name, args: {name: "{name}"}}
    after: {record_name: ["{output}"]}
    fallback: ["What is your name?"]
  billing:
    enter: [Welcome to billing.]
    fallback: [I can help with bills.]
"""


def test_without_a_key_the_first_snippet_can_be_drawn_checked_and_chatted_with_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "readme_agent.py"
    # A model that no other test of this process has made while it had a key.
    file.write_text(SNIPPETS[0].replace("openai:gpt-4.1-mini", "openai:gpt-readme"), encoding="utf-8")
    file.with_suffix(".examples.yaml").write_text(EXAMPLES, encoding="utf-8")
    assert main(["draw", str(file), "--format", "mermaid"]) == 0
    assert "billing" in capsys.readouterr().out
    assert main(["check", str(file)]) == 0
    assert "OPENAI_API_KEY" in capsys.readouterr().out
    (tmp_path / "typed").write_text("I'm Ann\n/state\n")
    with (tmp_path / "typed").open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        assert main(["chat", str(file), "--llm", "offline"]) == 0
        said = capsys.readouterr().out
        assert main(["chat", str(file)]) == 1  # its own model has no key
    assert "Welcome to billing." in said
    assert '"name": "Ann"' in said
    told = capsys.readouterr().err
    assert "OPENAI_API_KEY" in told
    assert "--llm offline" in told


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


@pytest.mark.parametrize("number", [0, 2])
def test_without_a_key_the_file_of_a_snippet_tells_how_to_use_it(number: int, tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(SNIPPETS[number], encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "my_agent.py", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert ("console" in told.stdout) == ("cli.run_app" in SNIPPETS[number])


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
