"""A tool outlives a barge-in: the caller is answered at once, and told of the result when it comes."""

import asyncio
import random
from typing import Any

import pytest
from graph_agent_support import (
    a_call,
    agrees,
    handoffs_in_livekit,
    no_accidents,
    outputs_in_graph,
    outputs_in_livekit,
    spoken,
    told_by_graph,
    voice,
)
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from livekit.agents import Agent as LiveKitAgent

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeAudioOutput, VoiceRig, voice_rig

pytestmark = pytest.mark.virtual_clock

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
ASKED = ("^look", [say("One moment please.", call("look_up"))])
STILL = ("^are you", "Yes, I am here.")
NEWS = ("has ended", "By the way, it was found.")


def announcements(model: ScriptedModel) -> list[str]:
    """What the model was told each time that it was to speak of a late result."""
    return [p.messages[-1].text for p in model.prompts if "has ended" in p.messages[-1].text]


class Slow:
    """A tool that takes its time, and counts."""

    def __init__(self, seconds: float, name: str = "look_up", **options: Any) -> None:
        self.runs = 0

        @function_tool(name=name, **options)
        async def look_up() -> str:
            """Look something up."""
            self.runs += 1
            await asyncio.sleep(seconds)
            return f"{name} found it"

        self.tool = look_up


def host(model: ScriptedModel, *tools: Any, **options: Any) -> GraphAgent:
    agents = [
        Agent(
            "host",
            instructions="You are the host.",
            tools=tools,
            voice=voice("host"),
            handoffs=[Handoff("billing", tool=False)],
        ),
        Agent("billing", instructions="You are billing.", voice=voice("billing"), on_enter="Greet."),
    ]
    return GraphAgent(create_voice_graph(agents, llm=model), **options)


async def ask_and_barge_in(rig: VoiceRig) -> float:
    """The tool begins at 3 s. Returns when the caller's second question was understood."""
    await rig.user_says("look it up", at=0.5)
    await rig.user_says("are you still there", at=3.5)
    return rig.now


@pytest.mark.parametrize("can_pause", [True, False])
async def test_the_caller_is_answered_within_a_second_and_told_of_the_result_once(can_pause: bool) -> None:
    slow = Slow(15)
    model = ScriptedModel([ASKED, STILL, NEWS])
    ga = host(model, slow.tool)
    async with a_call(ga, model, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        understood = await ask_and_barge_in(rig)
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Yes, I am here.")
        assert rig.spoken[-1].started - understood < 1.0
        assert [m.text for m in model.prompts[1].messages if isinstance(m, ToolMessage)] == [RUNNING]
        await rig.wait_until(25)
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Yes, I am here. By the way, it was found.")
        assert rig.spoken[-1].started - 17.5 < 1.0  # the tool began at about 2 s
        await asyncio.sleep(60)
        assert len(announcements(model)) == 1
        assert outputs_in_livekit(rig.session) == outputs_in_graph(ga) == {"call_1": "look_up found it"}
    assert slow.runs == 1
    assert [text for who, text in told_by_graph(ga) if who == "user"] == ["look it up", "are you still there"]


async def test_a_result_that_is_to_be_merged_is_not_spoken_of_before_the_caller_asks() -> None:
    slow = Slow(8, late="merge")
    model = ScriptedModel([ASKED, STILL, ("and", "I found it.")])
    ga = host(model, slow.tool)
    async with a_call(ga, model) as rig:
        await ask_and_barge_in(rig)
        await rig.until_idle()
        await rig.wait_until(40)
        assert announcements(model) == []
        await rig.user_says("and what came of it")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("I found it.")
    assert "look_up found it" in [m.text for m in model.prompts[-1].messages]


async def test_it_waits_until_the_caller_has_spoken_and_was_answered_and_is_not_told_twice() -> None:
    slow = Slow(8)  # it ends while the caller speaks
    model = ScriptedModel([ASKED, STILL, ("tell", "It was found, as I see."), NEWS])
    ga = host(model, slow.tool)
    async with a_call(ga, model) as rig:
        await ask_and_barge_in(rig)
        await rig.user_says("please tell me what you have got so far my dear friend", at=9.0)
        await rig.until_idle()
        await asyncio.sleep(20)
        assert spoken(rig)[-1][1].endswith("Yes, I am here. It was found, as I see.")
    assert slow.runs == 1
    assert announcements(model) == []


async def test_it_waits_until_the_agent_has_ended_what_it_says() -> None:
    slow = Slow(6)  # it ends in the middle of the story
    model = ScriptedModel([ASKED, ("story", STORY), NEWS])
    ga = host(model, slow.tool)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.user_says("no tell me a story", at=3.5)
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith(f"{STORY} By the way, it was found.")


async def test_it_waits_for_the_reply_behind_another_tool() -> None:
    first, second = Slow(6, "first"), Slow(8, "second")
    model = ScriptedModel([("^look", call("first")), ("^order", [call("second"), "It is ordered."]), NEWS])
    ga = host(model, first.tool, second.tool)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.user_says("order me one please", at=3.0)  # the first result comes while the second tool works
        await rig.until_idle(quiet=5)
        await rig.wait_until(max(rig.now, 20.0))
        assert spoken(rig) == [("host", "It is ordered. By the way, it was found.")]


async def test_two_that_have_come_are_one_announcement() -> None:
    first, second = Slow(6, "first"), Slow(9, "second")
    model = ScriptedModel([("^look it", call("first")), ("more", call("second")), ("story", STORY), NEWS])
    ga = host(model, first.tool, second.tool)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.user_says("look up some more", at=3.0)
        await rig.user_says("no tell me a story", at=6.0)
        await rig.until_idle()
        await asyncio.sleep(30)
    assert len(announcements(model)) == 1
    assert first.runs + second.runs == 2


async def test_a_barge_in_into_the_announcement_is_answered_and_the_result_not_told_again() -> None:
    slow = Slow(8)
    model = ScriptedModel([ASKED, STILL, ("has ended", f"It was found. {STORY}"), ("stop", "All right.")])
    ga = host(model, slow.tool)
    async with a_call(ga, model) as rig:
        await ask_and_barge_in(rig)
        await rig.wait_until(10.0)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 2.0)
        await rig.user_says("stop it please")
        await rig.until_idle()
        await asyncio.sleep(20)
        assert spoken(rig)[-1][1].endswith("All right.")
    assert len(announcements(model)) == 1


