"""Typed input (`lk.chat`): LiveKit's own callback makes a turn of it, whatever the agent is doing."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, agrees, calls_in_graph, handoffs_in_livekit, outputs_in_graph, spoken, voice
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from livekit.agents import Agent as LiveKitAgent
from livekit.agents.voice.room_io import TextInputEvent, TextInputOptions

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig

pytestmark = pytest.mark.virtual_clock

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."


async def types(rig: VoiceRig, text: str) -> None:
    """What LiveKit's RoomIO does with a message on `lk.chat`."""
    waiting = TextInputOptions().text_input_cb(rig.session, TextInputEvent(text))
    if waiting is not None:
        await waiting


def typed(ga: GraphAgent) -> list[str]:
    return [m.text for m in ga.conversation.messages if isinstance(m, HumanMessage)]


def once_on_both_sides(ga: GraphAgent, rig: VoiceRig, *texts: str) -> None:
    assert typed(ga) == list(texts)
    theirs = [i.text_content for i in rig.session.history.items if i.type == "message" and i.role == "user"]
    assert theirs == list(texts)
    check_invariants(ga.conversation, said=texts)


def wishes(messages: list[BaseMessage]) -> Any:
    """A model that does what the caller's last word says."""
    asked = max(i for i, m in enumerate(messages) if isinstance(m, HumanMessage) and "instructions" not in m.text)
    text = messages[asked].text
    if "are you there" in text:
        return "I am with you."
    if any(isinstance(m, ToolMessage) for m in messages[asked:]):
        return "It is found."
    if "look" in text:
        return say("One moment.", call("look_up"))
    if "transfer" in text and "You are the shop." in messages[0].text:
        return call("transfer_to_bank")
    return "The bank is glad to have you on the line today."


class Shop:
    def __init__(self, script: Any = None, *, slow_to_leave: float = 0.0) -> None:
        self.ran: list[str] = []

        class Leaves(LiveKitAgent):
            async def on_exit(self) -> None:
                await asyncio.sleep(slow_to_leave)

        @function_tool
        async def look_up(ctx: RunContext[Any]) -> str:
            """Look up."""
            self.ran.append(str(ctx.tool_call_id))
            await asyncio.sleep(3)
            return "found"

        self.model = ScriptedModel(script or wishes, first_token=0.3)
        agents = [
            Agent(
                "shop",
                instructions="You are the shop.",
                tools=[look_up],
                handoffs=[Handoff("bank", say="I'm putting you through to the bank now.")],
                voice=voice("shop"),
            ),
            Agent("bank", instructions="You are the bank.", on_enter="Greet.", voice=voice("bank")),
        ]
        self.ga = GraphAgent(create_voice_graph(agents, llm=self.model), bases={"shop": Leaves})


async def test_a_typed_message_is_a_turn() -> None:
    shop = Shop([("hello", "Hello yourself.")])
    async with a_call(shop.ga, shop.model) as rig:
        await types(rig, "hello there")
        await rig.until_idle()
        assert spoken(rig) == [("shop", "Hello yourself.")]
        once_on_both_sides(shop.ga, rig, "hello there")


async def test_a_callback_of_the_programs_own_is_a_turn_as_well() -> None:
    async def only_shouts(session: Any, event: TextInputEvent) -> None:
        await session.interrupt()
        session.generate_reply(user_input=event.text.upper(), instructions="Answer calmly.")

    shop = Shop(["Hello yourself."])
    async with a_call(shop.ga, shop.model) as rig:
        await only_shouts(rig.session, TextInputEvent("hello"))
        await rig.until_idle()
        once_on_both_sides(shop.ga, rig, "HELLO")
    assert "Answer calmly." in shop.model.prompts[0].messages[-1].text


async def test_typing_while_the_agent_speaks_interrupts_it() -> None:
    shop = Shop([("story", STORY), ("stop", "As you wish.")])
    async with a_call(shop.ga, shop.model) as rig:
        await types(rig, "tell me a story")
        await rig.until_speaking()
        await asyncio.sleep(1.6)
        await types(rig, "stop it")
        await rig.until_idle()
        once_on_both_sides(shop.ga, rig, "tell me a story", "stop it")
    first = shop.ga.conversation.messages[1]
    assert first.additional_kwargs["interrupted"]
    assert 0 < len(first.text) < len(STORY)
    # The model is told what was heard before it was interrupted (LiveKit's own prompt lacks it here).
    assert first.text in [m.text for m in shop.model.prompts[-1].messages]


