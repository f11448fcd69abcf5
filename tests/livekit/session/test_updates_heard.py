"""The words about a tool's update in a LiveKit session: cut off, taken for cut off, and behind protected words."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, agrees, spoken, told_by_graph, voice
from langchain_core.messages import BaseMessage, ToolMessage

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeAudioOutput, FakeSTT, VoiceRig

pytestmark = pytest.mark.virtual_clock

BEFORE = "Let me see what I can find for you in the list."
WORDS = "I am asking the airline for you, it is a very long list of flights."
END = "I found it at the very end of the list."


def script(first: Any) -> Any:
    """A model that looks it up, speaks of the update, and of the result; and answers what the caller says meanwhile."""

    def answer(messages: list[BaseMessage]) -> Any:
        last = messages[-1].text
        if isinstance(messages[-1], ToolMessage):
            return WORDS if "message: asking" in last else END
        return END if "has ended" in last else first if last.startswith("look") else "All right."

    return answer


def host(model: ScriptedModel, *, protected: bool = False) -> GraphAgent:
    @function_tool
    async def look_up(ctx: RunContext[Any]) -> str:
        """Look something up."""
        if protected:
            ctx.disallow_interruptions()
        await ctx.update("asking the airline")
        await asyncio.sleep(11)
        return "found it"

    agent = Agent("host", instructions="You are the host.", tools=[look_up], voice=voice("host"))
    return GraphAgent(create_voice_graph([agent], llm=model))


async def until_heard(rig: VoiceRig, part: str) -> None:
    """Wait until the caller has heard the first words of this part, and no more."""
    heard = ""
    while not (heard and part.startswith(heard)):
        await asyncio.sleep(0.05)
        heard = rig.loudspeaker.heard.strip()


async def test_they_are_played_behind_the_words_before_them() -> None:
    model = ScriptedModel(script(say(BEFORE, call("look_up"))))
    ga = host(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_idle(quiet=4)
        assert [s.text for s in rig.spoken] == [BEFORE, WORDS, END]
        assert spoken(rig) == [("host", f"{BEFORE} {WORDS} {END}")]
        before, words, end = rig.spoken
        assert before.ended <= words.started
        assert words.ended <= end.started
        agrees(ga, rig.session)


@pytest.mark.parametrize("can_pause", [True, False])
async def test_a_barge_in_into_them_is_answered_at_once(can_pause: bool) -> None:
    model = ScriptedModel(script(call("look_up")))
    ga = host(model)
    async with a_call(ga, model, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 1.5)
        await rig.user_says("please stop it now")
        understood = rig.now
        await rig.until_idle()
        heard = " ".join(rig.spoken[0].text.split())
        assert 0 < len(heard.split()) < len(WORDS.split())
        assert rig.spoken[1].text == "All right."
        assert rig.spoken[1].started - understood < 1.0
        await rig.wait_until(22)
        await rig.until_idle()
        assert rig.spoken[-1].text == END
    assert told_by_graph(ga)[:3] == [("user", "look it up"), ("assistant", heard), ("user", "please stop it now")]


@pytest.mark.parametrize("part", [BEFORE, WORDS, END])
@pytest.mark.parametrize("can_pause", [True, False])
async def test_after_a_cough_what_was_heard_is_what_is_remembered(part: str, can_pause: bool) -> None:
    model = ScriptedModel(script(say(BEFORE, call("look_up"))))
    ga = host(model)
    async with a_call(ga, model, stt=FakeSTT(interim=False), loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        rig.stt.mishears("hm hm hm", final="")
        await rig.user_says("look it up", at=0.5)
        await until_heard(rig, part)
        await rig.user_says("hm hm hm")
        await rig.wait_until(max(rig.now, 30.0))
        await rig.until_idle()
        heard = " ".join(" ".join(s.text for s in rig.spoken).split())
        if can_pause:
            assert heard == f"{BEFORE} {WORDS} {END}"
        elif part != END:
            assert heard.endswith(END)
    assert told_by_graph(ga) == [("user", "look it up"), ("assistant", heard)]


async def test_of_a_tool_that_nobody_may_interrupt_they_are_said_to_their_end() -> None:
    model = ScriptedModel(script(call("look_up")))
    ga = host(model, protected=True)
    options: Any = {"interruption": {"discard_audio_if_uninterruptible": False}}
    async with a_call(ga, model, turn_handling=options) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_speaking()
        await rig.user_says("what do I owe", at=rig.now + 0.3)
        await rig.until_idle(quiet=4)
        assert rig.spoken[0].text == WORDS
        assert sorted(s.text for s in rig.spoken[1:]) == ["All right.", END]
