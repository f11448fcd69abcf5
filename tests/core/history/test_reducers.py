"""The reducers of channels that hold messages: `messages` itself, and `history.reducer` for anyone's own state."""

import os
import subprocess
import sys
import textwrap
from typing import Annotated, Any

import pytest
from history_support import thorough, updates
from hypothesis import assume, given
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Overwrite
from typing_extensions import TypedDict

from graph_voice import VoiceState, history
from graph_voice.errors import HistoryError
from graph_voice.history.context import merge_chat_ctx
from graph_voice.history.reducers import appended, merge_messages


def texts(messages: list[AnyMessage]) -> list[str]:
    return [m.text for m in messages]


# ---- the same as add_messages


def _is_removal(item: Any) -> bool:
    return isinstance(item, RemoveMessage)


@thorough
@given(updates, updates)
def test_it_does_what_add_messages_does(first: list[Any], update: list[Any]) -> None:
    """Where the two differ on purpose is left out here, and in the tests below by name."""
    state = merge_messages([], first)
    known = {m.id for m in state}
    ids = [m.id for m in update if isinstance(m, BaseMessage)]
    cleared = REMOVE_ALL_MESSAGES in ids
    assume(cleared or all(m.id in known for m in update if _is_removal(m)))  # unknown ids
    assume(not (cleared and len({*ids}) < len(ids)))  # after REMOVE_ALL add_messages merges no more
    assume(not (cleared and any(_is_removal(m) and m.id != REMOVE_ALL_MESSAGES for m in update)))
    assume(not any(_is_removal(m) and ids.count(m.id) > 1 for m in update))  # removed and added in one update
    theirs = add_messages(list(state), [m.model_copy() if isinstance(m, BaseMessage) else m for m in update])
    ours = merge_messages(state, update)
    assert [(type(m), m.content) for m in ours] == [(type(m), m.content) for m in theirs]
    given_ids = {m.id for m in [*first, *update] if isinstance(m, BaseMessage)} - {None}
    assert [m.id if m.id in given_ids else None for m in ours] == [m.id if m.id in given_ids else None for m in theirs]


@thorough
@given(updates, updates)
def test_what_is_appended_is_known_without_the_list_and_nothing_else_is(first: list[Any], update: list[Any]) -> None:
    state = merge_messages([], first)
    new = [m for m in update if isinstance(m, BaseMessage)]
    ids = [m.id for m in new if m.id is not None]
    found = appended(new, {m.id for m in state}.__contains__)
    if found is not None:
        assert merge_messages(state, new) == [*state, *found]
    else:
        known = {*(m.id for m in merge_messages(state, [m for m in new if m.id is None]))}
        assert any(_is_removal(m) or m.id in known for m in new) or len({*ids}) < len(ids)


def test_unlike_add_messages_an_unknown_id_to_remove_is_ignored() -> None:
    with pytest.raises(ValueError, match="doesn't exist"):
        add_messages([], [RemoveMessage("never heard")])
    assert merge_messages([], [RemoveMessage("never heard")]) == []


def test_unlike_add_messages_one_update_does_what_two_would_do() -> None:
    state: list[AnyMessage] = [HumanMessage("a", id="1"), HumanMessage("b", id="2")]
    update = [RemoveMessage("1"), HumanMessage("c", id="1")]
    assert texts(add_messages(state, update)) == ["c", "b"]
    assert texts(merge_messages(state, update)) == ["b", "c"]
    assert merge_messages(merge_messages(state, update[:1]), update[1:]) == merge_messages(state, update)


def test_unlike_add_messages_ids_count_after_remove_all() -> None:
    update = [RemoveMessage(REMOVE_ALL_MESSAGES), HumanMessage("a", id="1"), HumanMessage("b", id="1")]
    assert texts(add_messages([], update)) == ["a", "b"]
    assert texts(merge_messages([], update)) == ["b"]


def test_unlike_add_messages_the_callers_objects_stay_as_they_are_and_ids_follow_from_the_words() -> None:
    said = HumanMessage("yes")
    first = merge_messages([], [said, HumanMessage("yes")])
    assert said.id is None
    assert first[0].id != first[1].id
    assert first == merge_messages([], [said, HumanMessage("yes")]), "a replay gives the same ids"
    assert len(merge_messages(first, "yes")) == 3


def test_what_a_front_end_sends_as_json_is_a_message() -> None:
    assert texts(merge_messages([], ("user", "Hi"))) == ["Hi"]
    assert texts(merge_messages([], [["user", "Hi"], {"role": "assistant", "content": "Hello"}, "Well?"])) == [
        "Hi",
        "Hello",
        "Well?",
    ]
    assert type(merge_messages([], [AIMessageChunk("Hi", id="1")])[0]) is AIMessage
    assert merge_messages([HumanMessage("Hi", id="1")], None) == [HumanMessage("Hi", id="1")]


