"""Results that come after a barge-in: remembered once, and spoken of once."""

import asyncio
import random
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from turn_support import hear, rest, told, until

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    StopResponse,
    Turn,
    create_voice_graph,
    events,
    function_tool,
)
from graph_voice.call import conversation as front_end
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


def slow_tool(seconds: float, name: str = "look_up", result: Any = "found it", **options: Any) -> Any:
    @function_tool(name=name, **options)
    async def look_up(ctx: RunContext[Any]) -> Any:
        """Look something up."""
        await asyncio.sleep(seconds)
        if isinstance(result, BaseException):
            raise result
        return ctx.handoff(result.to) if isinstance(result, Handoff) else result

    return look_up


def host(*tools: Any, script: Any, **options: Any) -> tuple[Conversation[Any], ScriptedModel]:
    model = ScriptedModel(script)
    agents = [Agent("host", instructions="You are the host.", tools=list(tools), **options)]
    agents += [Agent(way.to, instructions=f"You are {way.to}.") for way in options.get("handoffs", ())]
    return Conversation(create_voice_graph(agents, llm=model)), model


async def asked_and_cut_off(conversation: Conversation[Any], text: str = "look it up") -> Turn:
    """The caller asks, the tools begin, and the caller barges in after one second."""
    turn = conversation.turn(text)
    turn.commit()
    for asked in (await until(turn, events.ToolCalls)).calls:
        turn.allow(asked.id)
    await asyncio.sleep(1)
    turn.interrupt()
    return turn


async def announced(conversation: Conversation[Any]) -> list[events.Event]:
    turn = conversation.announce()
    assert turn is not None
    return await conversation.run(turn=turn)


def words(seen: list[events.Event]) -> str:
    return "".join(event.text for event in seen if isinstance(event, events.Text))


async def test_the_caller_is_answered_meanwhile_and_then_told_of_the_result_once() -> None:
    conversation, model = host(slow_tool(8), script=[call("look_up"), "I am still here.", "It was found."])
    asked: list[float] = []
    conversation.call.on_late_result = lambda: asked.append(asyncio.get_running_loop().time())
    first = await asked_and_cut_off(conversation)
    await conversation.run("are you there")
    assert [m.text for m in model.prompts[1].messages if isinstance(m, ToolMessage)] == [RUNNING]
    assert told(conversation)[1:3] == ["ai:  +call_1", f"tool: {RUNNING}"]
    assert (asked, conversation.announce()) == ([], None)
    first.close()
    await rest(first)
    assert asked[0] == 8.0
    assert words(await announced(conversation)) == "It was found."
    assert conversation.announce() is None
    assert told(conversation) == [
        "human: look it up",
        "ai:  +call_1",
        "tool: found it",
        "human: are you there",
        "ai: I am still here.",
        "ai: It was found.",
    ]
    last = model.prompts[-1].messages
    assert "`look_up`" in last[-1].text
    assert [m.text for m in last if isinstance(m, ToolMessage)] == ["found it"]
    check_invariants(conversation, effects=["call_1"], heard=["I am still here.", "It was found."])
    assert not model.errors


async def test_a_tool_may_have_its_late_result_only_remembered() -> None:
    conversation, _ = host(slow_tool(8, late="merge"), script=[call("look_up"), "I am here.", "It was found."])
    asked: list[str] = []
    conversation.call.on_late_result = lambda: asked.append("announce")
    first = await asked_and_cut_off(conversation)
    await conversation.run("are you there")
    await rest(first)
    first.close()
    assert (asked, conversation.announce()) == ([], None)
    assert words(await conversation.run("and")) == "It was found."


async def test_a_reply_that_knew_it_and_was_heard_makes_the_announcement_needless() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found."])
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    await conversation.run("and")
    assert conversation.announce() is None


@pytest.mark.parametrize("end", ["unheard", "discarded"])
async def test_a_reply_that_knew_it_and_was_not_heard_does_not(end: str) -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found.", "It was found, I said."])
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    second = conversation.turn("and")
    if end == "unheard":
        second.commit()
        await until(second, events.Text)
        second.interrupt()
        second.close()
    else:
        await until(second, events.Text)
        second.discard()
    await asyncio.sleep(1)
    assert words(await announced(conversation)) == "It was found, I said."


