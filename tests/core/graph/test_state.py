"""The channels of a voice graph's state, and the schema that is made for one graph."""

from typing import Annotated, Any

import pytest
from langgraph.graph import START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

from graph_voice import Agent, VoiceState, create_voice_graph
from graph_voice.agents.handoff import handoff_record
from graph_voice.errors import BuildError
from graph_voice.graph.state import append_handoffs, last_agent, merge_contexts, schema_for
from graph_voice.testing import ScriptedModel


class Caller(BaseModel):
    name: str | None = None


class OwnState(VoiceState[Caller]):
    orders: Annotated[list[str], lambda a, b: [*a, *b]]


async def test_an_extended_state_names_the_userdata_class_and_keeps_its_own_channels() -> None:
    builder = create_voice_graph([Agent("a", instructions="A.")], state_schema=OwnState, llm=ScriptedModel(["Hi."]))
    builder.add_node("order", lambda state: {"orders": ["tea"]})
    builder.add_edge(START, "order")
    result = await builder.compile().ainvoke({"messages": ["Hello"], "orders": ["cake"]})
    assert result["orders"] == ["cake", "tea"]
    assert result["userdata"] == Caller()
    assert [m.text for m in result["messages"]] == ["Hello", "Hi."]


def test_a_state_that_is_no_voice_state_is_refused_with_the_fix() -> None:
    class Strange(TypedDict):
        messages: list[Any]

    with pytest.raises(BuildError, match=r"class MyState\(VoiceState\[Caller\]\)"):
        schema_for(Strange, Caller)


def test_the_channels_of_a_graph_are_those_that_the_docs_name() -> None:
    channels = StateGraph(schema_for(VoiceState, Caller)).channels
    assert set(channels) >= {"messages", "chat_ctx", "contexts", "userdata", "active_agent", "handoffs"}


def test_the_last_agent_of_a_step_has_the_floor() -> None:
    assert last_agent("a", "b") == "b"
    assert last_agent("a", None) == "a"
    assert last_agent(None, None) == ""


def test_a_handoff_that_is_there_already_counts_once() -> None:
    first, second = handoff_record("a", "b", "c1"), handoff_record("b", "a", "c2")
    known = append_handoffs(None, [[first]])
    assert append_handoffs(known, [[first, second], None, [second]]) == [first, second]
    assert known == [first]


def test_the_newest_context_of_an_agent_counts() -> None:
    before = {"a": {"carried": []}}
    assert merge_contexts(before, {"a": {"since": ["x"]}, "b": {}}) == {"a": {"since": ["x"]}, "b": {}}
    assert before == {"a": {"carried": []}}
    assert merge_contexts(None, None) == {}