@pytest.mark.parametrize(
    "update",
    [
        Overwrite(["new"]),
        {"__overwrite__": ["new"]},
        {"type": "__overwrite__", "value": ["new"]},
        [RemoveMessage(REMOVE_ALL_MESSAGES), "new"],
    ],
)
def test_a_whole_list_can_be_replaced(update: Any) -> None:
    assert texts(merge_messages([HumanMessage("old", id="1")], update)) == ["new"]


def test_messages_that_were_put_past_the_reducer_are_merged_with_as_well() -> None:
    raw: Any = [("user", "a"), HumanMessage("b")]
    assert texts(merge_messages(raw, [AIMessage("c", id="1")])) == ["a", "b", "c"]


# ---- in a graph


class Plain(VoiceState[dict[str, Any]]):
    """As a voice graph has it."""


class Delta(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(merge_messages, snapshot_frequency=50)]
    chat_ctx: Annotated[dict[str, Any], DeltaChannel(merge_chat_ctx, snapshot_frequency=50)]
    short: Annotated[list[AnyMessage], DeltaChannel(history.reducer(history.truncate(max_items=2)))]


class Binary(TypedDict):
    messages: Annotated[list[AnyMessage], merge_messages]
    chat_ctx: Annotated[dict[str, Any], merge_chat_ctx]
    short: Annotated[list[AnyMessage], history.reducer(history.truncate(max_items=2))]


STEPS: list[dict[str, Any]] = [
    {"messages": ["Hello"], "short": ["Hello"], "chat_ctx": history.truncate(max_items=6)},
    {"messages": AIMessage("Hi", id="1"), "short": AIMessage("Hi", id="1")},
    {"messages": [AIMessage("Hi there", id="1"), "yes"], "short": [AIMessage("Hi there", id="1"), "yes"]},
    {"messages": ["yes", RemoveMessage("unknown")], "short": "yes", "chat_ctx": [history.full(), history.fresh()]},
    {"messages": [RemoveMessage("1")], "chat_ctx": {"carried": [], "resolved": 2}},
]


async def test_a_delta_channel_replays_to_what_the_ordinary_channel_holds() -> None:
    """`DeltaChannel` stores the updates and replays them in batches of its own, with the public reducers."""
    found = []
    for schema in (Binary, Delta):
        builder = StateGraph(schema)
        builder.add_node("node", lambda state: {})
        builder.add_edge(START, "node")
        saver = InMemorySaver()
        config: Any = {"configurable": {"thread_id": "1"}}
        for step in STEPS:
            await builder.compile(checkpointer=saver).ainvoke(step, config)
        first = (await builder.compile(checkpointer=saver).aget_state(config)).values
        again = (await builder.compile(checkpointer=saver).aget_state(config)).values
        assert first == again
        found.append(first)
    binary, delta = found
    assert [m.text for m in binary["messages"]] == ["Hello", "yes", "yes"]
    for channel in ("messages", "short"):
        assert [(type(m), m.content) for m in delta[channel]] == [(type(m), m.content) for m in binary[channel]]
    assert [m.text for m in binary["short"]] == ["yes", "yes"]
    assert delta["chat_ctx"] == binary["chat_ctx"] == {"carried": [], "pending": [history.fresh().to_dict()]}


def test_checkpoints_hold_plain_data_also_where_unknown_classes_are_refused() -> None:
    """A process that is strict about classes, with warnings as errors, reads a pending operation back."""
    program = textwrap.dedent(
        """
        import asyncio
        from langgraph.checkpoint.memory import InMemorySaver
        from langgraph.graph import START
        from langgraph.types import Command, interrupt
        from graph_voice import Agent, VoiceState, create_voice_graph, history
        from graph_voice.testing import ScriptedModel

        def ask(state):
            interrupt("Go on?")

        async def main():
            model = ScriptedModel(["Hi.", "Hi again."])
            builder = create_voice_graph([Agent("a", instructions="Be kind.")], llm=model)
            builder.add_node("shorten", lambda state: {"chat_ctx": history.truncate(max_items=1)})
            builder.add_node("ask", ask)
            builder.add_edge(START, "shorten")
            builder.add_edge(START, "ask")
            saver = InMemorySaver()
            config = {"configurable": {"thread_id": "1"}}
            await builder.compile(checkpointer=saver).ainvoke({"messages": ["Hello"]}, config)
            # The operation is a pending write now, which the next process reads back.
            state = await builder.compile(checkpointer=saver).ainvoke(Command(resume="yes"), config)
            pending = state["chat_ctx"]["pending"]
            assert pending == [{"steps": [{"op": "truncate", "max_items": 1}]}], pending
            assert type(pending[0]) is dict, type(pending[0])
            saved = [t.checkpoint["channel_values"] async for t in saver.alist(config)]
            assert saved[0]["chat_ctx"]["pending"] == pending
            builder.nodes.pop("ask")
            builder.edges.remove((START, "ask"))
            result = await builder.compile(checkpointer=saver).ainvoke({"messages": ["Well?"]}, config)
            assert [m.text for m in model.prompts[-1].messages[1:]] == ["Well?"], model.prompts[-1]
            assert [m.text for m in result["messages"]] == ["Hello", "Hi.", "Well?", "Hi again."]
            print("done")

        asyncio.run(main())
        """
    )
    environment = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true", "LANGSMITH_TRACING": "false"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "done", run.stderr


