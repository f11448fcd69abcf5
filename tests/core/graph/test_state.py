"""The channels of a voice graph's state, and the schema that is made for one graph."""

from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

from graph_voice import Agent, Handoff, VoiceState, create_voice_graph
from graph_voice.agents.handoff import handoff_record
from graph_voice.errors import BuildError, StateError
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


def two_agents(**options: Any) -> Any:
    agents = [
        Agent(
            "desk",
            instructions="D.",
            tools=[look_up],
            handoffs=[Handoff("billing", "Bills."), Handoff("human", tool=False)],
        ),
        Agent("billing", instructions="B."),
    ]
    model = ScriptedModel(lambda messages: "Yes.")
    return create_voice_graph(agents, llm=model, external=["human"], **options).compile(checkpointer=InMemorySaver())


def look_up() -> str:
    """Look up."""
    return "found"


THREAD: Any = {"configurable": {"thread_id": "t"}}
WRONG = [
    ({"active_agent": "Billing"}, 'did you mean "billing"? The agents are desk, billing, human.'),
    ({"active_agent": "desk_tools"}, 'did you mean "desk"?'),
    ({"active_agent": 5}, "The agents are desk, billing, human."),
    ({"handoffs": 5}, "write a list of handoffs"),
    ({"handoffs": "billing"}, "write a list of handoffs"),
    ({"handoffs": [5]}, 'a handoff is {"old_agent_id": ...'),
    ({"handoffs": [{"new_agent_id": "billing"}]}, 'a handoff is {"old_agent_id": ...'),
    ({"contexts": 5}, "write agent -> its `chat_ctx`"),
    ({"contexts": {"desk": 5}}, "write agent -> its `chat_ctx`"),
    ({"messages": 5}, 'write messages, {"messages": [{"role": "user", "content": "..."}]}'),
    ({"messages": [["user"], object()]}, "write messages"),
]


@pytest.mark.parametrize("as_node", [None, "desk"])
@pytest.mark.parametrize(("values", "told"), WRONG)
async def test_an_edit_that_the_state_can_not_hold_is_refused_with_words_and_changes_nothing(
    values: Any, told: str, as_node: str | None
) -> None:
    graph = two_agents()
    await graph.ainvoke({"messages": ["Hello"]}, THREAD)
    before = (await graph.aget_state(THREAD)).values
    with pytest.raises(StateError) as refused:
        await graph.aupdate_state(THREAD, values, as_node=as_node)
    assert told in str(refused.value)
    assert isinstance(refused.value, ValueError)  # what LangGraph's server answers with 400 and the words
    assert (await graph.aget_state(THREAD)).values == before


@pytest.mark.parametrize(("values", "told"), WRONG)
async def test_such_an_input_of_a_run_is_refused_and_the_next_run_answers(values: Any, told: str) -> None:
    graph = two_agents()
    with pytest.raises(StateError) as refused:
        await graph.ainvoke({"messages": ["Hello"], **values}, THREAD)
    assert told in str(refused.value)
    found = await graph.ainvoke({"messages": ["Hello again"]}, THREAD)
    assert found["messages"][-1].text == "Yes."


@pytest.mark.parametrize("agent", ["desk", "billing", "human"])
async def test_each_agent_of_the_graph_may_be_made_the_active_one(agent: str) -> None:
    graph = two_agents()
    await graph.ainvoke({"messages": ["Hello"]}, THREAD)
    await graph.aupdate_state(THREAD, {"active_agent": agent}, as_node="desk")
    assert (await graph.aget_state(THREAD)).values["active_agent"] == agent
    assert graph.get_input_jsonschema()["properties"]["active_agent"]["enum"] == ["desk", "billing", "human"]


@pytest.mark.parametrize("begun", [False, True])
async def test_an_edit_in_the_name_of_a_tool_node_that_has_nothing_to_do_leads_to_its_agent(begun: bool) -> None:
    graph = two_agents()
    if begun:
        await graph.ainvoke({"messages": ["Hello"]}, THREAD)
    await graph.aupdate_state(THREAD, {"userdata": {"name": "Ann"}}, as_node="desk_tools")
    found = await graph.aget_state(THREAD)
    assert found.next == ("desk",)
    assert found.values["userdata"] == {"name": "Ann"}


async def test_a_stored_call_whose_agent_is_gone_is_answered_by_the_start_agent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    graph = two_agents()
    await graph.ainvoke({"messages": ["Hello"], "active_agent": "billing"}, THREAD)
    only = create_voice_graph([Agent("desk", instructions="D.")], llm=ScriptedModel(["Yes."]))
    found = await only.compile(checkpointer=graph.checkpointer).ainvoke({"messages": ["And now?"]}, THREAD)
    assert found["messages"][-1].name == "desk"
    assert 'the state\'s active agent "billing" is none of this graph' in caplog.text


async def test_the_reducer_of_a_state_of_ones_own_is_kept() -> None:
    class Mine(VoiceState[Caller]):
        active_agent: Annotated[str, lambda old, new: new or old or "b"]

    agents = [Agent("a", instructions="A."), Agent("b", instructions="B.")]
    with pytest.warns(UserWarning, match="can't be reached"):
        builder = create_voice_graph(agents, state_schema=Mine, llm=ScriptedModel(["Yes."]))
    found = await builder.compile().ainvoke({"messages": ["Hello"], "active_agent": "b"})
    assert found["messages"][-1].name == "b"
