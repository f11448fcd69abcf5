"""Which nodes of a graph could speak is known from their code; the commands use it, programs have to say it."""

import functools
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel
from typing_extensions import TypedDict

from graph_voice import Agent, Conversation, create_voice_graph
from graph_voice.checks import Severity, check_graph
from graph_voice.cli import main
from graph_voice.errors import BuildError
from graph_voice.graph.speakers import could_speak, speakers_of
from graph_voice.launch.model_choice import choose_model
from graph_voice.testing import ScriptedModel

MODEL = ScriptedModel([])


class Route(BaseModel):
    """Where to."""

    to: str


class Structured(ScriptedModel):
    def with_structured_output(self, schema: Any, **_: Any) -> Any:  # type: ignore[override]
        return self | RunnableLambda(lambda message: schema(to=message.text))


ROUTER = Structured([]).with_structured_output(Route)


def weather(city: str) -> str:
    """Look up the weather."""
    return city


async def by_global(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await MODEL.ainvoke(state["messages"])]}


async def by_helper(state: MessagesState) -> dict[str, Any]:
    return await by_global(state)


async def makes_one(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await init_chat_model("openai:x").ainvoke(state["messages"])]}


async def given(model: Any, state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


class Node:
    def __init__(self, model: Any) -> None:
        self.model = model

    async def __call__(self, state: MessagesState) -> dict[str, Any]:
        return {"messages": [await self.model.ainvoke(state["messages"])]}

    async def answer(self, state: MessagesState) -> dict[str, Any]:
        return await self(state)


async def routes(state: MessagesState) -> dict[str, Any]:
    await ROUTER.ainvoke(state["messages"])
    return {}


async def routes_in_place(state: MessagesState) -> dict[str, Any]:
    await MODEL.with_structured_output(Route).ainvoke(state["messages"])
    return {}


async def fixed(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("Hello.")]}


def chain(**nodes: Any) -> Any:
    builder = StateGraph(MessagesState)
    for name, node in nodes.items():
        builder.add_node(name, node)
    return builder.add_edge(START, next(iter(nodes))).compile()


@pytest.mark.parametrize(
    "node",
    [
        by_global,
        by_helper,
        makes_one,
        functools.partial(given, MODEL),
        Node(MODEL),
        Node(MODEL).answer,
        create_agent(MODEL, [weather]),
        MODEL,
    ],
    ids=["global", "helper", "maker", "partial", "object", "method", "subgraph", "model"],
)
def test_a_node_that_reaches_a_model_could_speak(node: Any) -> None:
    assert could_speak(chain(node=node)) == ["node"]


@pytest.mark.parametrize(
    "node", [routes, routes_in_place, fixed, ToolNode([weather])], ids=["chain", "in_place", "fixed", "tools"]
)
def test_a_node_without_a_model_or_with_structured_output_could_not(node: Any) -> None:
    assert could_speak(chain(node=node)) == []


def test_the_model_of_a_create_agent_graph_could_speak_and_its_tools_could_not() -> None:
    assert could_speak(create_agent(MODEL, [weather])) == ["model"]


def test_the_commands_take_the_only_one_and_ask_when_there_are_several() -> None:
    agent = create_agent(MODEL, [weather])
    assert speakers_of(agent, []) == ["model"]
    assert speakers_of(agent, ["tools"]) == ["tools"]  # whether that can be is for the call to say
    with pytest.raises(BuildError, match=r"Several nodes .*: one, two.* --speak one or --speak two"):
        speakers_of(chain(one=by_global, route=routes, two=by_helper), [])
    with pytest.raises(BuildError, match=r"no node is known to call a model.* --speak NODE\. The nodes are a, b"):
        speakers_of(chain(a=fixed, b=routes), [])
    assert speakers_of(create_voice_graph([Agent("a", instructions="A")], llm=MODEL), []) == []


def test_a_program_has_to_say_it_and_is_told_what_to_write() -> None:
    with pytest.raises(BuildError, match=r"this node calls a model, speak=\['model'\]. Its nodes are model, tools"):
        Conversation(create_agent(MODEL, [weather]))


