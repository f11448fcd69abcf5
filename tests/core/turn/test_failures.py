"""Whatever fails, the turn ends, the front end learns why, and the caller hears something."""

import asyncio
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from turn_support import one_agent, play, told
from typing_extensions import TypedDict

from graph_voice import Agent, Conversation, StopResponse, create_voice_graph, events, function_tool
from graph_voice.testing import ScriptedModel, call, fail, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


class Messages(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def foreign(node: Any, **options: Any) -> Conversation[Any]:
    builder = StateGraph(Messages)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return Conversation(builder.compile(), speak=["node"], **options)


def of(seen: list[events.Event], kind: type[Any]) -> list[Any]:
    return [event for event in seen if isinstance(event, kind)]


async def test_a_node_that_raises_is_reported_and_apologised_for() -> None:
    def node(state: Messages) -> Any:
        raise RuntimeError("down")

    conversation = foreign(node)
    seen = await conversation.run("hi")
    assert [(e.agent, str(e.error)) for e in of(seen, events.Failed)] == [("node", "down")]
    assert len(of(seen, events.Say)) == 1
    assert isinstance(seen[-1], events.Ended)
    check_invariants(conversation, heard=[of(seen, events.Say)[0].text], said=["hi"])


async def test_the_apology_is_the_graphs_own() -> None:
    builder = create_voice_graph([Agent("a", instructions="A")], llm=ScriptedModel(["Hm."]), apology="Pardon me.")

    def node(state: Any) -> Any:
        raise RuntimeError("down")

    builder.add_node("after", node)
    builder.add_edge("a", "after")
    conversation: Conversation[Any] = Conversation(builder)
    seen = await conversation.run("hi")
    assert [e.text for e in of(seen, events.Say)] == ["Pardon me."]
    assert told(conversation) == ["human: hi", "ai: Hm.", "ai: Pardon me."]


async def test_a_model_that_fails_is_apologised_for_once() -> None:
    conversation = one_agent([fail(RuntimeError("down")), "Hello."])
    seen = await conversation.run("hi")
    assert (len(of(seen, events.Failed)), len(of(seen, events.Say))) == (1, 1)
    await conversation.run("hi again")
    assert told(conversation)[-1] == "ai: Hello."


async def test_a_graph_that_runs_in_circles_is_stopped() -> None:
    def node(state: Messages) -> dict[str, Any]:
        return {"messages": []}

    builder = StateGraph(Messages)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", "node")
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["node"], config={"recursion_limit": 7})
    seen = await conversation.run("hi")
    assert isinstance(of(seen, events.Failed)[0].error, GraphRecursionError)
    assert len(of(seen, events.Say)) == 1


async def test_a_graph_that_ends_without_a_word_is_apologised_for() -> None:
    conversation = foreign(lambda state: {"messages": []})
    seen = await conversation.run("hi")
    assert "nothing was said" in str(of(seen, events.Failed)[0].error)
    assert len(of(seen, events.Say)) == 1


async def test_a_tool_may_end_the_turn_in_silence() -> None:
    @function_tool
    async def done() -> str:
        """Stop."""
        raise StopResponse

    conversation = one_agent([say(call("done"))], done)
    seen = await conversation.run("hi")
    assert (of(seen, events.Failed), of(seen, events.Say)) == ([], [])


async def test_a_failure_after_a_barge_in_is_not_spoken() -> None:
    async def node(state: Messages) -> Any:
        await asyncio.sleep(1)
        raise RuntimeError("down")

    builder = StateGraph(Messages)
    builder.add_node("work", node)
    builder.add_node("node", lambda state: {"messages": [AIMessage("Hello.")]})
    builder.add_edge(START, "work")
    builder.add_edge("work", "node")
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["node"])
    turn = conversation.turn("hi")
    turn.commit()
    await asyncio.sleep(0.5)
    turn.interrupt()
    seen = [event async for event in turn]
    turn.close()
    assert (len(of(seen, events.Failed)), of(seen, events.Say)) == (1, [])


async def test_a_call_that_broke_off_with_the_run_says_so() -> None:
    @function_tool
    async def slow() -> str:
        """Slow."""
        await asyncio.sleep(5)
        return "done"

    builder = create_voice_graph(
        [Agent("a", instructions="A", tools=[slow])], llm=ScriptedModel([say("Hm.", call("slow"))])
    )

    async def breaks(state: Any) -> Any:
        await asyncio.sleep(1)
        raise RuntimeError("down")

    builder.add_node("breaks", breaks)
    builder.add_edge("a", "breaks")
    conversation: Conversation[Any] = Conversation(builder)
    await play(conversation.turn("hi"))
    result = next(line for line in told(conversation) if line.startswith("tool"))
    assert result == "tool: The tool call was stopped before it ended; whether it took effect is unknown."
    check_invariants(conversation)
