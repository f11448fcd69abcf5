"""The same call by hand-written LiveKit agents and by a graph: what a program sees of it is the same.

Where the two differ, the test says so and why.
"""

from typing import Any

import pytest
from livekit.agents import evals, mock_tools
from livekit.agents.evals import JudgeGroup
from native_support import (
    SCRIPT,
    SLOW,
    STEPS,
    LiveKitModel,
    Pair,
    Seen,
    by_graph,
    by_hand,
    in_text,
    speak,
    spoken_call,
    write,
)

from graph_voice.testing import call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


async def both(play: Any, script: Any = SCRIPT, *, text: bool = False, **options: Any) -> tuple[Seen, Seen]:
    call_it = in_text if text else spoken_call
    return await call_it(by_hand(script), play, **options), await call_it(by_graph(script), play, **options)


def same_events(theirs: Seen, ours: Seen) -> None:
    """Every event, in the same order.

    But for one: `tool_execution_updated` of a tool that returns at once comes some steps of the event loop later,
    since the tool runs in the graph; so these are compared among themselves.
    """
    for own in (True, False):
        assert [e for e in ours.events if (e[0] == "tool_execution_updated") is own] == [
            e for e in theirs.events if (e[0] == "tool_execution_updated") is own
        ]
    assert ours.items == theirs.items
    assert ours.usage == theirs.usage


@pytest.mark.parametrize("text", [True, False])
async def test_a_call_with_a_tool_and_a_handoff_emits_the_same_events_in_the_same_order(text: bool) -> None:
    theirs, ours = await both(write if text else speak, text=text)
    same_events(theirs, ours)
    kinds = {event[0] for event in ours.events}
    assert kinds >= {
        "agent_state_changed",
        "conversation_item_added",
        "function_tools_executed",
        "metrics_collected",
        "session_usage_updated",
        "speech_created",
        "close",
    }
    tokens = [e for e in ours.of("metrics_collected") if e[1] == "llm_metrics"]
    assert len(tokens) == 5
    assert all(dict(e[2:])["prompt_tokens"] == 10 and dict(e[2:])["ttft"] == 0.4 for e in tokens)
    assert ours.usage == [("llm_usage", "gpt-test", 50, 21)]


async def test_an_assistant_s_message_has_the_same_metrics() -> None:
    theirs, ours = await both(speak)
    messages = [e for e in ours.of("conversation_item_added") if e[1:3] == ("message", "assistant")]
    assert messages == [e for e in theirs.of("conversation_item_added") if e[1:3] == ("message", "assistant")]
    assert {"llm_node_ttft", "tts_node_ttfb", "started_speaking_at", "llm_metadata"} <= set(messages[0][5])
    assert "e2e_latency" in messages[0][5]


async def test_a_failed_tool_is_the_same_event() -> None:
    async def play(session: Any) -> None:
        await session.run(user_input="where is it")

    script = [say(call("look_up", {"number": -1}, id="c1"), **SLOW), say("There is none.", **SLOW)]
    theirs, ours = await both(play, script, text=True)
    same_events(theirs, ours)
    [(_, _, outputs)] = ours.of("function_tools_executed")
    assert outputs == [("function_call_output", "look_up", "there is no such order", True, True)]


async def test_two_tools_of_one_batch_are_the_same_event() -> None:
    async def play(session: Any) -> None:
        await session.run(user_input="where are they")

    calls = call("look_up", {"number": 1}, id="a"), call("look_up", {"number": 2}, id="b")
    script = [say(*calls, **SLOW), say("Both on their way.", **SLOW)]
    theirs, ours = await both(play, script, text=True)
    same_events(theirs, ours)


async def test_a_barge_in_emits_the_same_events() -> None:
    async def play(rig: Any) -> None:
        await rig.user_says("tell me", at=0.5)
        await rig.until_speaking()
        await rig.user_says("stop it please", at=rig.now + 2.0)
        await rig.until_idle()

    story = "This is a long story about an order that was on its way for years and years and years."
    theirs, ours = await both(play, [say(story, per_token=0.02), say("I stop.", **SLOW)])
    same_events(theirs, ours)
    assert next(i for i in ours.items if i[:2] == ("message", "assistant"))[3] is True


async def test_what_the_program_says_and_asks_for_emits_the_same_events() -> None:
    async def play(rig: Any) -> None:
        await rig.wait_until(0.5)
        rig.session.say("This call is recorded.")
        await rig.until_idle()
        rig.session.generate_reply(instructions="Ask how it goes.")
        await rig.until_idle()
        rig.session.say("This is not kept.", add_to_chat_ctx=False)
        await rig.until_idle()
        rig.session.generate_reply(user_input="I am Ann.", allow_interruptions=False)
        await rig.until_idle()

    theirs, ours = await both(play, [say("How are you?", **SLOW), say("Hello Ann.", **SLOW)])
    same_events(theirs, ours)


