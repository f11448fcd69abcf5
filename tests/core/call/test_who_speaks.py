"""Custom nodes that are no agents: who speaks, asks and fails is named rightly, and their tool calls are shown."""

import itertools
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

from graph_voice import Agent, Conversation, Handoff, create_voice_graph, events
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
FRONT_ENDS = ["core", "livekit"]


@tool
async def stock(item: str) -> str:
    """Look up the stock."""
    if item == "ink":
        raise ValueError("no such item")
    return "3 left"


def brain(messages: Any) -> Any:
    if messages[-1].type == "tool":
        return "There are three."
    return say("Let me look.", call("stock", {"item": messages[0].text}))


def shop() -> tuple[Any, dict[str, Any]]:
    model = ScriptedModel(brain).bind_tools([stock])

    async def greet(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Hello.")]}

    async def look(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"The {interrupt('Which one?')} one.")]}

    builder = StateGraph(MessagesState)
    for name, node in (("greet", greet), ("look", look), ("answer", look), ("ask", ask)):
        builder.add_node(name, node)
    builder.add_node("tools", ToolNode([stock], handle_tool_errors=True))
    edges = (START, "greet", "look", "tools", "answer", "ask")
    for here, there in itertools.pairwise(edges):
        builder.add_edge(here, there)
    return builder.compile(), {"speak": ["greet", "look", "answer", "ask"]}


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_each_node_has_its_name_and_its_tool_calls_are_shown(front_end: str) -> None:
    graph, options = shop()
    async with Call(graph, front_end=front_end, **options) as phone:
        turn = await phone.says("pens")
        lines = [line.partition("s  ")[2] for line in str(turn.transcript).splitlines()]
        assert lines[-6:] == [
            "greet: Hello.",
            "look: Let me look.",
            "look calls stock(item='pens')",
            "    stock answers: 3 left",
            "answer: There are three.",
            "ask: Which one?",
        ]
        await phone.says("blue")
        assert [(run.agent, run.tool, run.outcome) for run in phone.effects] == [("look", "stock", "done")]
        names = [(m.name, m.text) for m in phone.messages if m.type == "ai"]
        assert names == [
            ("greet", "Hello."),
            ("look", "Let me look."),
            ("answer", "There are three."),
            ("ask", "Which one?"),
            ("ask", "The blue one."),
        ]


async def test_a_tool_that_fails_is_shown_as_one() -> None:
    graph, options = shop()
    conversation: Conversation[Any] = Conversation(graph, **options)
    seen = await conversation.run("ink")
    (calls,) = [e for e in seen if isinstance(e, events.ToolCalls)]
    (result,) = [e for e in seen if isinstance(e, events.ToolResult)]
    assert (calls.agent, calls.custom, result.agent, result.custom, result.is_error) == (
        "look", True, "look", True, True
    )  # fmt: skip
    assert seen.index(calls) < seen.index(result)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_a_member_s_tool_calls_are_shown_when_they_happen(front_end: str) -> None:
    front = Agent(
        "front",
        instructions="F",
        llm=ScriptedModel(lambda _: say("To the desk.", call("transfer_to_desk"))),
        handoffs=[Handoff("desk")],
    )

    def desk(messages: Any) -> Any:
        looked = [m for m in messages if m.type == "tool" and m.name == "stock"]
        return "There are three." if looked else say("Let me look.", call("stock", {"item": "pens"}))

    graph = create_voice_graph([front, create_agent(ScriptedModel(desk), [stock], name="desk")])
    async with Call(graph, front_end=front_end) as phone:
        turn = await phone.says("pens")
        found = [line.partition("s  ")[2] for line in str(turn.transcript).splitlines()]
        assert found[-4:] == [
            "desk: Let me look.",
            "desk calls stock(item='pens')",
            "    stock answers: 3 left",
            "desk: There are three.",
        ]


async def test_the_node_that_failed_apologizes() -> None:
    async def greet(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Hello.")]}

    async def look(state: MessagesState) -> dict[str, Any]:
        raise ValueError("the shelf is gone")

    builder = StateGraph(MessagesState)
    builder.add_node("greet", greet)
    builder.add_node("look", look)
    builder.add_edge(START, "greet")
    builder.add_edge("greet", "look")
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["greet", "look"])
    seen = await conversation.run("hi")
    assert [e.agent for e in seen if isinstance(e, events.Failed | events.Say)] == ["look", "look"]
    assert conversation.messages[-1].name == "look"
