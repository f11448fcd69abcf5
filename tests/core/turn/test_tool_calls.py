"""Permission for tool calls: what may be said when, and what becomes of calls that never start."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from turn_support import one_agent, play, rest, told, until

from graph_voice import RunContext, events, function_tool
from graph_voice.errors import TurnError
from graph_voice.testing import call, hang, say
from graph_voice.testing.invariants import check_invariants
from graph_voice.turn.state import TurnState

pytestmark = pytest.mark.virtual_clock
ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@function_tool
async def book(ctx: RunContext[Any]) -> str:
    """Book."""
    ran.append(str(ctx.tool_call_id))
    await asyncio.sleep(2)
    ctx.userdata["booked"] = True
    return "booked"


@function_tool
async def look(ctx: RunContext[Any]) -> str:
    """Look."""
    ran.append(str(ctx.tool_call_id))
    return f"host {ctx.host}"


async def test_no_tool_runs_without_permission() -> None:
    conversation = one_agent([say("One moment.", call("look")), "Done."], look)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    await asyncio.sleep(5)
    assert ran == []
    turn.allow("call_1", host="LiveKit's context")
    assert (await until(turn, events.ToolResult)).output == "host LiveKit's context"
    await rest(turn)
    turn.close()
    check_invariants(conversation, effects=ran)


async def test_allow_before_commit_is_an_error_and_runs_nothing() -> None:
    conversation = one_agent([say(call("look")), "Done."], look)
    turn = conversation.turn("hi")
    await until(turn, events.ToolCalls)
    with pytest.raises(TurnError, match=r"allow\('call_1'\) before commit"):
        turn.allow("call_1")
    await asyncio.sleep(1)
    assert ran == []
    turn.discard()
    with pytest.raises(TurnError, match="discarded"):
        turn.allow("call_1")
    assert conversation.messages == []


@pytest.mark.parametrize("method", ["allow", "resolve", "deny"])
async def test_a_call_that_nobody_asked_for_is_an_error(method: str) -> None:
    conversation = one_agent(["Hello."])
    turn = conversation.turn("hi")
    turn.commit()
    arguments = [] if method == "allow" else ["text"]
    with pytest.raises(TurnError, match=rf"{method}\('nobody'\): this turn made no such tool call"):
        getattr(turn, method)("nobody", *arguments)
    await play(turn)


async def test_the_first_answer_to_a_call_counts() -> None:
    conversation = one_agent([say(call("look")), "Done."], look)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.deny("call_1", "no")
    turn.allow("call_1")
    turn.resolve("call_1", "mock")
    result = await until(turn, events.ToolResult)
    assert (result.output, result.is_error, ran) == ("not done: no", True, [])
    await rest(turn)
    turn.close()
    assert told(conversation)[1:3] == ["ai:  +call_1", "tool: not done: no"]


async def test_a_resolved_call_does_not_run_and_its_result_is_the_front_ends() -> None:
    conversation = one_agent([say(call("look")), "Done."], look)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.resolve("call_1", "from a mock", is_error=True)
    result = await until(turn, events.ToolResult)
    assert (result.output, result.is_error, ran) == ("from a mock", True, [])
    await rest(turn)
    turn.close()
    assert told(conversation) == ["human: hi", "ai:  +call_1", "tool: from a mock"]


async def test_a_running_call_has_a_placeholder_until_its_result_comes() -> None:
    conversation = one_agent([say(call("book")), "Done."], book)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.allow("call_1")
    await asyncio.sleep(1)
    assert told(conversation)[-1] == "tool: The tool call is still in progress."
    check_invariants(conversation, effects=ran)
    await rest(turn)
    assert told(conversation)[-1] == "tool: booked"
    results = [m for m in conversation.messages if isinstance(m, ToolMessage)]
    assert len(results) == 1
    turn.close()


async def test_a_barge_in_lets_running_tools_end_and_starts_no_other() -> None:
    conversation = one_agent([say("Yes.", call("book"), call("look"))], book, look)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.allow("call_1")
    await asyncio.sleep(1)
    turn.interrupt()
    turn.allow("call_2")
    await rest(turn)
    turn.close()
    assert ran == ["call_1"]
    assert told(conversation) == [
        "human: hi",
        "ai:  +call_1 +call_2",
        "tool: booked",
        "tool: not done: the tool call was not executed.",
    ]
    assert conversation.userdata == {"booked": True}
    check_invariants(conversation, effects=ran, heard=[], said=["hi"])


@pytest.mark.parametrize("end", ["interrupt", "close"])
async def test_a_batch_of_which_nothing_started_is_as_if_it_had_not_been(end: str) -> None:
    conversation = one_agent([say("One moment.", call("book"), call("look"))], book, look)
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await until(turn, events.ToolCalls)
    turn.heard(words.message_id, "One moment.")
    getattr(turn, end)()
    await rest(turn)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: One moment."]
    assert ran == []


async def test_a_tool_outlives_its_turn_and_its_result_is_remembered() -> None:
    conversation = one_agent([say(call("book")), "Done."], book)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.allow("call_1")
    await asyncio.sleep(1)
    turn.close()
    assert not turn.finished
    assert told(conversation)[-1] == "tool: The tool call is still in progress."
    await turn.wait_finished()
    assert told(conversation) == ["human: hi", "ai:  +call_1", "tool: booked"]


async def test_aclose_waits_for_running_tools() -> None:
    conversation = one_agent([say(call("book")), "Done."], book)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.allow("call_1")
    await asyncio.sleep(1)
    await conversation.aclose()
    assert (turn.state, turn.finished) == (TurnState.CLOSED, True)
    assert told(conversation)[-1] == "tool: booked"
    await conversation.aclose()


async def test_a_barge_in_stops_a_model_that_hangs() -> None:
    conversation = one_agent([hang(2, text="Well you see")])
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await until(turn, events.Text)
    turn.heard(words.message_id, "Well")
    turn.interrupt()
    turn.interrupt()
    await rest(turn)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: Well"]
    assert conversation.messages[-1].additional_kwargs["interrupted"] is True


async def test_a_turn_interrupted_before_its_first_step_asks_no_model() -> None:
    conversation = one_agent(["Hello."])
    turn = conversation.turn("hi")
    turn.commit()
    turn.interrupt()
    assert [type(e) for e in await rest(turn)] == [events.Ended]
    turn.close()
    assert told(conversation) == ["human: hi"]