async def test_a_reply_that_was_begun_before_it_came_does_not_either() -> None:
    answer = say("I am here.", first_token=9.0)
    conversation, model = host(slow_tool(8), script=[call("look_up"), answer, "It was found."])
    first = await asked_and_cut_off(conversation)
    first.close()
    await conversation.run("are you there")
    assert [m.text for m in model.prompts[-1].messages if isinstance(m, ToolMessage)] == [RUNNING]
    assert words(await announced(conversation)) == "It was found."


async def test_a_result_that_its_own_turn_answers_is_not_late() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found."])
    asked: list[str] = []
    conversation.call.on_late_result = lambda: asked.append("announce")
    await conversation.run("look it up")
    assert (asked, conversation.announce()) == ([], None)


async def test_while_a_reply_that_knows_it_is_on_its_way_there_is_nothing_to_announce() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found."])
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    second = conversation.turn("and")
    second.commit()
    seen = await rest(second)
    assert conversation.announce() is None
    hear(second, seen)
    second.close()
    assert conversation.announce() is None


async def test_two_that_have_come_are_announced_together() -> None:
    tools = [slow_tool(4, "one", "first"), slow_tool(5, "two", "second")]
    conversation, model = host(*tools, script=[say(call("one"), call("two")), "I am here.", "Both came."])
    first = await asked_and_cut_off(conversation)
    await conversation.run("are you there")
    await rest(first)
    first.close()
    await announced(conversation)
    assert conversation.announce() is None
    last = model.prompts[-1].messages[-1].text
    assert "`one`" in last
    assert "`two`" in last


async def test_a_barge_in_before_the_first_word_of_it_leaves_it_to_be_told() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found.", "Found."])
    asked: list[str] = []
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    conversation.call.on_late_result = lambda: asked.append("announce")
    turn = conversation.announce()
    assert turn is not None
    assert conversation.announce() is None
    await until(turn, events.Text)
    turn.interrupt()
    turn.close()
    await asyncio.sleep(1)
    assert asked
    assert words(await announced(conversation)) == "Found."
    assert conversation.announce() is None


async def test_a_barge_in_behind_its_first_words_is_the_callers_will() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found.", "Fine."])
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    turn = conversation.announce()
    assert turn is not None
    said = await until(turn, events.Text)
    turn.heard(said.message_id, "It was")
    turn.interrupt()
    turn.close()
    await asyncio.sleep(1)
    assert conversation.announce() is None
    assert told(conversation)[-1] == "ai: It was"


@pytest.mark.parametrize(
    ("result", "options", "output"),
    [
        (ValueError("secret"), {}, "An internal error occurred."),
        ("never", {"timeout": 5.0}, "The tool did not answer within 5 seconds."),
    ],
)
async def test_a_failure_and_a_tool_that_never_ends_are_told_as_well(
    result: Any, options: dict[str, Any], output: str
) -> None:
    tool = slow_tool(4 if isinstance(result, Exception) else 1e9, result=result, **options)
    conversation, _ = host(tool, script=[call("look_up"), "It went wrong."])
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    assert told(conversation)[-1] == f"tool: {output}"
    assert words(await announced(conversation)) == "It went wrong."


async def test_a_tool_that_wants_no_reply_is_not_announced() -> None:
    conversation, _ = host(slow_tool(4, result=StopResponse()), script=[call("look_up")])
    first = await asked_and_cut_off(conversation)
    await rest(first)
    first.close()
    assert conversation.announce() is None


async def test_a_handoff_that_comes_late_does_not_happen_and_is_told() -> None:
    tool = slow_tool(4, result=Handoff("billing"))
    conversation, model = host(
        tool, script=[call("look_up"), "Shall I put you through now?"], handoffs=[Handoff("billing", tool=False)]
    )
    first = await asked_and_cut_off(conversation)
    assert not [event for event in await rest(first) if isinstance(event, events.HandedOff)]
    first.close()
    assert (
        told(conversation)[-1] == "tool: The transfer did not take place: the caller interrupted before the transfer."
    )
    await announced(conversation)
    assert model.agents[-1] == "host"
    check_invariants(conversation, current_agent="host")


