"""A scripted call: what the caller does at which moment, and what a test may ask of it."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from pydantic import BaseModel

from graph_voice import Agent, Handoff, LiveSaver, RunContext, ToolError, create_voice_graph, events, function_tool
from graph_voice.errors import MissingDependencyError, TurnError
from graph_voice.testing import Call, PlanError, ScriptedModel, call, fail, invariants, say
from graph_voice.testing.core_front_end import CoreFrontEnd
from graph_voice.testing.happened import AgentHandoff, FunctionCall, FunctionCallOutput, Message
from graph_voice.testing.severed import SeverableSaver
from graph_voice.turn.tool_run import ToolRun

pytestmark = pytest.mark.virtual_clock
HELLO = "Hello there."
FRONT_END = "core"
"""On which the scenarios are played; tests/livekit/testing/test_front_end.py plays them on the other one."""


class Caller(BaseModel):
    day: str | None = None


@function_tool
async def book(ctx: RunContext[Caller], day: str) -> str:
    """Book a table."""
    await asyncio.sleep(4)
    ctx.userdata.day = day
    return f"booked for {day}"


def phone(*replies: Any, tools: Any = (book,), script: Any = None, **options: Any) -> Call[Caller]:
    desk = Agent(
        "desk",
        instructions="You take bookings.",
        tools=list(tools),
        on_enter="Greet.",
        handoffs=[Handoff("billing", "To billing.", say="Let me put you through to billing now.")],
    )
    billing = Agent("billing", instructions="You do bills.", on_enter="Say who you are.")
    graph = create_voice_graph([desk, billing], userdata=Caller)
    return Call(graph, llm=ScriptedModel(script or [HELLO, *replies]), **{"front_end": FRONT_END, **options})


async def test_a_call_in_livekits_words() -> None:
    began = asyncio.get_running_loop().time()
    async with phone(say("One moment.", call("book", {"day": "Friday"})), "See you on Friday.") as it:
        assert it.greeting.heard == HELLO
        result = await it.says("A table for Friday, please.")
        result.expect.next_event().is_message(role="assistant", agent="desk")
        expect = result.expect.skip_next()
        expect.next_event().is_function_call(name="book", arguments={"day": "Friday"})
        expect.next_event().is_function_call_output(output="booked for Friday", is_error=False)
        assert expect.next_event().is_message().event().text == "See you on Friday."
        expect.no_more_events()
        assert result.expect[0].is_message().event().text == "One moment."
        result.expect[:].contains_function_call(name="book")
        result.expect.contains_message(agent="desk")
        assert result.expect.skip_next_event_if(type="function_call") is None
        assert result.expect.next_event(type="function_call_output").event() == FunctionCallOutput(
            "desk", "book", "booked for Friday", False, "call_1"
        )
        assert it.userdata.day == "Friday"
        assert it.effects.count("book") == 1
        assert it.heard == [HELLO, "One moment.", "See you on Friday."]
        assert 4 < result.seconds < 12
    assert asyncio.get_running_loop().time() - began < 20


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda e: e.next_event().is_function_call(), "expected function_call, it is Message"),
        (lambda e: e.next_event().is_message(agent="billing"), "expected agent='billing', it is 'desk'"),
        (lambda e: e.contains_agent_handoff(new_agent="billing"), "no agent_handoff.new_agent='billing'. among the 1"),
        (lambda e: e.no_more_events(), "there are 1 more events"),
        (lambda e: e.skip_next(2), "expected 2 more events"),
        (lambda e: e[4], "there is no event 4"),
        (lambda e: e.next_event(type="function_call"), "the 1 events are over"),
    ],
)
async def test_a_wrong_expectation_is_told_with_the_transcript(ask: Any, says: str) -> None:
    async with phone("Sure.") as it:
        result = await it.says("Hi.")
        with pytest.raises(AssertionError, match=says) as raised:
            ask(result.expect)
        assert "caller says: Hi." in str(raised.value)
        assert "desk: Sure." in str(raised.value)


async def test_an_unknown_type_is_told() -> None:
    async with phone("Sure.") as it:
        result = await it.says("Hi.")
        with pytest.raises(ValueError, match="write one of message"):
            result.expect.next_event(type="words")


async def test_a_judge_that_is_asked_for_an_intent() -> None:
    async with phone("We open at nine.") as it:
        result = await it.says("When do you open?")
        yes = ScriptedModel([call("check_intent", {"success": True, "reason": "it does"})])
        await result.expect.next_event().is_message().judge(yes, intent="says the opening hours")
        no = ScriptedModel([call("check_intent", {"success": False, "reason": "it is cold"})])
        with pytest.raises(AssertionError, match="it is cold"):
            await result.expect.next_event().is_message().judge(no, intent="is warm")
        assert "We open at nine." in no.prompts[0].messages[-1].text


async def test_a_caller_who_cuts_in_after_some_words() -> None:
    async with phone("One two three four five six seven eight nine ten.", "I stop.") as it:
        it.barge_in("Stop.", after_words=7)
        result = await it.says("Count.")
        first = result.expect.next_event().is_message().event()
        assert (first.text, first.interrupted) == ("One two three four five six seven", True)
        assert result.heard == "One two three four five six seven I stop."
        assert "seven | CUT, not heard: eight nine ten." in it.transcript
        assert [m.text for m in it.messages if isinstance(m, AIMessage)][1] == "One two three four five six seven"
        assert it.said == ["Count.", "Stop."]


async def test_a_noise_costs_no_word() -> None:
    async with phone("One two three four five six.") as it:
        it.barge_in(None, after_words=3)
        result = await it.says("Count.")
        assert result.heard == "One two three four five six."
        assert it.said == ["Count."]


async def test_a_caller_who_cuts_in_while_a_tool_runs_does_not_stop_it() -> None:
    async with phone(call("book", {"day": "Friday"}), "I am on it.", "It is booked.") as it:
        it.during_tool("book").says("Hurry!")
        result = await it.says("Friday.")
        assert result.heard == "I am on it."
        later = await it.silence(10)
        assert later.heard == "It is booked."  # the late result is told by itself
        assert it.effects.count("book") == 1
        assert it.userdata.day == "Friday"


async def test_a_caller_who_cuts_in_while_the_floor_changes_keeps_it_where_it_was() -> None:
    desk = [HELLO, call("transfer_to_billing"), "I am still here.", call("transfer_to_billing")]
    async with phone(script={"desk": desk, "billing": lambda messages: "Billing."}) as it:
        it.during_handoff().says("No, wait.")
        result = await it.says("My bill.")
        assert not [item for item in result.items if isinstance(item, AgentHandoff)]
        assert result.heard == "Let I am still here."
        assert it.current_agent == it.active_agent == "desk"
        result = await it.says("Now, please.")
        result.expect.contains_agent_handoff(new_agent="billing", old_agent="desk")
        assert result.heard == "Let me put you through to billing now. Billing."
        assert it.current_agent == it.active_agent == "billing"


async def test_a_guess_that_was_wrong_leaves_nothing_and_one_that_was_right_is_kept() -> None:
    async with phone(call("book", {"day": "nine"}), "Ninety it is.", "Yes.") as it:
        result = await it.speculates("Charge nine").then_says("Charge ninety")
        assert result.items == [Message("desk", "Ninety it is.", False, result.items[0].message_id)]
        assert len(it.effects) == 0
        result = await it.speculates("Right?").then_says("Right?")
        assert result.heard == "Yes."
        assert it.said == ["Charge ninety", "Right?"]
        assert [m.text for m in it.messages if isinstance(m, HumanMessage)] == it.said


async def test_a_process_that_dies_in_a_tool() -> None:
    async with phone(call("book", {"day": "Friday"}), "I don't know whether.", "Fine.", saver=InMemorySaver()) as it:
        it.during_tool("book").crash()
        await it.says("Friday.")
        with pytest.raises(TurnError, match="resume"):
            await it.says("Hello?")
        result = await it.resume()
        assert result.heard == "I don't know whether."
        assert "unknown" in next(m.text for m in it.messages if m.type == "tool")
        assert it.effects.count("book") == 1
        assert (await it.says("All right.")).heard == "Fine."


async def test_an_idempotent_tool_runs_again_with_the_same_id() -> None:
    @function_tool(idempotent=True)
    async def note(ctx: RunContext[Caller]) -> str:
        """Note."""
        await asyncio.sleep(2)
        return "noted"

    async with phone(call("note"), "Noted again.", tools=[note], saver=InMemorySaver()) as it:
        it.during_tool("note").crash()
        await it.says("Note it.")
        result = await it.resume()
        assert result.heard == "Noted again."
        assert it.effects.call_ids == ["call_1", "call_1"]
        assert [run.outcome for run in it.effects] == ["cancelled", "done"]


async def test_a_crash_between_turns_keeps_the_call() -> None:
    async with phone("Sure.", "The line was cut.", "Go on.", saver=InMemorySaver()) as it:
        await it.says("Hi.")
        await it.silence(2)
        await it.crash().resume()
        await it.says("And?")
        assert [m.text for m in it.messages] == [HELLO, "Hi.", "Sure.", "The line was cut.", "And?", "Go on."]


async def test_a_crash_and_what_the_next_process_does_may_be_apart() -> None:
    async with phone("Sure.", "Go on.", saver=InMemorySaver(), on_resume=lambda resumed: None) as it:
        await it.says("Hi.")
        assert await it.crash() is it
        assert it.crashes == 1
        assert (await it.resume()).items == []
        assert (await it.says("And?")).heard == "Go on."


async def test_a_crash_without_a_store_says_what_to_write() -> None:
    async with phone("Sure.") as it:
        with pytest.raises(TurnError, match=r"saver=InMemorySaver\(\)"):
            await it.crash()
        with pytest.raises(TurnError, match="is still running"):
            await it.resume()
    with pytest.raises(TurnError, match="the durable checkpointer itself"):
        phone(saver=LiveSaver(InMemorySaver()))


async def test_a_moment_that_never_came_is_an_error() -> None:
    async with phone("Sure.", "And?") as it:
        it.during_tool("book").says("Hurry!")
        with pytest.raises(PlanError, match="cut in with 'Hurry!' during the tool book"):
            await it.says("Hi.")
        it.barge_in("Stop.", after_words=40)
        with pytest.raises(PlanError, match="after 40 words"):
            await it.says("Hi again.")


async def test_mocks_answer_in_the_place_of_tools() -> None:
    def fails() -> str:
        raise ToolError("we are full")

    async with phone(
        call("book", {"day": "Friday"}), "Done.", mocks={"desk": {"book": lambda day: f"mocked {day}"}}
    ) as it:
        result = await it.says("Friday.")
        result.expect.contains_function_call_output(output="mocked Friday", is_error=False)
        assert len(it.effects) == 0
    async with phone(call("book", {"day": "x"}), "Sorry.", mocks={"desk": {"book": lambda day: fails()}}) as it:
        result = await it.says("x")
        result.expect.contains_function_call_output(output="we are full", is_error=True)


async def test_a_mock_runs_beside_the_voice_and_the_other_calls_of_its_batch() -> None:
    @function_tool
    async def look_up(ctx: RunContext[Caller]) -> str:
        """Look up."""
        await asyncio.sleep(4)
        return "found"

    async def slow(day: str) -> str:
        await asyncio.sleep(4)
        return f"mocked {day}"

    batch = say("One moment.", call("book", {"day": "Friday"}), call("book", {"day": "Sunday"}), call("look_up"))
    async with phone(batch, "Done.", tools=[book, look_up], mocks={"desk": {"book": slow}}) as it:
        result = await it.says("Friday or Sunday.")
        outputs = [item.output for item in result.items if isinstance(item, FunctionCallOutput)]
        assert outputs == ["mocked Friday", "mocked Sunday", "found"]
        assert result.heard == "One moment. Done."
        assert result.seconds < 9
        assert [run.tool for run in it.effects] == ["look_up"]


async def test_a_moment_of_a_mocked_tool_is_that_of_its_mock() -> None:
    async def slow(day: str) -> str:
        await asyncio.sleep(4)
        return "mocked"

    async with phone(call("book", {"day": "x"}), "Yes?", mocks={"desk": {"book": slow}}) as it:
        it.during_tool("book").says("Wait.")
        assert (await it.says("Friday.")).heard == "Yes?"
        assert it.said == ["Friday.", "Wait."]


async def test_a_mock_of_what_is_not_there_is_refused_before_the_real_tool_runs() -> None:
    for mocks, told in (
        ({"desc": {"book": lambda day: ""}}, r'"desc".*agents are billing, desk'),
        ({"desk": {"bok": lambda day: ""}}, r'"bok".*the tools of desk are book, transfer_to_billing'),
    ):
        it = phone(call("book", {"day": "Friday"}), "Done.", mocks=mocks)
        with pytest.raises(TurnError, match=told):
            await it.says("Friday.")
        assert len(it.effects) == 0


async def test_a_script_that_is_too_short_is_told_although_the_agent_apologises() -> None:
    it = phone("Sure.")
    await it.says("Hi.")
    assert "sorry" in (await it.says("And?")).heard
    with pytest.raises(AssertionError, match=r"did not answer:\n- The script .* one more was asked for") as raised:
        await it.close()
    assert "caller says: And?" in str(raised.value)
    async with phone("Sure.", check=False) as it:
        await it.says("Hi.")
        await it.says("And?")


async def test_a_model_that_fails_on_purpose_is_no_wrong_script() -> None:
    async with phone(fail(TimeoutError(), after_tokens=1, text="One moment."), "Sure.") as it:
        assert "sorry" in (await it.says("Hi.")).heard


async def test_a_call_that_was_closed_is_over() -> None:
    it = phone("Sure.")
    await it.says("Hi.")
    await it.close()
    await it.close()
    with pytest.raises(TurnError, match="was closed"):
        await it.says("Hello?")


async def test_there_is_nothing_to_cut_into_before_the_first_word() -> None:
    async with phone() as it:
        with pytest.raises(ValueError, match="write 1"):
            it.barge_in(after_words=0)


async def test_what_the_program_does() -> None:
    async with phone("Billing.", "Anything else?") as it:
        assert (await it.program_says("We close in five minutes.")).heard == "We close in five minutes."
        assert it.messages[-1].text == "We close in five minutes."
        result = await it.update_agent("billing")
        assert result.heard == "Billing."
        assert it.current_agent == "billing"
        assert (await it.generate_reply("Ask whether there is anything else.")).heard == "Anything else?"


async def test_a_question_of_the_graph_is_spoken_and_answered() -> None:
    @function_tool
    async def ask(ctx: RunContext[Caller]) -> str:
        """Ask."""
        return f"the caller said {interrupt('Which day?')}"

    async with phone(call("ask"), "Thank you.", tools=[ask]) as it:
        assert (await it.says("Book.")).heard == "Which day?"
        assert (await it.says("Friday.")).heard == "Thank you."


async def test_a_caller_waits_for_a_tool_that_may_not_be_interrupted() -> None:
    @function_tool
    async def pay(ctx: RunContext[Caller]) -> str:
        """Pay."""
        ctx.disallow_interruptions()
        await asyncio.sleep(3)
        return "paid"

    async with phone(call("pay"), "It is paid.", "You are welcome.", tools=[pay]) as it:
        it.during_tool("pay").says("Thanks.")
        result = await it.says("Pay.")
        assert result.heard == "It is paid. You are welcome."


async def test_an_agent_that_hangs_up() -> None:
    @function_tool
    async def hang_up(ctx: RunContext[Caller]) -> None:
        """End the call."""
        await ctx.say("Goodbye.")
        ctx.end_call()

    async with phone(call("hang_up"), tools=[hang_up]) as it:
        assert (await it.says("Bye.")).heard == "Goodbye."
        await it.silence(1)
        assert it.over


async def test_without_async_with_it_begins_with_the_first_words() -> None:
    it = phone("Sure.")
    with pytest.raises(TurnError, match="has not begun"):
        _ = it.messages
    assert (await it.says("Hi.")).heard == "Sure."
    await it.close()


async def test_a_front_end_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(MissingDependencyError, match=r'pip install "graph-voice\[livekit\]"'):
        phone(front_end="teleprinter")


async def test_a_trajectory_for_agentevals() -> None:
    async with phone(call("book", {"day": "Friday"}), "Done.") as it:
        await it.says("Friday.")
        roles = [message["role"] for message in it.trajectory()]
        assert roles == ["assistant", "user", "assistant", "tool", "assistant"]
        assert it.trajectory()[2]["tool_calls"][0]["function"]["name"] == "book"


async def test_events_and_the_whole_call() -> None:
    async with phone("Sure.") as it:
        result = await it.says("Hi.")
        assert [type(e) for e in result.events] == [events.Text, events.Usage, events.Ended]
        assert it.result.heard == "Hello there. Sure."
        assert isinstance(it.result.final, Message)
        assert "caller says: Hi." in repr(it)


async def test_a_store_is_out_of_reach_of_a_process_that_is_gone() -> None:
    saver = SeverableSaver(InMemorySaver())
    where: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    assert await saver.aget_tuple(where) is None
    saver.sever()
    with pytest.raises(ConnectionError):
        await saver.aput(where, empty_checkpoint(), {}, {})


# ---- front ends


class Broken(CoreFrontEnd):
    def _line(self, *_: Any) -> Any:
        raise RuntimeError("a fault of the front end")


@pytest.mark.parametrize("made", [Broken, lambda plan: Broken(plan)])
async def test_a_fault_of_the_front_end_is_raised_where_it_shows(made: Any) -> None:
    with pytest.raises(RuntimeError, match="a fault of the front end"):
        async with phone(front_end=made):
            pass


@pytest.mark.parametrize("per_word", [0.25, 1.0])
async def test_how_fast_a_voice_speaks_is_the_tests_choice(per_word: float) -> None:
    class Voice(CoreFrontEnd):
        PER_WORD = per_word

    async with phone("One two three four.", front_end=Voice) as it:
        result = await it.says("Hi.")
        assert result.seconds == pytest.approx(Voice.CALLERS_WORD + Voice.END_OF_TURN + 0.2 + 4 * per_word)


@pytest.mark.parametrize("made", [None, 3])
def test_what_makes_no_front_end_is_refused(made: Any) -> None:
    with pytest.raises(TypeError, match="front_end=lambda plan"):
        phone(front_end=made)


async def test_calls_are_not_kept_for_ever() -> None:
    for _ in range(30):
        phone("Sure.")
    assert len(Call.opened) == 20


# ---- the invariants notice


async def _broken(break_it: Any, expected: str) -> None:
    it = phone(call("book", {"day": "Friday"}), "Done.")
    async with it:
        await it.says("Friday.")
        invariants(it)
        break_it(it)
        with pytest.raises(AssertionError, match=expected) as raised:
            invariants(it)
        assert "The call:" in str(raised.value)
        it._check = False


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda it: it.conversation.state["messages"].pop(3), r"- 1, in messages: the tool calls \['call_1'\]"),
        (lambda it: it.conversation.state["messages"].append(AIMessage("Ghost", id="g")), "- 2: remembered, and never"),
        (lambda it: it._front_end._heard.append("Lost words"), "- 2: heard, and not remembered"),
        (lambda it: it.effects.note(ToolRun("desk", "book", "call_1", {}, "done")), "- 3: the tool book ran 2 times"),
        (lambda it: it.effects.note(ToolRun("desk", "book", "call_9", {}, "done")), "- 3: .*which is not remembered"),
        (lambda it: setattr(it._front_end, "_current_agent", "billing"), "- 4: 'billing' is the current agent"),
        (lambda it: it.said.append("Hello?"), r"- 5: said, and not remembered: \['Hello\?'\]"),
        (lambda it: it.conversation.state["messages"].append(HumanMessage("?", id="h")), "- 5: remembered, and never"),
        (
            lambda it: it.conversation.state["messages"].append(it.conversation.state["messages"][1]),
            "- 6: the message id .* appears 2 times",
        ),
        (lambda it: it._front_end._heard.reverse(), "- 6: heard was 'Done. Hello there.' where 'Hello there. Done.'"),
    ],
)
async def test_a_broken_invariant_is_told_by_its_number(break_it: Any, expected: str) -> None:
    await _broken(break_it, expected)


async def test_a_call_is_checked_at_its_end() -> None:
    it = phone("Sure.")
    await it.says("Hi.")
    it.said.append("Hello?")
    with pytest.raises(AssertionError, match="- 5: said, and not remembered"):
        await it.close()
    async with phone("Sure.", check=False) as it:
        await it.says("Hi.")
        it.said.append("Hello?")


def test_a_function_call_is_shown_with_its_arguments() -> None:
    assert "day" in str(FunctionCall("desk", "book", {"day": "Friday"}, "c"))
