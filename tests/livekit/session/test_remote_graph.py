"""A graph on a server, on both front ends: random calls after which the thread holds what is remembered, and races."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from graph_agent_support import no_accidents, told_by_graph, told_by_livekit
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from remote_support import LocalServer
from turn_support import rest, until

from graph_voice import Conversation, events
from graph_voice.testing import Call, ScriptedModel, call, run, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

LONG = "One two three four five six seven eight nine ten eleven twelve."


@tool
async def look(seconds: float) -> str:
    """Look for so many seconds."""
    await asyncio.sleep(seconds)
    return f"Found after {seconds} seconds."


def script(messages: Sequence[AnyMessage]) -> Any:
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return f"{last.text} {LONG}"
    if last.text.startswith("Look"):
        return say("Let me see.", call("look", {"seconds": float(last.text.split()[1])}))
    return f"You said {last.text} {LONG}"


def server() -> LocalServer:
    return LocalServer(create_agent(ScriptedModel(script), [look]).builder)


def told(messages: Sequence[AnyMessage]) -> list[tuple[str, str, str]]:
    return [(m.type, str(m.id), m.text) for m in messages]


def agrees(found: LocalServer, conversation: Conversation[Any]) -> None:
    """The thread holds what is remembered, and nothing runs on the server any more."""
    thread = conversation.call.state.remote
    assert thread is not None
    assert found.held(thread.id) == told(conversation.messages)
    assert "running" not in found.statuses.values()


ACTS = st.one_of(
    st.tuples(st.just("says"), st.sampled_from(["Hello.", "Look 2", "Look 0"]), st.none() | st.integers(1, 9)),
    st.tuples(st.just("program"), st.just("We are recorded."), st.none()),
    st.tuples(st.just("silence"), st.just(""), st.none()),
)


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@given(acts=st.lists(ACTS, min_size=1, max_size=4))
@settings(max_examples=12)
def test_whatever_is_said_and_cut_off_the_thread_holds_what_is_remembered(
    front_end: str, acts: list[tuple[str, str, int | None]]
) -> None:
    async def play() -> None:
        found = server()
        async with Call(found.remote(), front_end=front_end, speak=["model"]) as phone:
            for act, text, after in acts:
                if act == "program":
                    await phone.program_says(text)
                elif act == "silence":
                    await phone.silence(3)
                else:
                    if after is not None:
                        phone.barge_in("Stop.", after_words=after)
                    await phone.says(text)
            conversation = phone.conversation
        agrees(found, conversation)

    run(play())


@pytest.mark.virtual_clock
async def test_a_barge_in_by_voice_cancels_the_run_and_the_next_prompt_has_what_was_heard() -> None:
    found = server()
    agent = GraphAgent(found.remote(), speak=["model"])
    with no_accidents():
        async with voice_rig(agent) as rig:
            await rig.user_says("hello")
            await asyncio.sleep(1)
            await rig.user_says("stop")
            await asyncio.sleep(10)
            assert told_by_graph(agent) == told_by_livekit(rig.session)
    agrees(found, agent.conversation)
    cut = next(m for m in agent.conversation.messages if isinstance(m, AIMessage))
    assert 0 < len(cut.text) < len(f"You said hello {LONG}")


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    ("seconds", "runs", "result"),
    [
        (2.0, True, "Found after 2.0 seconds."),
        (3600.0, True, "whether it took effect is unknown"),
        (2.0, False, "whether it took effect is unknown"),
    ],
    ids=["ends in time", "never ends", "is about to begin"],
)
async def test_a_tool_that_runs_at_a_barge_in_ends_or_is_cancelled_when_the_caller_goes_on(
    seconds: float, runs: bool, result: str
) -> None:
    found = server()
    async with Conversation(found.remote(), speak=["model"]) as conversation:
        turn = conversation.turn(f"Look {seconds}")
        turn.commit()
        await until(turn, events.ToolCalls)
        await asyncio.sleep(1 if runs else 0)
        turn.interrupt()
        turn.close()
        await conversation.run("Hello.")
    agrees(found, conversation)
    (answer,) = [m for m in conversation.messages if isinstance(m, ToolMessage)]
    assert result in answer.text
    assert conversation.messages[-1].text == f"You said Hello. {LONG}"
    assert [*found.statuses.values()] == ["interrupted", "success"]


@pytest.mark.virtual_clock
async def test_two_turns_run_one_behind_the_other() -> None:
    found = server()
    async with Conversation(found.remote(), speak=["model"]) as conversation:
        turns = [conversation.turn(text) for text in ("Hello.", "And again.")]
        for turn in turns:
            turn.commit()
        seen = await asyncio.gather(*map(rest, turns))
        for turn, events_of in zip(turns, seen, strict=True):
            words = [e for e in events_of if isinstance(e, events.Text)]
            turn.heard(words[0].message_id, "".join(e.text for e in words))
            turn.close()
    agrees(found, conversation)
    assert [*found.statuses.values()] == ["success", "success"]


@pytest.mark.virtual_clock
async def test_a_turn_that_is_dropped_leaves_nothing_on_the_server() -> None:
    found = server()
    async with Conversation(found.remote(), speak=["model"]) as conversation:
        guess = conversation.turn("Hello")
        guess.discard()
        await conversation.run("Hello there.")
    agrees(found, conversation)
    assert [*found.statuses.values()] == ["success"]


async def asks(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"To {interrupt('Where to?')}.")]}


@pytest.mark.virtual_clock
async def test_a_reply_that_is_asked_for_while_a_question_is_open_does_not_take_the_question_away() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node(asks)
    builder.add_edge(START, "asks")
    found = LocalServer(builder)
    async with Conversation(found.remote(), speak=["asks"]) as conversation:
        await conversation.run("Fly.")
        seen = await conversation.run(instructions="Say hello.")
        (failed,) = [e for e in seen if isinstance(e, events.Failed)]
        assert "waits for an answer" in str(failed.error)
        await conversation.run("Oslo")
        assert conversation.messages[-1].text == "To Oslo."
    agrees(found, conversation)


async def counts(state: MessagesState) -> dict[str, Any]:
    get_stream_writer()({"cart": ["soup"]})
    return {"messages": [AIMessage("One soup.")]}


@pytest.mark.virtual_clock
async def test_what_a_node_on_the_server_writes_for_a_page_is_an_event_here() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node(counts)
    builder.add_edge(START, "counts")
    found = LocalServer(builder)
    async with Conversation(found.remote(), speak=["counts"]) as conversation:
        seen = await conversation.run("Soup.")
    assert [e.data for e in seen if isinstance(e, events.Custom)] == [{"cart": ["soup"]}]
    agrees(found, conversation)


async def silent(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("A plan that nobody hears.", id="plan")]}


async def speaks(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("What is heard.")]}


@pytest.mark.virtual_clock
async def test_what_silent_nodes_have_written_stays_in_the_thread() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node(silent)
    builder.add_node(speaks)
    builder.add_edge(START, "silent")
    builder.add_edge("silent", "speaks")
    found = LocalServer(builder)
    async with Conversation(found.remote(), speak=["speaks"]) as conversation:
        await conversation.run("Hello.")
        await conversation.run("Again.")
        thread = conversation.call.state.remote
    assert thread is not None
    assert [text for *_, text in found.held(thread.id)].count("A plan that nobody hears.") == 1
    assert [m.text for m in conversation.messages] == ["Hello.", "What is heard.", "Again.", "What is heard."]