async def test_the_agent_that_has_the_floor_by_then_speaks_of_it() -> None:
    model = ScriptedModel({"host": [call("look_up")], "billing": ["Billing speaking.", "By the way, it was found."]})
    agents = [
        Agent(
            "host", instructions="You are the host.", tools=[slow_tool(8)], handoffs=[Handoff("billing", tool=False)]
        ),
        Agent("billing", instructions="You are billing."),
    ]
    conversation = Conversation(create_voice_graph(agents, llm=model))
    first = await asked_and_cut_off(conversation)
    await conversation.update_agent("billing")
    await conversation.run()
    await rest(first)
    first.close()
    assert words(await announced(conversation)) == "By the way, it was found."
    # Billing begins afresh: it knows nothing of a call that the host made, so it is told what came of it.
    shown = model.prompts[-1].messages[-1].text
    assert "The call of `look_up` that host made has ended. Its result: found it" in shown


async def test_a_call_that_is_over_announces_nothing() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up")])
    asked: list[str] = []
    conversation.call.on_late_result = lambda: asked.append("announce")
    await asked_and_cut_off(conversation)
    await conversation.aclose()
    assert (asked, conversation.announce()) == ([], None)
    assert told(conversation)[-1] == "tool: found it"


async def test_a_run_in_text_that_is_given_up_leaves_a_late_result() -> None:
    conversation, _ = host(slow_tool(8), script=[call("look_up"), "It was found."])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await conversation.run("look it up")
    assert conversation.announce() is None
    await asyncio.sleep(10)
    assert words(await announced(conversation)) == "It was found."
    check_invariants(conversation, effects=["call_1"], heard=["It was found."])


def tells_what_is_new(messages: list[BaseMessage]) -> Any:
    """A model that looks up when it is asked to, and otherwise tells the results that nobody has told."""
    last = messages[-1]
    if isinstance(last, HumanMessage) and last.text == "look":
        return call("look_up", id=f"call-{last.id}")
    said = " ".join(m.text for m in messages if isinstance(m, AIMessage))
    news = [m.text for m in messages if isinstance(m, ToolMessage) and m.text != RUNNING and m.text not in said]
    return " ".join(news) or "Nothing new."


async def cut_off_after(turn: Turn, seconds: float) -> None:
    turn.commit()
    asyncio.get_running_loop().call_later(seconds, turn.interrupt)
    async for event in turn:
        front_end.hear(turn, event)
        if turn.interrupted:
            break
    await asyncio.sleep(0 if turn.interrupted else seconds)
    turn.close()


@pytest.mark.parametrize("seed", range(12))
async def test_at_random_each_result_is_told_of_exactly_once(seed: int) -> None:
    """The front end announces whenever it is asked to and nobody speaks, as LiveKit's does."""
    dice = random.Random(seed)
    ran: list[str] = []

    @function_tool
    async def look_up(ctx: RunContext[Any]) -> str:
        """Look something up."""
        ran.append(str(ctx.tool_call_id))
        await asyncio.sleep(dice.uniform(0.1, 6))
        return f"result-of-{ctx.tool_call_id}"

    conversation, model = host(look_up, script=tells_what_is_new)
    announcements: list[str] = []

    async def announce() -> None:
        while (turn := conversation.announce()) is not None:
            announcements.append(words(await conversation.run(turn=turn)))

    for _ in range(8):
        turn = conversation.turn(dice.choice(["look", "look", "hello"]))
        if dice.random() < 0.5:
            await cut_off_after(turn, dice.uniform(0.1, 3))
        else:
            await conversation.run(turn=turn)
        await asyncio.sleep(dice.choice([0, 0, 2]))
        if dice.random() < 0.7:
            await announce()
        check_invariants(conversation, effects=ran)
    await asyncio.sleep(10)
    await announce()
    check_invariants(conversation, effects=ran)
    said = " ".join(m.text for m in conversation.messages if isinstance(m, AIMessage)).split()
    assert sorted(word for word in said if word.startswith("result-of")) == sorted(f"result-of-{c}" for c in ran)
    assert "Nothing new." not in announcements
    assert not model.errors