# ---- history.reducer


async def test_it_keeps_anyones_own_channel_short() -> None:
    keep = history.reducer(history.exclude_instructions() | history.truncate(max_items=3))

    class Own(TypedDict):
        messages: Annotated[list[AnyMessage], keep]

    builder = StateGraph(Own)
    builder.add_node("talk", lambda state: {"messages": [SystemMessage("x"), AIMessage("ok")]})
    builder.add_edge(START, "talk")
    builder.add_edge("talk", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    for text in ("one", "two", "three"):
        result = await graph.ainvoke({"messages": text}, {"configurable": {"thread_id": "1"}})  # type: ignore[arg-type]
    assert texts(result["messages"]) == ["ok", "three", "ok"]


def test_it_takes_pure_operations_as_updates() -> None:
    keep = history.reducer()
    state = keep([], ["a", "b", "c"])
    assert texts(keep(state, history.truncate(max_items=1))) == ["c"]
    assert texts(keep(state, history.truncate(max_items=1).to_dict())) == ["c"]
    assert texts(keep(state, [history.last_turns(1), AIMessage("d", id="1"), history.full()])) == ["c", "d"]


def test_a_call_that_waits_for_its_result_stays_as_it_is() -> None:
    keep = history.reducer(history.truncate(max_items=4))
    asking = AIMessage("", id="1", tool_calls=[{"name": "look_up", "args": {}, "id": "a"}])
    state = keep([], ["Hello", asking])
    assert state[-1] is asking, "the tool node reads its calls there"
    state = keep(state, ToolMessage("42", tool_call_id="a", id="2"))
    assert texts(state) == ["Hello", "", "42"]


def test_a_message_without_an_id_gets_the_same_one_whatever_was_cut_off_in_between() -> None:
    keep = history.reducer(history.truncate(max_items=1))
    state = keep([], ["yes"])
    assert keep(state, [HumanMessage("Hello", id="1"), "yes"]) == keep(
        keep(state, HumanMessage("Hello", id="1")), "yes"
    )


def test_a_limit_cuts_the_same_in_any_batches() -> None:
    """Once cut at three, it may grow to two again: four at once are no different from four one by one."""
    keep = history.reducer(history.when(max_items=2, then=history.truncate(max_items=1)))
    said: list[Any] = [HumanMessage(str(n), id=str(n)) for n in range(4)]
    one_by_one: list[AnyMessage] = []
    for message in said:
        one_by_one = keep(one_by_one, message)
    assert texts(one_by_one) == ["2", "3"]
    assert keep([], said) == one_by_one
    assert keep(keep([], said[:3]), said[3:]) == one_by_one


def test_a_result_whose_call_was_cut_off_goes_with_it() -> None:
    keep = history.reducer(history.truncate(max_items=2))
    asking = AIMessage("", id="1", tool_calls=[{"name": "look_up", "args": {}, "id": "a"}])
    assert texts(keep([], [asking, ToolMessage("42", tool_call_id="a", id="2"), "Thanks"])) == ["Thanks"]


@pytest.mark.parametrize(
    "policy",
    [
        history.userdata_summary(),
        history.resume(),
        history.summarize(),
        history.truncate(max_items=2) | history.custom("json:dumps"),
    ],
    ids=str,
)
def test_an_operation_that_needs_more_than_messages_says_where_it_belongs(policy: history.Operation) -> None:
    with pytest.raises(HistoryError, match=r"Handoff\(history=.*chat_ctx.*history\.apply"):
        history.reducer(policy)
    with pytest.raises(HistoryError, match="needs more than the messages"):
        history.reducer()([], policy)
