"""Fillers: one line while a slow tool keeps the caller waiting in silence."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from turn_support import told

from graph_voice import Agent, Conversation, RunContext, Turn, create_voice_graph, events, function_tool
from graph_voice.call.conversation import hear
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, check_prompt, say
from graph_voice.testing.clock import run as run_virtual
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


@dataclass
class Caller:
    name: str = "Ada"


def slow_tool(seconds: float, name: str = "look_up", says: str | None = None, **options: Any) -> Any:
    @function_tool(name=name, **options)
    async def look_up(ctx: RunContext[Caller]) -> str:
        """Look something up."""
        if says is not None:
            await ctx.say(says)
        await asyncio.sleep(seconds)
        return "found it"

    return look_up


def conversation_with(*tools: Any, script: Any = None) -> tuple[Conversation[Caller], ScriptedModel]:
    replies = [say("Let me see.", call("look_up")), "I found it."] if script is None else script
    model = ScriptedModel(replies)
    agent = Agent("host", instructions="Help.", tools=list(tools))
    return Conversation(create_voice_graph([agent], userdata=Caller, llm=model)), model


async def timed(turn: Turn) -> list[tuple[float, events.Event]]:
    """Every event, and the seconds since the turn began at which it came; everything is allowed and heard."""
    begin, seen = asyncio.get_running_loop().time(), []
    turn.commit()
    async for event in turn:
        seen.append((round(asyncio.get_running_loop().time() - begin, 3), event))
        hear(turn, event)
    turn.close()
    return seen


def lines(seen: list[tuple[float, events.Event]]) -> list[tuple[float, str]]:
    return [(at, event.text) for at, event in seen if isinstance(event, events.Say)]


async def test_it_is_said_after_its_delay_and_once() -> None:
    conversation, model = conversation_with(slow_tool(10, filler="One moment.", filler_after=2.0))
    assert lines(await timed(conversation.turn("look it up"))) == [(2.0, "One moment.")]
    assert not model.errors


async def test_it_counts_as_words_said_before_the_result_and_not_as_the_answer() -> None:
    conversation, model = conversation_with(slow_tool(10, filler="One moment."))
    await timed(conversation.turn("look it up"))
    assert told(conversation) == [
        "human: look it up",
        "ai: Let me see. One moment. +call_1",
        "tool: found it",
        "ai: I found it.",
    ]
    shown = model.prompts[-1].messages
    check_prompt(shown)
    assert [m.text for m in shown[-2:]] == ["Let me see. One moment.", "found it"]
    check_invariants(conversation, heard=["Let me see.", "One moment.", "I found it."])


async def test_a_result_that_comes_first_makes_it_needless() -> None:
    conversation, _ = conversation_with(slow_tool(1.4, filler="One moment.", filler_after=1.5))
    assert lines(await timed(conversation.turn("look it up"))) == []


async def test_several_slow_calls_of_one_batch_have_one_filler() -> None:
    first = slow_tool(10, "first", filler="The first.", filler_after=3.0)
    second = slow_tool(10, "second", filler="The second.", filler_after=2.0)
    script = [say(call("first"), call("second"), call("second")), "Both found."]
    conversation, _ = conversation_with(first, second, script=script)
    assert lines(await timed(conversation.turn("look it up"))) == [(2.0, "The second.")]


async def test_a_call_that_ended_has_no_filler_while_another_one_still_runs() -> None:
    quick = slow_tool(1.0, "quick", filler="Never said.", filler_after=2.0)
    script = [say(call("quick"), call("look_up")), "Both found."]
    conversation, _ = conversation_with(quick, slow_tool(10), script=script)
    assert lines(await timed(conversation.turn("look it up"))) == []


async def test_a_tool_that_speaks_for_itself_has_none() -> None:
    conversation, _ = conversation_with(slow_tool(10, says="I am looking.", filler="One moment."))
    assert lines(await timed(conversation.turn("look it up"))) == [(0.0, "I am looking.")]


async def test_the_silence_counts_not_the_run_time() -> None:
    conversation, _ = conversation_with(slow_tool(20, filler="One moment.", filler_after=2.0))
    turn = conversation.turn("look it up")
    turn.commit()
    said = []
    async for event in turn:
        match event:
            case events.ToolCalls(calls=calls):
                turn.allow(calls[0].id)
                await asyncio.sleep(7)  # so long the words before the call are played
                step = next(turn.record.steps())
                turn.heard(step.words.id, step.words.produced)
            case events.Say(text=text):
                said.append((asyncio.get_running_loop().time(), text))
                hear(turn, event)
            case _:
                pass
    assert said == [(9.0, "One moment.")]
    turn.close()


async def test_it_waits_while_another_turn_speaks() -> None:
    script = [say(call("look_up")), "Hello.", "I found it."]
    conversation, _ = conversation_with(slow_tool(20, filler="One moment.", filler_after=2.0), script=script)
    first = asyncio.create_task(timed(conversation.turn("look it up")))
    await asyncio.sleep(1)
    other = conversation.turn("hi")
    other.commit()
    async for event in other:
        if isinstance(event, events.Text):
            spoken = event
    await asyncio.sleep(4)  # its words are played until second 5
    other.heard(spoken.message_id, "Hello.")
    other.close()
    assert lines(await first) == [(7.0, "One moment.")]


async def test_a_barge_in_makes_it_needless() -> None:
    conversation, _ = conversation_with(slow_tool(10, filler="One moment.", filler_after=2.0))
    turn = conversation.turn("look it up")
    asyncio.get_running_loop().call_later(1.0, turn.interrupt)
    assert lines(await timed(turn)) == []


async def test_what_was_not_heard_of_it_is_not_remembered() -> None:
    conversation, _ = conversation_with(slow_tool(10, filler="One moment please."))
    turn = conversation.turn("look it up")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.Say):
            turn.heard(event.message_id, "One")
        else:
            hear(turn, event)
    turn.close()
    assert told(conversation)[1] == "ai: Let me see. One +call_1"


@pytest.mark.parametrize(
    ("filler", "said"),
    [
        (lambda caller: f"One moment, {caller.name}.", ["One moment, Ada."] * 3),
        (["One moment.", "I am looking."], ["One moment.", "I am looking.", "One moment."]),
        (lambda caller: None, []),
    ],
)
async def test_it_may_be_a_function_of_the_userdata_or_lines_in_turn(filler: Any, said: list[str]) -> None:
    script = [reply for _ in range(3) for reply in (say(call("look_up")), "Found.")]
    conversation, _ = conversation_with(slow_tool(10, filler=filler), script=script)
    found = [lines(await timed(conversation.turn("look it up"))) for _ in range(3)]
    assert [text for turn in found for _, text in turn] == said


async def test_one_that_fails_is_not_worth_the_call() -> None:
    def broken(caller: Caller) -> str:
        raise RuntimeError("no line")

    conversation, _ = conversation_with(slow_tool(10, filler=broken))
    assert lines(await timed(conversation.turn("look it up"))) == []
    assert told(conversation)[-1] == "ai: I found it."


async def test_any_other_tool_declares_it_in_its_metadata() -> None:
    @tool
    async def look_up() -> str:
        """Look something up."""
        await asyncio.sleep(10)
        return "found it"

    look_up.metadata = {"filler": "One moment.", "filler_after": 3}
    conversation, _ = conversation_with(look_up)
    assert lines(await timed(conversation.turn("look it up"))) == [(3.0, "One moment.")]


async def test_outside_a_turn_nobody_waits_so_nothing_is_said() -> None:
    model = ScriptedModel([say("Let me see.", call("look_up")), "I found it."])
    agent = Agent("host", instructions="Help.", tools=[slow_tool(10, filler="One moment.")])
    state = await create_voice_graph([agent], userdata=Caller, llm=model).compile().ainvoke({"messages": "look it up"})
    assert [m.text for m in state["messages"] if isinstance(m, AIMessage)] == ["Let me see.", "I found it."]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"filler": 3}, "filler=3 can't be said"),
        ({"filler": []}, r"filler=\[\] can't be said"),
        ({"filler": "One moment.", "filler_after": 0}, "filler_after=0 must be a number of seconds above 0"),
        ({"late": "never"}, 'late=\'never\' is unknown. Write late="announce" or "merge"'),
    ],
)
def test_what_can_not_work_is_refused_by_name(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BuildError, match=f'tool "look_up": {problem}'):
        slow_tool(1, **options)


def seconds_off(fraction: float) -> st.SearchStrategy[float]:
    """Tenths of a second, off the beat: what ends, what is due and what cuts in never fall on one instant."""
    return st.integers(1, 60).map(lambda n: round(n / 10 + fraction, 3))


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.tuples(seconds_off(0.05), st.none() | seconds_off(0.0)), min_size=1, max_size=4),
    barge_in=st.none() | seconds_off(0.02),
)
def test_whatever_the_timing_there_is_at_most_one_and_it_was_due(
    calls: list[tuple[float, float | None]], barge_in: float | None
) -> None:
    """`calls`: the seconds that each call takes, and after which its filler is said, if it has one."""
    tools = [
        slow_tool(seconds, f"tool_{n}", **({} if after is None else {"filler": f"Filler {n}.", "filler_after": after}))
        for n, (seconds, after) in enumerate(calls)
    ]
    script = [say(*(call(f"tool_{n}") for n in range(len(calls)))), "Done."]

    async def go() -> tuple[Conversation[Caller], list[tuple[float, str]]]:
        conversation, model = conversation_with(*tools, script=script)
        turn = conversation.turn("go")
        if barge_in is not None:
            asyncio.get_running_loop().call_later(barge_in, turn.interrupt)
        found = lines(await timed(turn))
        assert not model.errors
        return conversation, found

    conversation, found = run_virtual(go())
    due = [after for seconds, after in calls if after is not None and after < seconds]
    cut = barge_in is not None and barge_in < min(due, default=0.0)
    assert [at for at, _ in found] == ([] if cut or not due else [min(due)])
    check_invariants(conversation)
