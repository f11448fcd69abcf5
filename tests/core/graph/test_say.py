"""`say`: a fixed line from a node that is not an agent."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from turn_support import rest, told, until

from graph_voice import Agent, Conversation, Handoff, create_voice_graph, events, function_tool, say
from graph_voice.testing import ScriptedModel, call
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


def desk(node: Any, *replies: Any) -> tuple[Conversation[Any], ScriptedModel]:
    """An agent that hands over to a node of the user's own, which leads to another agent."""
    model = ScriptedModel({"front": [call("transfer_to_look")], "back": list(replies)})
    agents = [
        Agent("front", instructions="You are front.", handoffs=[Handoff("look")]),
        Agent("back", instructions="You are back."),
    ]
    builder = create_voice_graph(agents, llm=model)
    builder.add_node("look", node)
    builder.add_edge("look", "back")
    return Conversation(builder), model


async def returns(state: Any) -> dict[str, Any]:
    return {"messages": [await say("Let me look.")]}


async def speaks(state: Any) -> dict[str, Any]:
    await say("Let me look.")
    return {}


@pytest.mark.parametrize("node", [returns, speaks])
async def test_it_is_spoken_by_who_has_the_floor_and_remembered_once(node: Any) -> None:
    conversation, model = desk(node, "Here it is.")
    seen = await conversation.run("hello")
    lines = [event for event in seen if isinstance(event, events.Say)]
    assert [(line.agent, line.text) for line in lines] == [("front", "Let me look.")]
    assert told(conversation)[-2:] == ["ai: Let me look.", "ai: Here it is."]
    check_invariants(conversation, heard=["Let me look.", "Here it is."], current_agent="back")
    assert not model.errors


async def test_the_node_goes_on_when_it_was_heard() -> None:
    done: list[str] = []

    async def look(state: Any) -> dict[str, Any]:
        await say("Let me look.")
        done.append("looked")
        return {}

    conversation, _ = desk(look, "Here it is.")
    turn = conversation.turn("hello")
    turn.commit()
    asked = await until(turn, events.ToolCalls)
    turn.allow(asked.calls[0].id)
    line = await until(turn, events.Say)
    assert done == []
    turn.heard(line.message_id, "Let me")
    await rest(turn)
    turn.close()
    assert done == ["looked"]
    assert "ai: Let me" in told(conversation)


async def test_a_barge_in_lets_the_node_go_on() -> None:
    conversation, _ = desk(speaks)
    turn = conversation.turn("hello")
    turn.commit()
    asked = await until(turn, events.ToolCalls)
    turn.allow(asked.calls[0].id)
    await until(turn, events.Say)
    turn.interrupt()
    await rest(turn)
    turn.close()
    assert not [m for m in conversation.messages if m.type == "ai" and m.text]


async def test_with_no_turn_it_only_makes_the_message() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("look", returns)
    builder.add_edge(START, "look")
    state = await builder.compile().ainvoke({"messages": [("user", "hello")]})
    assert [m.text for m in state["messages"] if isinstance(m, AIMessage)] == ["Let me look."]


async def test_in_a_tool_it_is_what_the_tool_says() -> None:
    @function_tool
    async def look() -> str:
        """Look."""
        await say("Let me look.")
        return "found"

    model = ScriptedModel([call("look"), "Here it is."])
    agent = Agent("host", instructions="Help.", tools=[look])
    conversation = Conversation(create_voice_graph([agent], llm=model))
    await conversation.run("hello")
    assert told(conversation)[1:3] == ["ai: Let me look. +call_1", "tool: found"]
