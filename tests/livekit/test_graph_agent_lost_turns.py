"""What a caller says while the floor changes is dropped by LiveKit without an event, and answered all the same."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, handoffs_in_livekit, spoken, told_by_graph, voice, words
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import StopResponse

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


class SlowToLeave(LiveKitAgent):
    """A LiveKit agent that takes its time to leave: user turns that end meanwhile are dropped."""

    seconds = 4.0

    async def on_exit(self) -> None:
        await asyncio.sleep(self.seconds)


def bank(model: ScriptedModel, base: type[LiveKitAgent] = SlowToLeave) -> GraphAgent:
    graph = create_voice_graph(
        [
            Agent("support", instructions="Support.", handoffs=[Handoff("billing")], voice=voice("support")),
            Agent("billing", instructions="Billing.", on_enter="Greet.", voice=voice("billing")),
        ],
        llm=model,
    )
    return GraphAgent(graph, bases={"support": base})


def user_texts(ga: GraphAgent) -> list[str]:
    return [m.text for m in ga.conversation.messages if m.type == "human"]


@pytest.mark.parametrize("preflight", [None, "my bill"])
async def test_what_is_said_during_the_handover_is_answered_once_after_the_first_words(preflight: str | None) -> None:
    model = ScriptedModel(
        {
            "support": [say("Sure.", call("transfer_to_billing"))],
            "billing": ["Billing speaking.", "You owe nothing.", "Goodbye."],
        }
    )
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5, preflight=preflight)
        await rig.user_says("what do I owe", at=3.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "Sure."), ("billing", "Billing speaking. You owe nothing.")]
        answered = rig.spoken[-1].started
        await rig.user_says("goodbye")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("You owe nothing. Goodbye.")
        assert answered < 9.5  # the handover ends at 6.6 s, the greeting takes half a second
    assert user_texts(ga) == ["my bill", "what do I owe", "goodbye"]
    assert [text for _, text in told_by_graph(ga)] == [
        "my bill",
        "Sure.",
        "what do I owe",
        "Billing speaking. You owe nothing.",
        "goodbye",
        "Goodbye.",
    ]


async def test_words_of_a_turn_that_goes_on_behind_the_handover_are_not_lost() -> None:
    model = ScriptedModel(
        {
            "support": [say("Sure.", call("transfer_to_billing"))],
            "billing": lambda messages: f"Heard {messages[-1].text}",
        }
    )
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.user_says("what do I owe", at=5.0)
        await rig.user_says("to you dear bank", at=6.9)
        await rig.until_idle()
    said = " ".join(user_texts(ga))
    assert said == "my bill what do I owe to you dear bank"


async def test_a_handover_in_silence_recovers_nothing() -> None:
    model = ScriptedModel({"support": [say("Sure.", call("transfer_to_billing"))], "billing": ["Billing speaking."]})
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        await asyncio.sleep(10)
    assert user_texts(ga) == ["my bill"]


async def test_a_turn_that_the_program_dropped_on_purpose_stays_dropped() -> None:
    class Deaf(SlowToLeave):
        async def on_user_turn_completed(self, turn_ctx: Any, new_message: Any) -> None:
            if "secret" in new_message.text_content:
                raise StopResponse

    model = ScriptedModel({"support": [("", "Pardon?")], "billing": ["Billing speaking."]})
    ga = bank(model, Deaf)
    async with a_call(ga, model) as rig:
        await rig.user_says("a secret", at=0.5)
        await rig.until_idle()
        await rig.wait_until(10.0)
        rig.session.update_agent(ga.agent("billing"))
        await asyncio.sleep(SlowToLeave.seconds + 3)
        assert spoken(rig) == [("billing", "Billing speaking.")]
    assert user_texts(ga) == []


async def test_the_program_changes_the_floor_while_the_agent_speaks_and_the_caller_barges_in() -> None:
    story = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
    model = ScriptedModel({"support": [story], "billing": ["Billing speaking.", "Fine."]})
    ga = bank(model, LiveKitAgent)
    async with a_call(ga, model) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 0.5)
        rig.session.update_agent(ga.agent("billing"))
        await rig.user_says("please stop it now")
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing speaking. Fine.")
        assert handoffs_in_livekit(rig.session) == ["billing"]
        assert story.startswith(words(rig.spoken[0].text))
    assert user_texts(ga) == ["Tell me a story", "please stop it now"]