async def test_preemptive_generation_emits_the_same_events() -> None:
    async def play(rig: Any) -> None:
        await rig.user_says("hello there", preflight="hello there")
        await rig.until_idle()

    theirs, ours = await both(play, [say("Hello.", **SLOW)])
    same_events(theirs, ours)


async def test_the_end_of_a_call_emits_the_same_events() -> None:
    async def play(rig: Any) -> None:
        await rig.user_says("hello there", at=0.5)
        await rig.until_speaking()
        rig.session.shutdown(drain=True)
        await rig.wait_until(rig.now + 5.0)

    theirs, ours = await both(play, [say("Hello and goodbye to you.", **SLOW)])
    same_events(theirs, ours)


# ---- LiveKit's own test tools


async def test_every_expectation_of_run_holds_on_both() -> None:
    async def play(session: Any) -> None:
        result = await session.run(user_input=STEPS[0])
        expect = result.expect
        expect.contains_function_call(name="look_up", arguments={"number": 3})
        expect.contains_function_call_output(output="order 3 is on its way", is_error=False)
        expect.contains_message(role="assistant")
        assert expect[0].is_message(role="assistant").event().item.text_content == "One moment please."
        expect.skip_next_event_if(type="message", role="assistant")
        assert expect.next_event(type="function_call").event().item.name == "look_up"
        expect.next_event().is_function_call_output(output="order 3 is on its way")
        assert expect.skip_next_event_if(type="agent_handoff") is None
        expect.skip_next(0)
        expect.next_event().is_message(role="assistant")
        expect.no_more_events()
        expect[1:3].contains_function_call_output(is_error=False)
        with pytest.raises(AssertionError):
            expect[0].is_function_call(name="look_up")
        result = await session.run(user_input=STEPS[1])
        result.expect.contains_agent_handoff()
        handoff = result.expect.contains_agent_handoff(new_agent_type=type(session.current_agent))
        assert handoff.event().new_agent is session.current_agent
        judged = LiveKitModel([call("check_intent", {"success": True, "reason": "it says so"})])
        await result.expect[-1].is_message(role="assistant").judge(judged, intent="says who speaks")
        failed = LiveKitModel([call("check_intent", {"success": False, "reason": "it does not"})])
        with pytest.raises(AssertionError, match="it does not"):
            await result.expect[-1].is_message(role="assistant").judge(failed, intent="sings")
        await session.run(user_input=STEPS[2])

    await both(play, text=True)


async def test_mocks_take_the_place_of_a_tool_on_both() -> None:
    # LiveKit hands a mock what the tool takes: where that is the context as well, the mock takes it too.
    mocks: list[Any] = [lambda context, number: f"mocked {number}", lambda number: f"mocked {number}"]
    for side, mock in zip((by_hand(SCRIPT), by_graph(SCRIPT)), mocks, strict=True):

        async def play(session: Any, mock: Any = mock) -> None:
            with mock_tools(type(session.current_agent), {"look_up": mock}):
                result = await session.run(user_input=STEPS[0])
            result.expect.contains_function_call_output(output="mocked 3", is_error=False)
            for text in STEPS[1:]:
                await session.run(user_input=text)

        await in_text(side, play)


async def judged(side: Pair) -> tuple[Any, str]:
    """A finished call before a jury, and what its judges were shown."""
    seen: list[Any] = []

    async def play(session: Any) -> None:
        await write(session)
        seen.append(session.history)

    await in_text(side, play)
    verdicts = [call("submit_verdict", {"verdict": "pass", "reasoning": "well done"}) for _ in range(3)]
    model = LiveKitModel(verdicts)
    judges = [evals.task_completion_judge(), evals.handoff_judge(), evals.tool_use_judge()]
    group = JudgeGroup(llm=model, judges=judges)
    result = await group.evaluate(seen[0])
    shown = "\n".join(m.text_content or "" for ctx in model.shown for m in ctx.items if m.type == "message")
    return result, shown


async def test_livekit_s_judges_read_the_call_as_they_read_a_hand_written_agent_s() -> None:
    theirs, shown_theirs = await judged(by_hand(SCRIPT))
    ours, shown_ours = await judged(by_graph(SCRIPT))
    assert ours.score == theirs.score == 1.0
    assert set(ours.judgments) == set(theirs.judgments)
    assert shown_ours == shown_theirs
    assert "look_up" in shown_ours
    assert "billing" in shown_ours


def test_the_sides_are_what_they_claim_to_be() -> None:
    assert isinstance(by_graph([]).agent, GraphAgent)
    assert not isinstance(by_hand([]).agent, GraphAgent)
