"""docs/any-graph.md: its graphs speak, by voice and in text, and its numbers are measured."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deepagents import create_deep_agent
from graph_agent_support import a_call, a_text_call, spoken, told_by_graph
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from graph_voice import Agent, Conversation, create_voice_graph, events
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock

PAGE = (Path(__file__).parents[3] / "docs" / "any-graph.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LAX = ("later_system", "opens_with_assistant", "ends_with_assistant")
"""What the packages below send that only some providers take."""


def graph(name: str, model: Any) -> dict[str, Any]:
    """The names of the snippet that makes this graph; `model` is what the page calls so."""
    names: dict[str, Any] = {"model": model}
    for code in SNIPPETS:
        exec(compile(code, "docs/any-graph.md", "exec"), names)
        if name in names:
            return names
    raise AssertionError(f"no snippet makes {name}")


class Routing(ScriptedModel):
    """A scripted model whose structured output is what its JSON says."""

    def with_structured_output(self, schema: Any, **_: Any) -> Any:  # type: ignore[override]
        return self | (lambda message: schema.model_validate_json(message.text))


async def heard(ga: Callable[[], GraphAgent], *texts: str) -> str:
    """What the caller hears, by voice; in text the words are the same."""
    async with a_call(ga()) as rig:
        for text in texts:
            await rig.user_says(text, at=rig.now + 0.5)
            await rig.until_idle()
        by_voice = " ".join(text for _, text in spoken(rig))
    written = ga()
    async with a_text_call(written) as session:
        for text in texts:
            await session.run(user_input=text)
    assert " ".join(text for role, text in told_by_graph(written) if role == "assistant") == by_voice
    return by_voice


async def test_the_agent_with_tools() -> None:
    def ga() -> GraphAgent:
        model = ScriptedModel([say("Let me see.", call("weather", {"city": "Oslo"})), "It is sunny."])
        return GraphAgent(graph("forecaster", model)["forecaster"], speak=["model"])

    assert await heard(ga, "how is the weather") == "Let me see. It is sunny."


async def test_the_router_with_structured_output() -> None:
    def script(messages: list[BaseMessage]) -> Any:
        if isinstance(messages[0], SystemMessage):
            return f"This is {messages[0].text.removeprefix('You are ')}"
        return '{"to": "billing"}' if "bill" in messages[-1].text else '{"to": "support"}'

    made: list[GraphAgent] = []

    def ga() -> GraphAgent:
        made.append(GraphAgent(graph("desk", Routing(script))["desk"], speak=["billing", "support"]))
        return made[-1]

    assert await heard(ga, "my bill", "it is broken") == "This is billing. This is support."
    assert made[0].conversation.state["to"] == "support"


async def test_the_question() -> None:
    def ga() -> GraphAgent:
        return GraphAgent(graph("travel", None)["travel"], speak=["book"])

    assert await heard(ga, "book a flight", "Oslo") == (
        "Which city do you want to fly to? Your flight to Oslo is booked."
    )


async def test_the_subgraph_with_a_silent_node() -> None:
    def ga() -> GraphAgent:
        return GraphAgent(graph("expert", ScriptedModel(["First this, then that.", "Hello there."]))["expert"])

    assert await heard(ga, "hello") == "Hello there."


async def test_the_context_and_the_graphs_own_store() -> None:
    names = graph("shop", None)

    def ga() -> GraphAgent:
        return GraphAgent(names["shop"], speak=["greet"], context=names["Shop"]("Graz"))

    assert await heard(ga, "hello") == "Welcome to the shop in Graz."
    await names["shop"].store.aput(("callers",), "ada", {})
    assert await heard(ga, "hello") == "Welcome back to the shop in Graz."


async def test_the_first_snippet_is_how_a_session_is_started() -> None:
    (code,) = re.findall(r"^```python skip\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    started: list[GraphAgent] = []

    class Session:
        async def start(self, agent: GraphAgent) -> None:
            started.append(agent)

    names = {"graph": create_agent(ScriptedModel([])), "session": Session()}
    await eval(compile(code, "docs/any-graph.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert started[0].conversation.call.roles.custom_speakers == {"model"}


# ---- numbers

REPLY = "Here is the answer that you asked for. It is longer than one sentence, so it takes a while to write."


def _model() -> ScriptedModel:
    return ScriptedModel(lambda messages: REPLY, first_token=0.4, per_token=0.05)


def named() -> GraphAgent:
    return GraphAgent(create_agent(_model(), system_prompt="Answer."), speak=["model"])


def declared() -> GraphAgent:
    builder = StateGraph(MessagesState)
    agent = create_agent(_model(), system_prompt="Answer.")
    builder.add_node("agent", agent, metadata={"speak": True, "speculative": True})
    return GraphAgent(builder.add_edge(START, "agent").compile())


def ours() -> GraphAgent:
    return GraphAgent(create_voice_graph([Agent("agent", instructions="Answer.")], llm=_model()))


def whole() -> GraphAgent:
    model = _model()

    async def agent(state: MessagesState) -> dict[str, Any]:
        made = await model.with_config(tags=["nostream"]).ainvoke(state["messages"])
        return {"messages": [AIMessage(made.text)]}

    return GraphAgent(StateGraph(MessagesState).add_node(agent).add_edge(START, "agent").compile(), speak=["agent"])


@pytest.mark.parametrize(
    ("row", "make"),
    [
        ("`create_agent`, named by `speak`", named),
        ("the same, declared `speculative`", declared),
        ("the same agent made by `create_voice_graph`", ours),
        ("a node that returns its words at its end", whole),
    ],
    ids=["named", "declared", "ours", "whole"],
)
async def test_the_cost_of_beginning_at_commit(row: str, make: Callable[[], GraphAgent]) -> None:
    async with a_call(make()) as rig:
        await rig.user_says("hello there", at=0.5)
        ended = rig.now
        await rig.until_idle()
        assert f"| {row} | {rig.spoken[0].started - ended:.2f} |" in PAGE


# ---- graphs of other packages


def weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}"


def asked(messages: list[BaseMessage]) -> str:
    return [m.text for m in messages if isinstance(m, HumanMessage)][-1]


def team(messages: list[BaseMessage]) -> Any:
    """Alice hands over to Bob, who knows the weather; the supervisor asks him."""
    role, last = messages[0].text, messages[-1]
    if "Alice" in role:
        return say("Bob knows.", call("transfer_to_bob")) if "weather" in asked(messages) else "Alice here."
    if "Bob" in role:
        if isinstance(last, ToolMessage) and last.name == "weather":
            return "It is sunny."
        return say("Let me look.", call("weather", {"city": "Oslo"})) if "weather" in asked(messages) else "Bob here."
    return say("I ask Bob.", call("transfer_to_bob")) if isinstance(last, HumanMessage) else "Bob says sunny."


async def words(graph: Any, speak: list[str], *texts: str) -> list[str]:
    conversation: Conversation[Any] = Conversation(graph, speak=speak)
    found = []
    for text in texts:
        seen = await conversation.run(text)
        assert not [event for event in seen if isinstance(event, events.Failed)]
        found.append("".join(e.text for e in seen if isinstance(e, events.Text)))
    return found


async def test_a_swarm() -> None:
    model = ScriptedModel(team, allow=LAX)
    alice = create_agent(model, [create_handoff_tool(agent_name="bob")], system_prompt="You are Alice.", name="alice")
    bob = create_agent(model, [weather], system_prompt="You are Bob.", name="bob")
    swarm = create_swarm([alice, bob], default_active_agent="alice").compile()
    said = await words(swarm, ["alice", "bob"], "hello", "the weather", "thanks")
    assert said == ["Alice here.", "Bob knows.Let me look.It is sunny.", "Bob here."]


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")  # langgraph-supervisor 0.0.31 uses it
@pytest.mark.parametrize("output_mode", ["full_history", "last_message"])
async def test_a_supervisor(output_mode: Any) -> None:
    model = ScriptedModel(team, allow=LAX)
    bob = create_agent(model, [weather], system_prompt="You are Bob.", name="bob")
    workflow = create_supervisor([bob], model=model, prompt="You are the supervisor.", output_mode=output_mode)
    assert await words(workflow.compile(), ["supervisor"], "the weather") == ["I ask Bob.Bob says sunny."]
    said = await words(workflow.compile(), ["supervisor", "bob"], "the weather")
    assert said == ["I ask Bob.Let me look.It is sunny.Transferring back to supervisorBob says sunny."]
    quiet = create_supervisor(
        [bob], model=model, prompt="You are the supervisor.", output_mode=output_mode, add_handoff_back_messages=False
    )
    said = await words(quiet.compile(), ["supervisor", "bob"], "the weather")
    assert said == ["I ask Bob.Let me look.It is sunny.Bob says sunny."]


async def test_a_deep_agent() -> None:
    def script(messages: list[BaseMessage]) -> Any:
        return (
            "It is sunny." if isinstance(messages[-1], ToolMessage) else say("I look.", call("weather", {"city": "O"}))
        )

    deep = create_deep_agent(model=ScriptedModel(script, allow=LAX), tools=[weather], system_prompt="Tell the weather.")
    assert await words(deep, ["model"], "the weather", "again") == ["I look.It is sunny."] * 2


# ---- what is refused


async def test_what_the_page_says_is_refused() -> None:
    forecaster = graph("forecaster", ScriptedModel([]))["forecaster"]
    expert = graph("expert", ScriptedModel([]))["expert"]
    for made, speak, told in (
        (forecaster, [], r"this node calls a model, speak=\['model'\]"),
        (forecaster, ["x"], r"the graph's nodes are model, tools"),
        (expert, ["answer"], r'inside the subgraph "expert"'),
        (forecaster, ["tools"], "results are not speech"),
        (forecaster, "model", r'write a list, speak=\["model"\]'),
    ):
        with pytest.raises(BuildError, match=told):
            GraphAgent(made, speak=speak)
