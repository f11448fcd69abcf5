"""Several turns at once: each keeps its own, and memory is ordered by when things happened."""

import asyncio
from typing import Any

import pytest
from turn_support import one_agent, play, rest, told, until

from graph_voice import RunContext, events, function_tool
from graph_voice.errors import TurnError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice.turn.state import TurnState

pytestmark = pytest.mark.virtual_clock


@function_tool
async def slow(ctx: RunContext[Any]) -> str:
    """Take five seconds."""
    await asyncio.sleep(5)
    ctx.userdata["slow"] = True
    return "found"


async def test_a_deferred_reply_comes_behind_what_was_said_meanwhile() -> None:
    model = ScriptedModel([say(call("slow")), "Hello.", "Again.", "More.", "It was found."])
    conversation = one_agent(model, slow)
    first = conversation.turn("search")
    first.commit(at=100)
    first.allow((await until(first, events.ToolCalls)).calls[0].id)
    await asyncio.sleep(1)
    for n, text in enumerate(("hi", "hey", "ho")):
        await play(conversation.turn(text), at=2_000_000_100 + n)
        check_invariants(conversation)
    words = await until(first, events.Text)
    await rest(first)
    first.heard(words.message_id, "It was found.", at=2_000_000_200)
    first.close()
    assert told(conversation) == [
        "human: search",
        "ai:  +call_1",
        "tool: found",
        "human: hi",
        "ai: Hello.",
        "human: hey",
        "ai: Again.",
        "human: ho",
        "ai: More.",
        "ai: It was found.",
    ]
    assert conversation.userdata == {"slow": True}


@function_tool
async def narrated(ctx: RunContext[Any]) -> str:
    """Say what it does, before and behind something slow."""
    await ctx.say("I look.")
    await ctx.say("Still looking.")
    return "found"


async def test_what_a_tool_says_behind_other_words_stands_where_it_was_heard() -> None:
    conversation = one_agent([say(call("narrated")), "It was found.", "Bye."], narrated)
    turn = conversation.turn("search")
    turn.commit(at=100)
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    began = (await until(turn, events.Say)).message_id
    turn.heard(began, "I look.", at=2_000_000_101)
    conversation.add({"role": "assistant", "content": "A word from the house."}, at=2_000_000_102)
    went_on = await until(turn, events.Say)
    turn.heard(went_on.message_id, "Still looking.", at=2_000_000_103)
    words = await until(turn, events.Text)
    await rest(turn)
    turn.heard(words.message_id, "It was found.", at=2_000_000_104)
    turn.close()
    expected = [
        "human: search",
        "ai: I look. +call_1",
        "tool: found",
        "ai: A word from the house.",
        "ai: Still looking.",
        "ai: It was found.",
    ]
    assert told(conversation) == expected
    assert conversation.messages[4].id == went_on.message_id
    check_invariants(conversation, heard=["I look.", "A word from the house.", "Still looking.", "It was found."])
    await play(conversation.turn("thanks"), at=2_000_000_105)
    assert told(conversation)[: len(expected)] == expected


@pytest.mark.parametrize("reply_is_heard", [True, False])
async def test_a_line_is_not_moved_when_the_past_ends_in_front_of_it(reply_is_heard: bool) -> None:
    """The caller's next turn is over and would be past, while the line of a tool that it overtook is still to come."""
    conversation = one_agent([say(call("narrated")), "Hello.", "Again.", "More.", "It was found."], narrated)
    first = conversation.turn("search")
    first.commit(at=100)
    first.allow((await until(first, events.ToolCalls)).calls[0].id)
    began = (await until(first, events.Say)).message_id
    first.heard(began, "I look.", at=101)
    went_on = (await until(first, events.Say)).message_id
    for n, text in enumerate(("hi", "hey", "ho")):
        await play(conversation.turn(text), at=2_000_000_200 + 10 * n)
    first.heard(went_on, "Still looking.", at=2_000_000_215)
    words = await until(first, events.Text)
    await rest(first)
    if reply_is_heard:
        first.heard(words.message_id, "It was found.", at=2_000_000_240)
    first.close()
    expected = [
        "human: search",
        "ai: I look. +call_1",
        "tool: found",
        "human: hi",
        "ai: Hello.",
        "human: hey",
        "ai: Again.",
        "ai: Still looking.",
        "human: ho",
        "ai: More.",
        *(["ai: It was found."] if reply_is_heard else []),
    ]
    assert told(conversation) == expected
    for n in range(3):
        await play(conversation.turn("bye"), at=2_000_000_300 + n)
        assert told(conversation)[: len(expected)] == expected


async def test_the_order_is_the_front_ends_not_that_of_the_commits() -> None:
    conversation = one_agent(["One.", "Two."])
    one, two = conversation.turn("first"), conversation.turn("second")
    two.commit(at=20)
    one.commit(at=10)
    await rest(one)
    await rest(two)
    one.close()
    two.close()
    conversation.add({"role": "user", "content": "between"}, at=15)
    assert told(conversation) == ["human: first", "human: between", "human: second"]


