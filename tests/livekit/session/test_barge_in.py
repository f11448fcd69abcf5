"""Barge-in: what was heard is what is remembered, what runs finishes, what did not start does not."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import (
    Roots,
    a_call,
    calls_in_graph,
    handoffs_in_livekit,
    outputs_in_graph,
    spoken,
    told_by_graph,
    voice,
    words,
)
from langchain_core.messages import AIMessage

from graph_voice import Agent, Handoff, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, hang, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeAudioOutput

pytestmark = pytest.mark.virtual_clock

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."


class Slow:
    """A tool that takes its time, and counts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.runs = 0
        self.done = 0

        @function_tool(late="merge")
        async def look_up() -> str:
            """Look something up."""
            self.runs += 1
            await asyncio.sleep(self.seconds)
            self.done += 1
            return "found it"

        self.tool = look_up


def one_agent(model: ScriptedModel, *tools: Any, **options: Any) -> GraphAgent:
    graph = create_voice_graph(
        [Agent("host", instructions="You are the host.", tools=tools, voice=voice("host"))], llm=model
    )
    return GraphAgent(graph, **options)


def two_agents(model: ScriptedModel, **handoff: Any) -> GraphAgent:
    graph = create_voice_graph(
        [
            Agent("support", instructions="Support.", handoffs=[Handoff("billing", **handoff)], voice=voice("support")),
            Agent("billing", instructions="Billing.", on_enter="Greet.", voice=voice("billing")),
        ],
        llm=model,
    )
    return GraphAgent(graph)


@pytest.mark.parametrize("can_pause", [True, False])
async def test_in_playout_the_state_holds_exactly_the_words_heard(can_pause: bool) -> None:
    model, roots = ScriptedModel([("story", STORY), ("", "Fine.")]), Roots()
    ga = one_agent(model, config={"callbacks": [roots]})
    async with a_call(ga, model, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.user_says("No thank you stop", at=5.0)
        await rig.until_idle()
        heard = words(rig.spoken[0].text)
        assert 5 <= len(heard.split()) < len(STORY.split())
        assert told_by_graph(ga) == [
            ("user", "Tell me a story"),
            ("assistant", heard),
            ("user", "No thank you stop"),
            ("assistant", "Fine."),
        ]
    cut = ga.conversation.messages[1]
    assert cut.additional_kwargs["interrupted"]
    assert words(model.prompts[-1].messages[2].text) == heard
    assert [(end["heard"], end["interrupted"]) for end in roots.ended] == [(cut.text, True), ("Fine.", False)]


async def test_before_the_first_audio_nothing_of_the_reply_is_remembered() -> None:
    model = ScriptedModel([("story", say(STORY, first_token=2.0)), ("", "Fine.")])
    ga = one_agent(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.user_says("No thank you stop", at=3.0)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Fine.")]
    assert told_by_graph(ga) == [("user", "Tell me a story No thank you stop"), ("assistant", "Fine.")]


async def test_a_hung_model_is_cut_off_and_the_caller_is_answered() -> None:
    model = ScriptedModel([("story", hang()), ("", "Fine.")])
    ga = one_agent(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.user_says("Are you there", at=10.0)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Fine.")]
        assert rig.spoken[0].started < 13
    assert [p.outcome for p in model.prompts] == ["cancelled", "finished"]


@pytest.mark.parametrize("seconds", [4.0, 8.0])
@pytest.mark.parametrize("before", ["One moment please.", ""])
async def test_while_a_tool_runs_the_caller_is_answered_and_the_result_is_kept(seconds: float, before: str) -> None:
    slow = Slow(seconds)
    first = say(before, call("look_up")) if before else call("look_up")
    model = ScriptedModel([("look", first), ("still", "Yes, I am here."), ("and", "I found it.")])
    ga = one_agent(model, slow.tool)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.user_says("are you still there", at=3.5)
        understood = rig.now
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Yes, I am here.")
        assert rig.spoken[-1].started - understood < 1.0  # of which 0.55 s are LiveKit's silence at the end of a turn
        assert slow.runs == 1
        await rig.wait_until(max(rig.now, 12.0 + seconds))
        assert slow.done == 1
        assert outputs_in_graph(ga) == {"call_1": "found it"}
        await rig.user_says("and what did you find")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("I found it.")
    assert slow.runs == 1
    shown = [m.text for m in model.prompts[-1].messages]
    assert "found it" in shown


async def test_calls_of_a_message_that_was_cut_off_are_not_made() -> None:
    slow = Slow(0.1)
    model = ScriptedModel([("story", say(STORY, call("look_up"), per_token=0.25)), ("", "Fine.")])
    ga = one_agent(model, slow.tool)
    async with a_call(ga, model) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.user_says("No thank you stop", at=4.0)
        await rig.until_idle()
    assert slow.runs == 0
    assert calls_in_graph(ga) == []


async def test_on_the_new_agents_first_words_it_keeps_the_floor() -> None:
    model = ScriptedModel({"support": [say("Sure.", call("transfer_to_billing"))], "billing": [STORY, "All right."]})
    ga = two_agents(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says("stop it please", at=6.0)
        await rig.until_idle()
        heard = words(next(s for s in rig.spoken if s.voice == "billing").text)
        assert 0 < len(heard.split()) < len(STORY.split())
        assert rig.session.current_agent.id == "billing"
    assert told_by_graph(ga)[1] == ("assistant", f"Sure. {heard}")


@pytest.mark.parametrize("said_by", ["model", "handoff"])
async def test_during_the_transfer_line_the_handoff_is_cancelled_whole(said_by: str) -> None:
    line = "I'm transferring you to billing now, they will look at it with you in a moment."
    first = say(line, call("transfer_to_billing")) if said_by == "model" else call("transfer_to_billing")
    model = ScriptedModel(
        {"support": [("bill", first), ("", "Of course, I stay with you.")], "billing": ["Billing speaking."]}
    )
    ga = two_agents(model, **({} if said_by == "model" else {"say": line}))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says("no wait stay here", at=3.5)
        await rig.until_idle()
        assert rig.session.current_agent.id == "support"
        assert spoken(rig)[-1][0] == "support"
        assert spoken(rig)[-1][1].endswith("Of course, I stay with you.")
        assert handoffs_in_livekit(rig.session) == []
    assert ga.conversation.active_agent == "support"
    assert ga.conversation.handoffs == []
    assert not [m for m in ga.conversation.messages if isinstance(m, AIMessage) and m.name == "billing"]


async def test_programmatic_interruption_is_a_barge_in() -> None:
    model = ScriptedModel([("story", STORY)])
    ga = one_agent(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 4 * 0.25 + 0.1)
        await rig.session.interrupt()
        await rig.until_idle()
    assert told_by_graph(ga) == [("user", "Tell me a story"), ("assistant", "Once upon a time")]