@pytest.mark.parametrize(
    ("speak", "told"),
    [
        (["tools"], r"speak=\['tools'\]: this node runs tools"),
        (["nobody"], r"speak=\['nobody'\]: the graph's nodes are model, tools. Name those that do"),
        ("model", r'speak="model" is one string: write a list, speak=\["model"\]'),
    ],
)
def test_a_speaker_that_can_not_be_one_is_refused(speak: Any, told: str) -> None:
    with pytest.raises(BuildError, match=told):
        Conversation(create_agent(MODEL, [weather]), speak=speak)


def test_a_node_inside_a_subgraph_is_named_by_the_subgraph() -> None:
    with pytest.raises(BuildError, match=r'inside the subgraph "expert". Write speak=\["expert"\]'):
        Conversation(chain(expert=create_agent(MODEL, [weather])), speak=["model"])


def test_a_graph_whose_conversation_is_in_another_key_is_refused_with_its_keys() -> None:
    State = TypedDict("State", {"chat": list, "note": str})  # noqa: UP013  # a class would be looked up by name
    builder = StateGraph(State).add_node("n", lambda state: {}).add_edge(START, "n")
    with pytest.raises(BuildError, match=r"no `messages` channel.* Its keys are: chat, note\."):
        Conversation(builder.compile(), speak=["n"])


def test_the_models_of_a_graph_that_is_not_ours_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPH_VOICE_LLM", "openai:gpt-4.1-mini")
    assert choose_model(create_agent(MODEL), "graph.py").model is None


def test_the_check_says_who_would_speak() -> None:
    found = check_graph(create_agent(MODEL, [weather]))
    assert [f.severity for f in found] == [Severity.INFO, Severity.INFO]
    assert 'Its node "model" is the only one' in found[0].problem
    (several, *_) = check_graph(chain(one=by_global, two=by_global))
    assert (several.severity, "Several nodes" in several.problem) == (Severity.WARNING, True)
    (wrong, *_) = check_graph(create_agent(MODEL), speak=["x"])
    assert (wrong.severity, "the graph's nodes are model" in wrong.problem) == (Severity.ERROR, True)


FILE = """
from langchain.agents import create_agent
from langgraph.graph import START, MessagesState, StateGraph
from graph_voice.testing import ScriptedModel, call, say

def weather(city: str) -> str:
    "Look up the weather."
    return "secret"

model = ScriptedModel([say("Let me see. ", call("weather", {"city": "Oslo"})), "It is sunny."])
graph = create_agent(model, [weather], system_prompt="You tell the weather.")

async def one(state):
    return {"messages": [await model.ainvoke(state["messages"])]}

both = StateGraph(MessagesState).add_sequence([("one", one), ("two", one)]).add_edge(START, "one").compile()
"""


@pytest.fixture
def graph(tmp_path: Path) -> str:
    (tmp_path / "my_graph.py").write_text(FILE)
    return str(tmp_path / "my_graph.py")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "lines").write_text("how is the weather\n")
    with (tmp_path / "lines").open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        yield


@pytest.mark.usefixtures("typed")
def test_chat_lets_the_only_candidate_speak(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", graph]) == 0
    out = capsys.readouterr().out
    assert "It is sunny." in out
    assert "weather = secret" in out  # shown, as any tool's result
    assert not [line for line in out.splitlines() if line.startswith("model:") and "secret" in line]


@pytest.mark.usefixtures("typed")
@pytest.mark.parametrize("command", ["chat", "talk", "demo"])
def test_the_commands_ask_when_it_can_not_be_told(
    graph: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "caller.wav"
    _silence(recording)
    options = {"chat": [], "talk": ["--input", str(recording)], "demo": ["--say", "hello"]}[command]
    assert main([command, f"{graph}:both", *options]) == 1
    assert "--speak one or --speak two" in capsys.readouterr().err


def _silence(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000))


def test_check_takes_the_option_too(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{graph}:both", "--speak", "two"]) == 0
    assert "Several" not in capsys.readouterr().out
    assert main(["check", f"{graph}:both", "--speak", "three"]) == 1