async def test_a_tool_that_never_ends_is_told_of_when_its_time_is_up() -> None:
    slow = Slow(1e6, timeout=10.0)
    model = ScriptedModel([ASKED, STILL, ("has ended", "I could not look it up.")])
    ga = host(model, slow.tool)
    async with a_call(ga, model) as rig:
        await ask_and_barge_in(rig)
        await rig.wait_until(14)
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("I could not look it up.")
        assert outputs_in_livekit(rig.session) == {"call_1": "The tool did not answer within 10 seconds."}


async def test_a_handoff_that_comes_late_does_not_happen() -> None:
    @function_tool
    async def look_up(ctx: RunContext[Any]) -> Any:
        """Look something up."""
        await asyncio.sleep(8)
        return ctx.handoff("billing")

    model = ScriptedModel([ASKED, STILL, ("has ended", "Shall I put you through?")])
    ga = host(model, look_up)
    async with a_call(ga, model) as rig:
        await ask_and_barge_in(rig)
        await rig.wait_until(13)
        await rig.until_idle()
        assert spoken(rig)[-1] == ("host", "One moment please. Yes, I am here. Shall I put you through?")
        assert handoffs_in_livekit(rig.session) == []


async def test_the_agent_that_has_the_floor_by_then_speaks_of_it() -> None:
    slow = Slow(8)
    model = ScriptedModel({"host": [ASKED, STILL], "billing": [("Greet", "Billing speaking."), NEWS]})
    ga = host(model, slow.tool)
    async with a_call(ga, model) as rig:
        await ask_and_barge_in(rig)
        await rig.until_idle()
        rig.session.update_agent(ga.agent("billing"))
        await rig.wait_until(15)
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing speaking. By the way, it was found.")


async def test_while_an_agent_of_the_programs_own_has_the_floor_it_waits() -> None:
    slow = Slow(8)
    model = ScriptedModel([ASKED, STILL, NEWS, ("", "Hello again.")])
    ga = host(model, slow.tool)
    async with voice_rig(ga) as rig:
        await ask_and_barge_in(rig)
        await rig.until_idle()
        rig.session.update_agent(LiveKitAgent(instructions="Be silent."))
        await rig.wait_until(20)
        assert announcements(model) == []
        rig.session.update_agent(ga.agent("host"))
        await asyncio.sleep(5)
        await rig.until_idle()
        assert len(announcements(model)) == 1


async def test_the_call_ends_while_the_tool_still_runs() -> None:
    slow = Slow(8)
    model = ScriptedModel([ASKED, STILL])
    ga = host(model, slow.tool)
    with no_accidents():
        async with voice_rig(ga) as rig:
            await ask_and_barge_in(rig)
            await rig.until_idle()
        await ga.aclose()
    assert outputs_in_graph(ga) == {"call_1": "look_up found it"}
    assert announcements(model) == []


def tells_what_is_new(messages: list[BaseMessage]) -> Any:
    """A model that looks up when it is asked to, and otherwise tells the results that nobody has told."""
    last = messages[-1]
    if isinstance(last, HumanMessage) and "look" in last.text and "has ended" not in last.text:
        return say("One moment.", call("look_up", id=f"call-{last.id}"))
    told_already = " ".join(m.text for m in messages if isinstance(m, AIMessage))
    results = [m.text for m in messages if isinstance(m, ToolMessage) and m.text != RUNNING]
    return " and ".join(r for r in results if r not in told_already) or "Nothing new."


@pytest.mark.parametrize("seed", range(6))
async def test_at_random_each_result_is_told_exactly_once(seed: int) -> None:
    dice = random.Random(seed)
    ran: list[str] = []

    @function_tool
    async def look_up(ctx: RunContext[Any]) -> str:
        """Look something up."""
        ran.append(f"result{len(ran)}")
        mine = ran[-1]
        await asyncio.sleep(dice.uniform(0.1, 9))
        return mine

    model = ScriptedModel(tells_what_is_new, first_token=0.2)
    ga = host(model, look_up)
    with no_accidents():
        async with voice_rig(ga) as rig:
            for _ in range(10):
                await rig.user_says(dice.choice(["look it up", "look it up now", "hello there"]))
                await asyncio.sleep(dice.uniform(0.0, 5.0))
            await asyncio.sleep(15)
            await rig.until_idle()
            agrees(ga, rig.session)
    assert sorted(outputs_in_graph(ga).values()) == sorted(ran)
    heard = [w.strip(".") for who, text in told_by_graph(ga) if who == "assistant" for w in text.split()]
    # A result that the caller cut off in the middle of its announcement is not told again.
    assert max((heard.count(result) for result in ran), default=0) == 1
    assert not model.errors
