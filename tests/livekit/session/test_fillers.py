"""Fillers through LiveKit: said into the silence of a slow tool, by the agent that has the floor."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, spoken, told_by_graph, voice
from langchain_core.messages import ToolMessage

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice import say as say_line
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeAudioOutput, FakeSTT, VoiceRig

pytestmark = pytest.mark.virtual_clock

BEFORE = "Let me see what I can find for you in the list."


def slow_tool(seconds: float, name: str = "look_up", **options: Any) -> Any:
    @function_tool(name=name, **{"filler": "I am still looking.", "filler_after": 2.0, **options})
    async def look_up(ctx: RunContext[Any]) -> str:
        """Look something up."""
        await asyncio.sleep(seconds)
        return "found it"

    return look_up


def host(model: ScriptedModel, *tools: Any) -> GraphAgent:
    agent = Agent("host", instructions="You are the host.", tools=tools, voice=voice("host"))
    return GraphAgent(create_voice_graph([agent], llm=model))


@pytest.mark.parametrize("synchronizer", [False, True])
async def test_it_is_heard_after_so_much_silence_and_before_the_answer(synchronizer: bool) -> None:
    model = ScriptedModel([say(BEFORE, call("look_up")), "I found it."])
    ga = host(model, slow_tool(12))
    async with a_call(ga, model, synchronizer=synchronizer) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_idle()
        before, filler, answer = rig.spoken
        assert [s.text for s in rig.spoken] == [BEFORE, "I am still looking.", "I found it."]
        # The words before the call take 2.75 s, and the silence counts from their end.
        assert 2.0 <= filler.started - before.ended < 2.5
        assert answer.started > filler.ended
    assert [m.text for m in model.prompts[-1].messages[-2:]] == [f"{BEFORE} I am still looking.", "found it"]
    assert isinstance(model.prompts[-1].messages[-1], ToolMessage)


async def test_several_slow_calls_have_one() -> None:
    model = ScriptedModel([say(call("look_up"), call("ask")), "I found both."])
    ga = host(model, slow_tool(9), slow_tool(8, "ask", filler="I am asking.", filler_after=1.5))
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_idle(quiet=3)
        assert spoken(rig) == [("host", "I am asking. I found both.")]


async def test_a_result_that_comes_first_makes_it_needless() -> None:
    model = ScriptedModel([say(BEFORE, call("look_up")), "I found it."])
    ga = host(model, slow_tool(4.0))  # longer than the delay, but the words before the call take most of it
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", f"{BEFORE} I found it.")]


@pytest.mark.parametrize("at", [2.0, 2.4, 2.8, 3.2])
async def test_a_barge_in_makes_it_needless(at: float) -> None:
    model = ScriptedModel([("^look", call("look_up")), ("here", "Yes, I am here."), ("has ended", "I found it.")])
    ga = host(model, slow_tool(12))
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.user_says("are you still here my dear friend", at=at)
        await rig.wait_until(20)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Yes, I am here. I found it.")]


@pytest.mark.parametrize("can_pause", [True, False])
async def test_a_barge_in_into_it_is_answered_and_what_was_heard_of_it_is_remembered(can_pause: bool) -> None:
    line = "I am still looking for it, it is a very long list and I am not through."
    model = ScriptedModel([("^look", call("look_up")), ("stop", "All right."), ("has ended", "I found it.")])
    ga = host(model, slow_tool(15, filler=line))
    async with a_call(ga, model, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 1.5)
        await rig.user_says("please stop it now")
        understood = rig.now
        await rig.until_idle()
        heard = " ".join(rig.spoken[0].text.split())
        assert 0 < len(heard.split()) < len(line.split())
        assert rig.spoken[1].text == "All right."
        assert rig.spoken[1].started - understood < 1.0
        await rig.wait_until(22)
        await rig.until_idle()
    assert told_by_graph(ga) == [
        ("user", "look it up"),
        ("assistant", heard),
        ("user", "please stop it now"),
        ("assistant", "All right. I found it."),
    ]


async def test_a_tool_that_nobody_may_interrupt_says_it_to_its_end() -> None:
    @function_tool(filler="I am paying it for you now, please wait.", filler_after=1.0)
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        ctx.disallow_interruptions()
        await asyncio.sleep(6)
        return "paid"

    model = ScriptedModel([("^pay", [call("pay"), "It is paid."]), ("what", "Nothing.")])
    ga = host(model, pay)
    options: Any = {"interruption": {"discard_audio_if_uninterruptible": False}}
    async with a_call(ga, model, turn_handling=options) as rig:
        await rig.user_says("pay it", at=0.5)
        await rig.until_speaking()
        await rig.user_says("what do I owe", at=rig.now + 0.3)
        await rig.until_idle(quiet=4)
        assert rig.spoken[0].text == "I am paying it for you now, please wait."
        assert sorted(s.text for s in rig.spoken[1:]) == ["It is paid.", "Nothing."]
    assert [text for who, text in told_by_graph(ga) if who == "user"] == ["pay it", "what do I owe"]


# ---- a node that is no agent


async def test_a_line_of_a_users_node_is_heard_before_the_node_goes_on() -> None:
    done: list[float] = []

    async def look(state: Any) -> dict[str, Any]:
        line = await say_line("One moment, I am going to look.")
        done.append(asyncio.get_running_loop().time())
        await asyncio.sleep(2)
        return {"messages": [line]}

    model = ScriptedModel({"front": [call("transfer_to_look")], "back": ["Here it is."]})
    front = Agent("front", instructions="You are front.", handoffs=[Handoff("look")], voice=voice("front"))
    builder = create_voice_graph([front, Agent("back", instructions="You are back.", voice=voice("back"))], llm=model)
    builder.add_node("look", look)
    builder.add_edge("look", "back")
    ga = GraphAgent(builder)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.wait_until(8.0)
        await rig.until_idle()
        assert spoken(rig) == [("front", "One moment, I am going to look."), ("back", "Here it is.")]
        line, answer = rig.spoken
        assert 0 <= done[0] - rig.loudspeaker.origin - line.ended < 0.2
        assert answer.started - line.ended > 2.0


async def test_a_barge_in_into_a_line_of_a_users_node_is_answered() -> None:
    async def look(state: Any) -> dict[str, Any]:
        await say_line("One moment, I am going to look for it in a very long list, that takes a while.")
        return {}

    model = ScriptedModel({"front": [("^look", call("transfer_to_look")), ("stop", "All right.")]})
    front = Agent("front", instructions="You are front.", handoffs=[Handoff("look")], voice=voice("front"))
    builder = create_voice_graph([front, Agent("back", instructions="You are back.", voice=voice("back"))], llm=model)
    builder.add_node("look", look)
    builder.add_edge("look", "back")
    ga = GraphAgent(builder)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 1.0)
        await rig.user_says("please stop it now")
        await rig.until_idle()
        assert rig.spoken[0].interrupted
        assert rig.spoken[-1].text == "All right."


# ---- noise: LiveKit takes a sound for an interruption, and finds out that it was none


LINE = "I am still looking for it in this very long list of mine."
END = "I found it at the very end of the list."


async def until_heard(rig: VoiceRig, part: str) -> None:
    """Wait until the caller has heard the first words of this part, and no more."""
    heard = ""
    while not (heard and part.startswith(heard)):
        await asyncio.sleep(0.05)
        heard = rig.loudspeaker.heard.strip()


@pytest.mark.parametrize("part", [BEFORE, LINE, END])
@pytest.mark.parametrize("can_pause", [True, False])
async def test_after_a_cough_what_was_heard_is_what_is_remembered_and_the_result_is_told(
    part: str, can_pause: bool
) -> None:
    model = ScriptedModel([("^look", [say(BEFORE, call("look_up")), END]), ("has ended", END)])
    ga = host(model, slow_tool(11, filler=LINE))
    stt = FakeSTT(interim=False)
    async with a_call(ga, model, stt=stt, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        rig.stt.mishears("hm hm hm", final="")
        await rig.user_says("look it up", at=0.5)
        await until_heard(rig, part)
        await rig.user_says("hm hm hm")
        await rig.wait_until(max(rig.now, 30.0))
        await rig.until_idle()
        heard = " ".join(" ".join(s.text for s in rig.spoken).split())
        if can_pause:
            assert heard == f"{BEFORE} {LINE} {END}"
        elif part != END:
            assert heard.endswith(END)  # LiveKit has cut it off, so the turn is over: the result is announced
    assert told_by_graph(ga) == [("user", "look it up"), ("assistant", heard)]