async def test_words_that_are_dated_back_find_their_place_behind_the_past() -> None:
    conversation = one_agent(["One.", "Two.", "Three."])
    for n, text in enumerate("abc"):
        await play(conversation.turn(text), at=10.0 * n + 10)
    conversation.add(("user", "late"), at=25)
    assert [line for line in told(conversation) if "human" in line] == [
        "human: a",
        "human: b",
        "human: late",
        "human: c",
    ]


async def test_words_that_are_dated_back_find_their_place_in_the_past() -> None:
    """LiveKit dates the caller's words back to when they were said, however late they are answered."""
    conversation = one_agent(["One.", "Two.", "Three.", "Four.", "Five.", "Late.", "Six.", "Seven.", "Eight."])
    for n, text in enumerate("abcde"):
        await play(conversation.turn(text), at=10.0 * n + 10)
    assert len(conversation.call.state.live.turns) < 5
    await play(conversation.turn("late"), at=15)
    expected = ["a", "late", "b", "c", "d", "e"]
    assert [line.removeprefix("human: ") for line in told(conversation) if "human" in line] == expected
    check_invariants(conversation, said=expected)
    for n, text in enumerate("fgh"):
        await play(conversation.turn(text), at=60.0 + n)
        expected.append(text)
        check_invariants(conversation, said=expected)


async def test_starting_a_turn_leaves_an_uncommitted_one_alone() -> None:
    conversation = one_agent(["One.", "Two."])
    queued, live = conversation.turn("queued"), conversation.turn("live")
    await play(live)
    queued.commit()
    await play(queued)
    assert told(conversation) == ["human: live", "ai: Two.", "human: queued", "ai: One."]


async def test_discarding_a_queued_turn_leaves_the_live_one_alone() -> None:
    conversation = one_agent(["One.", "Two."])
    live, queued = conversation.turn("live"), conversation.turn("queued")
    live.commit()
    queued.discard()
    assert [type(e) for e in await rest(queued)] == [events.Ended]
    await play(live)
    assert told(conversation) == ["human: live", "ai: One."]


async def test_a_turn_discarded_before_its_first_step_ends_and_asks_nobody() -> None:
    model = ScriptedModel(["One."])
    conversation = one_agent(model)
    turn = conversation.turn("perhaps")
    turn.discard()
    turn.discard()
    assert [type(e) for e in await rest(turn)] == [events.Ended]
    await turn.wait_finished()
    assert (model.prompts, conversation.messages) == ([], [])
    with pytest.raises(TurnError, match="was discarded"):
        turn.commit()


async def test_a_committed_turn_cannot_be_discarded() -> None:
    conversation = one_agent(["One."])
    turn = conversation.turn("hi")
    turn.commit()
    turn.commit("other words")
    with pytest.raises(TurnError, match=r"was committed\. Expected: interrupt"):
        turn.discard()
    await play(turn)
    assert told(conversation) == ["human: hi", "ai: One."]


async def test_closing_a_turn_that_was_never_committed_discards_it() -> None:
    conversation = one_agent(["One."])
    turn = conversation.turn("perhaps")
    await rest(turn)
    turn.close()
    assert (turn.state, conversation.messages) == (TurnState.DISCARDED, [])


async def test_the_final_transcript_is_what_is_remembered() -> None:
    conversation = one_agent(["One."])
    turn = conversation.turn("hel", message_id="m1")
    await rest(turn)
    turn.commit("hello")
    turn.close()
    assert [(m.id, m.text) for m in conversation.messages] == [("m1", "hello")]


async def test_iteration_can_be_left_and_taken_up_again() -> None:
    conversation = one_agent(["One two three."])
    turn = conversation.turn("hi")
    turn.commit()
    async for event in turn:
        assert isinstance(event, events.Text)
        break
    seen = await rest(turn)
    assert "".join(e.text for e in seen if isinstance(e, events.Text)) == " two three."
    assert [e async for e in turn] == []
    turn.close()


async def test_a_speculative_turn_runs_ahead_and_leaves_no_trace_when_discarded() -> None:
    model = ScriptedModel(["One.", "Two."])
    conversation = one_agent(model)
    before = dict(conversation.state)
    turn = conversation.turn("perhaps")
    words = await until(turn, events.Text)
    await rest(turn)
    turn.heard(words.message_id, "One.")
    assert conversation.messages == []
    turn.discard()
    assert conversation.state == before
    await play(conversation.turn("hi"))
    assert [m.text for m in model.prompts[1].messages[1:]] == ["hi"]


async def test_the_past_stays_short_in_a_long_call() -> None:
    conversation = one_agent(lambda messages: "Yes.")
    for n in range(20):
        await play(conversation.turn(str(n)))
    assert len(conversation.call.state.live.turns) <= 3
    assert len(conversation.messages) == 40