async def test_typing_while_the_model_thinks_asks_it_anew() -> None:
    shop = Shop([("and", "Both then."), ("", say("Never heard.", first_token=5.0))])
    async with a_call(shop.ga, shop.model) as rig:
        await types(rig, "one thing")
        await asyncio.sleep(1)
        await types(rig, "and another")
        await rig.until_idle()
        assert spoken(rig) == [("shop", "Both then.")]
        once_on_both_sides(shop.ga, rig, "one thing", "and another")
    assert shop.model.prompts[0].outcome == "cancelled"


async def test_typing_while_a_tool_runs_keeps_its_result_and_runs_it_once() -> None:
    shop = Shop()
    async with a_call(shop.ga, shop.model) as rig:
        await types(rig, "look it up")
        await asyncio.sleep(2.5)
        assert len(shop.ran) == 1
        await types(rig, "are you there")
        await rig.until_idle()
        await asyncio.sleep(5)
        await rig.until_idle()
        once_on_both_sides(shop.ga, rig, "look it up", "are you there")
        assert any("I am with you." in text for _, text in spoken(rig))
    assert len(shop.ran) == 1
    assert outputs_in_graph(shop.ga) == {shop.ran[0]: "found"}
    assert calls_in_graph(shop.ga) == shop.ran


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.2, 4.2, 5.5, 7.0])
async def test_typing_at_any_moment_of_a_handoff_is_answered_once(seconds: float) -> None:
    """While the model thinks, while the transfer is announced, while the floor changes, during the first words."""
    shop = Shop(slow_to_leave=1.5)
    async with a_call(shop.ga, shop.model) as rig:
        await types(rig, "transfer me")
        await asyncio.sleep(seconds)
        await types(rig, "hello are you there")
        await rig.until_idle()
        await asyncio.sleep(3)
        await rig.until_idle()
        once_on_both_sides(shop.ga, rig, "transfer me", "hello are you there")
        assert [text for _, text in spoken(rig) if "I am with you." in text] != []
        expected = rig.session.current_agent.id
        assert shop.ga.conversation.active_agent == expected
        assert handoffs_in_livekit(rig.session) == ([] if expected == "shop" else ["bank"])


async def test_two_messages_at_once_are_two_turns_and_the_last_is_answered() -> None:
    shop = Shop([("second", "The second it is."), ("first", "The first.")])
    async with a_call(shop.ga, shop.model) as rig:
        await asyncio.gather(types(rig, "first of all"), types(rig, "second of all"))
        await rig.until_idle()
        once_on_both_sides(shop.ga, rig, "first of all", "second of all")
        assert spoken(rig)[-1][1].endswith("The second it is.")


async def test_typing_and_speaking_at_the_same_time_loses_neither() -> None:
    shop = Shop([("", "I hear you.")])
    async with a_call(shop.ga, shop.model) as rig:
        speaking = asyncio.create_task(rig.user_says("this is what I say"))
        await asyncio.sleep(0.7)
        await types(rig, "this is what I type")
        await speaking
        await rig.until_idle()
        assert sorted(typed(shop.ga)) == ["this is what I say", "this is what I type"]
        agrees(shop.ga, rig.session)


async def test_typing_over_a_guess_discards_the_guess() -> None:
    shop = Shop([("type", "I read you."), ("", "I hear you.")])
    async with a_call(shop.ga, shop.model, turn_handling={"endpointing": {"min_delay": 2.0, "max_delay": 4.0}}) as rig:
        await rig.user_says("this is what I say", at=0.5)
        await asyncio.sleep(1.0)
        assert len(shop.model.prompts) == 1
        assert shop.ga.conversation.messages == []
        await types(rig, "this is what I type")
        await rig.until_idle()
        assert "this is what I type" in typed(shop.ga)
        check_invariants(shop.ga.conversation)
