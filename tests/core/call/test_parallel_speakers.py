"""Nodes that speak in the same step are heard one behind the other, and remembered so."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send
from turn_support import rest, told, until

from graph_voice import Conversation, events
from graph_voice.call.one_by_one import OneByOne
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
FRONT_ENDS = ["core", "livekit"]


def speaking(text: str, per_token: float = 0.1, *, after: float = 0) -> Any:
    model = ScriptedModel(lambda _: text, per_token=per_token)

    async def node(state: Any) -> dict[str, Any]:
        await asyncio.sleep(after)
        return {"messages": [await model.ainvoke([HumanMessage("go on")])]}

    return node


def returning(text: str, after: float) -> Any:
    async def node(state: Any) -> dict[str, Any]:
        await asyncio.sleep(after)
        return {"messages": [AIMessage(text)]}

    return node


def side_by_side(*nodes: Any, then: Any = None) -> Any:
    builder = StateGraph(MessagesState)
    names = [f"n{number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, node)
        builder.add_edge(START, name)
    if then is not None:
        builder.add_node("then", then)
        builder.add_edge(names, "then")
    return builder.compile(), [*names, *(["then"] if then is not None else [])]


async def heard_and_remembered(graph: Any, speak: list[str], front_end: str) -> str:
    async with Call(graph, front_end=front_end, speak=speak) as phone:
        heard = (await phone.says("hi")).heard
        assert " ".join(m.text for m in phone.messages if m.type == "ai" and m.text) == heard
        return heard


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_two_that_stream(front_end: str) -> None:
    graph, speak = side_by_side(speaking("Alpha one two three."), speaking("Beta four five six."))
    assert await heard_and_remembered(graph, speak, front_end) == "Alpha one two three. Beta four five six."


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_a_third_one_and_the_next_step(front_end: str) -> None:
    graph, speak = side_by_side(
        speaking("Alpha one two three.", 0.3),
        returning("Gamma.", 0.2),
        speaking("Beta four five six.", 0.1),
        then=speaking("And that is all."),
    )
    found = await heard_and_remembered(graph, speak, front_end)
    assert found == "Alpha one two three. Beta four five six. Gamma. And that is all."


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_one_node_that_is_sent_to_twice(front_end: str) -> None:
    async def node(state: Any) -> dict[str, Any]:
        model = ScriptedModel([f"The {state['about']} is paid."], per_token=0.1)
        return {"messages": [await model.ainvoke([HumanMessage("go on")])]}

    builder = StateGraph(MessagesState)
    builder.add_node("tell", node)
    builder.add_conditional_edges(START, lambda _: [Send("tell", {"about": about}) for about in ("bill", "rent")])
    found = await heard_and_remembered(builder.compile(), ["tell"], front_end)
    assert found == "The bill is paid. The rent is paid."


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_inside_one_subgraph(front_end: str) -> None:
    inner, _ = side_by_side(speaking("Alpha one two."), speaking("Beta four five."))
    graph, speak = side_by_side(inner, speaking("Gamma seven eight nine.", 0.05, after=0.2))
    found = await heard_and_remembered(graph, speak, front_end)
    assert found == "Alpha one two. Beta four five. Gamma seven eight nine."


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_the_one_that_begins_first_whatever_the_order_of_the_graph(front_end: str) -> None:
    graph, speak = side_by_side(speaking("Alpha one two three.", after=0.1), speaking("Beta four five six."))
    assert await heard_and_remembered(graph, speak, front_end) == "Beta four five six. Alpha one two three."


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_two_models_of_one_node(front_end: str) -> None:
    one, two = (ScriptedModel([text], per_token=0.1) for text in ("Alpha one two.", "Beta four five."))

    async def node(state: Any) -> dict[str, Any]:
        return {"messages": list(await asyncio.gather(*(m.ainvoke([HumanMessage("go on")]) for m in (one, two))))}

    graph, speak = side_by_side(node)
    assert await heard_and_remembered(graph, speak, front_end) == "Alpha one two. Beta four five."


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_one_that_calls_tools_and_one_that_speaks(front_end: str) -> None:
    @tool
    async def look() -> str:
        """Look."""
        return "3 left"

    model = ScriptedModel(lambda ms: "Three." if ms[-1].type == "tool" else say("Let me look.", call("look")))

    async def step(state: Any) -> dict[str, Any]:
        return {"messages": [await model.bind_tools([look]).ainvoke(state["messages"])]}

    inner = StateGraph(MessagesState)
    inner.add_node("ask", step)
    inner.add_node("tools", ToolNode([look]))
    inner.add_node("answer", step)
    inner.add_edge(START, "ask")
    inner.add_edge("ask", "tools")
    inner.add_edge("tools", "answer")
    graph, speak = side_by_side(inner.compile(), speaking("Beta four five six.", after=0.05))
    async with Call(graph, front_end=front_end, speak=speak) as phone:
        assert (await phone.says("hi")).heard == "Let me look. Three. Beta four five six."
        assert [(m.type, m.text) for m in phone.messages] == [
            ("human", "hi"),
            ("ai", "Let me look."),
            ("tool", "3 left"),
            ("ai", "Three."),
            ("ai", "Beta four five six."),
        ]


async def test_a_barge_in_while_the_first_one_is_heard() -> None:
    graph, speak = side_by_side(speaking("Alpha one two three."), speaking("Beta four five six."))
    conversation: Conversation[Any] = Conversation(graph, speak=speak)
    turn = conversation.turn("hi")
    turn.commit()
    event = await until(turn, events.Text)
    await asyncio.sleep(0.15)
    turn.heard(event.message_id, "Alpha one")
    turn.interrupt()
    await rest(turn)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: Alpha one"]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from(["say", "end", "end all"])), max_size=30
    )
)
def test_each_word_is_said_once_and_nobody_interrupts(steps: list[tuple[str, str, str]]) -> None:
    order, said, over = OneByOne(), list[tuple[str, str, int]](), set[Any]()
    expected = []
    for number, (task, message, what) in enumerate(steps):
        if task in over or ((task, message) in over and what != "end all"):
            continue
        if what == "say":
            expected.append((task, message, number))
            order.speak((task, message), lambda t=task, m=message, n=number: said.append((t, m, n)))  # type: ignore[misc]
        elif what == "end":
            over.add((task, message))
            order.ended((task, message))
        else:
            over.add(task)
            order.ended((task,))
    order.flush()
    assert sorted(said) == sorted(expected)
    tasks = [task for n, (task, _, _) in enumerate(said) if n == 0 or said[n - 1][0] != task]
    assert len(tasks) == len(set(tasks))
    voices = [v[:2] for n, v in enumerate(said) if n == 0 or said[n - 1][:2] != v[:2]]
    assert len(voices) == len(set(voices))
