"""A voice graph that a tool, a node or a subgraph of another graph runs: it is its own graph."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from graph_voice import Agent, Conversation, Handoff, VoiceState, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.graph.say import say as say_line
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
Graph = Pregel[Any, Any, Any, Any]
Made = tuple[Any, dict[str, Any]]


def lawyer() -> Graph:
    """One agent, whose tool asks a model of its own."""

    @function_tool
    async def look_up(what: str) -> str:
        """Look it up."""
        return (await ScriptedModel(["A draft."]).ainvoke(what)).text

    def brain(messages: Any) -> Any:
        if any(m.type == "tool" for m in messages):
            return "Twelve it is."
        return say("Let me look.", call("look_up", {"what": "law"}))

    agent = Agent("lawyer", instructions="L", llm=ScriptedModel(brain), tools=[look_up])
    return create_voice_graph([agent]).compile(name="law")


def two() -> Graph:
    """Two agents, with a handoff that is announced."""
    first = Agent(
        "first",
        instructions="F",
        llm=ScriptedModel(lambda _: say("Over to her.", call("transfer_to_second"))),
        handoffs=[Handoff("second", say="Bye.")],
    )
    second = Agent("second", instructions="S", llm=ScriptedModel(lambda _: "I am the second."))
    return create_voice_graph([first, second]).compile(name="two")


def talkative() -> Graph:
    """An agent, and a node that says a line by itself."""

    async def note(state: Any) -> dict[str, Any]:
        return {"messages": [await say_line("Noted.")]}

    builder = create_voice_graph([Agent("clerk", instructions="C", llm=ScriptedModel(lambda _: "Yes."))])
    builder.add_node("note", note)
    builder.add_edge("clerk", "note")
    return builder.compile()


SPOKEN = {lawyer: "Let me look. Twelve it is.", two: "Over to her. Bye. I am the second."}


def then_host(node: Any, speak: list[str]) -> Made:
    builder = StateGraph(MessagesState)
    builder.add_node("expert", node)
    builder.add_node("host", lambda state: {"messages": [AIMessage("In short.")]})
    builder.add_edge(START, "expert")
    builder.add_edge("expert", "host")
    return builder.compile(), {"speak": speak}


def node_runs(inner: Graph, **config: Any) -> Made:
    async def expert(state: MessagesState) -> dict[str, Any]:
        await inner.ainvoke({"messages": [("user", "the law?")]}, config or None)  # type: ignore[arg-type]
        return {}

    return then_host(expert, ["host"])


def node_runs_it_apart(inner: Graph) -> Made:
    return node_runs(inner, configurable={"thread_id": "of its own"})


def task_of_a_node(inner: Graph) -> Made:
    async def expert(state: MessagesState) -> dict[str, Any]:
        await asyncio.create_task(inner.ainvoke({"messages": [("user", "the law?")]}))
        return {}

    return then_host(expert, ["host"])


def asking(inner: Graph) -> Any:
    @tool
    async def ask(question: str) -> str:
        """Ask the expert."""
        return str((await inner.ainvoke({"messages": [("user", question)]}))["messages"][-1].text)

    return ask


def host_model() -> ScriptedModel:
    return ScriptedModel(lambda ms: "In short." if ms[-1].type == "tool" else call("ask", {"question": "the law?"}))


def tool_of_an_agent(inner: Graph) -> Made:
    return create_voice_graph([Agent("host", instructions="H", llm=host_model(), tools=[asking(inner)])]), {}


def tool_of_create_agent(inner: Graph) -> Made:
    return create_agent(host_model(), [asking(inner)]), {"speak": ["model"]}


def tool_of_a_member(inner: Graph) -> Made:
    return create_voice_graph([create_agent(host_model(), [asking(inner)], name="host")]), {}


def tool_node(inner: Graph) -> Made:
    model = host_model().bind_tools([asking(inner)])
    builder = StateGraph(MessagesState)

    async def step(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder.add_node("ask", step)
    builder.add_node("tools", ToolNode([asking(inner)]))
    builder.add_node("host", step)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "tools")
    builder.add_edge("tools", "host")
    return builder.compile(), {"speak": ["ask", "host"]}


def silent_subgraph(inner: Graph) -> Made:
    return then_host(inner, ["host"])


def node_of_a_voice_graph(inner: Graph) -> Made:
    async def ask(state: Any) -> dict[str, Any]:
        await inner.ainvoke({"messages": [("user", "the law?")]})
        return {}

    builder = create_voice_graph([Agent("host", instructions="H", llm=ScriptedModel(lambda _: "In short."))])
    builder.add_node("ask", ask)
    builder.add_edge("host", "ask")
    return builder.compile(), {}


OWN_GRAPH = [
    node_runs,
    node_runs_it_apart,
    task_of_a_node,
    tool_of_an_agent,
    tool_of_create_agent,
    tool_of_a_member,
    tool_node,
    silent_subgraph,
    node_of_a_voice_graph,
]
FRONT_ENDS = ["core", "livekit"]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("outer", OWN_GRAPH)
@pytest.mark.parametrize("inner", [lawyer, two])
async def test_of_a_graph_of_its_own_nothing_is_spoken_or_gated(
    inner: Callable[[], Graph], outer: Callable[[Graph], Made], front_end: str
) -> None:
    graph, options = outer(inner())
    async with Call(graph, front_end=front_end, **options) as phone:
        for _ in range(2):
            turn = await asyncio.wait_for(phone.says("What is the law?"), 60)
            assert turn.heard == "In short."
        assert [m.text for m in phone.messages if m.type == "ai" and m.text] == ["In short."] * 2


def speaking_subgraph(inner: Graph) -> Made:
    return then_host(inner, ["expert", "host"])


def speaking_node(inner: Graph) -> Made:
    async def expert(state: MessagesState) -> dict[str, Any]:
        found = await inner.ainvoke({"messages": state["messages"][-1:]})
        return {"messages": found["messages"][1:]}

    return then_host(expert, ["expert", "host"])


def inside_a_member(inner: Graph) -> Made:
    builder = StateGraph(MessagesState)
    builder.add_node("inside", inner)
    builder.add_edge(START, "inside")
    graph, options = then_host(builder.compile(), ["expert", "host"])
    return graph, options


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("outer", [speaking_subgraph, speaking_node, inside_a_member])
@pytest.mark.parametrize("inner", [lawyer, two])
async def test_as_a_speaker_each_of_its_words_is_heard_once(
    inner: Callable[[], Graph], outer: Callable[[Graph], Made], front_end: str
) -> None:
    graph, options = outer(inner())
    async with Call(graph, front_end=front_end, **options) as phone:
        turn = await asyncio.wait_for(phone.says("What is the law?"), 60)
        assert turn.heard == f"{SPOKEN[inner]} In short."
        remembered = " ".join(m.text for m in phone.messages if m.type == "ai" and m.text)
        assert remembered == f"{SPOKEN[inner]} In short."


async def test_a_line_of_its_node_is_not_spoken_through_the_tool_that_runs_it() -> None:
    graph, _ = tool_of_an_agent(talkative())
    async with Call(graph) as phone:
        assert (await phone.says("What is the law?")).heard == "In short."


def member(inner: Graph) -> Any:
    return create_voice_graph([inner])


def added(inner: Graph) -> Any:
    builder = create_voice_graph([Agent("host", instructions="H", handoffs=[Handoff("law")])])
    builder.add_node("law", inner)
    return builder


def with_its_state(inner: Graph) -> Any:
    class State(VoiceState[dict[str, Any]]):
        pass

    builder = StateGraph(State)
    builder.add_node("law", inner)
    builder.add_edge(START, "law")
    return builder


@pytest.mark.parametrize("outer", [member, added, with_its_state])
async def test_a_voice_graph_as_a_node_that_shares_the_state_is_refused_when_built(
    outer: Callable[[Graph], Any],
) -> None:
    with pytest.raises(BuildError, match=r'"law" is a voice graph.*Put its agents into the list'):
        Conversation(outer(lawyer()).compile(), speak=["law"])
