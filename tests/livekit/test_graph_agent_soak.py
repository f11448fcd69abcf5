"""Long calls: nothing piles up, nothing gets lost, and both sides tell the same story at every rest."""

import asyncio
import random
from typing import Any

import pytest
from graph_agent_support import agrees, calls_in_graph, no_accidents, voice
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig, voice_rig

pytestmark = pytest.mark.virtual_clock(limit=100_000)

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."


def answer(messages: list[BaseMessage]) -> Any:
    """A model that does what the caller's last word says."""
    behind = messages[max(i for i, m in enumerate(messages) if isinstance(m, HumanMessage)) :]
    text = behind[0].text
    if any(isinstance(m, ToolMessage) for m in behind):
        return "That is done."
    if "story" in text:
        return STORY
    if "charge" in text:
        return say("One moment.", call("charge", id=f"call-{len(messages)}-{random.random()}"))
    if "transfer" in text and "You are a." in messages[0].text:
        return say("Sure.", call("transfer_to_b"))
    if "transfer" in text:
        return say("Sure.", call("transfer_to_a"))
    return "I hear you."


def two_agents() -> tuple[GraphAgent, ScriptedModel, list[str]]:
    charged: list[str] = []

    @function_tool
    async def charge(ctx: RunContext[Any]) -> str:
        """Charge."""
        charged.append(str(ctx.tool_call_id))
        await asyncio.sleep(1.5)
        return "charged"

    model = ScriptedModel(answer, first_token=0.2)
    graph = create_voice_graph(
        [
            Agent("a", instructions="You are a.", tools=[charge], handoffs=[Handoff("b")], voice=voice("a")),
            Agent(
                "b",
                instructions="You are b.",
                tools=[charge],
                handoffs=[Handoff("a", say="Going back.")],
                voice=voice("b"),
            ),
        ],
        llm=model,
    )
    return GraphAgent(graph), model, charged


def weight(ga: GraphAgent) -> dict[str, int]:
    """How much the bridge and the conversation hold on to."""
    bridge, conversation = ga._bridge, ga.conversation
    held = {name: len(value) for name, value in vars(bridge).items() if isinstance(value, dict | set | list)}
    held |= {
        f"conversation.{name}": len(value)
        for name, value in vars(conversation).items()
        if isinstance(value, set | list) and name != "messages"
    }
    held["unclaimed"] = len(bridge._lost._unclaimed)
    return held


async def rest(rig: VoiceRig) -> None:
    await rig.until_idle(timeout=300)
    await asyncio.sleep(10)  # tools that a barge-in left behind


async def test_after_two_hundred_turns_nothing_has_piled_up() -> None:
    ga, model, charged = two_agents()
    with no_accidents():
        async with voice_rig(ga) as rig:
            await rig.user_says("transfer me", at=0.5)
            await rest(rig)
            first, tasks = weight(ga), len(asyncio.all_tasks())
            for round_ in range(50):
                await rig.user_says("tell me a story")
                await asyncio.sleep(2.0)
                await rig.user_says("please transfer me now")  # barges in
                await asyncio.sleep(1.0 + round_ % 3)
                await rig.user_says("please charge me now")
                await asyncio.sleep(2.0)
                await rig.user_says("hello there my friend")
                await rest(rig)
            agrees(ga, rig.session)
            assert weight(ga) == first
            assert len(asyncio.all_tasks()) == tasks
    assert len([m for m in ga.conversation.messages if m.type == "human"]) >= 150
    assert len(ga.conversation.handoffs) >= 30
    assert sum(bool(m.additional_kwargs.get("interrupted")) for m in ga.conversation.messages) >= 40
    assert len(charged) == len(set(charged)) >= 40
    assert not model.errors


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_call_agrees_at_every_rest(seed: int) -> None:
    dice = random.Random(seed)
    ga, model, charged = two_agents()
    said: list[str] = []
    with no_accidents():
        async with voice_rig(ga) as rig:
            for _ in range(12):
                for _ in range(dice.randint(1, 4)):
                    wish = dice.choice(["tell me a story", "charge me please", "transfer me please", "hello to you"])
                    said.append(f"{wish} {len(said)}")
                    guess = dice.choice([None, None, said[-1], "charge me twice"])
                    await rig.user_says(said[-1], preflight=guess)
                    await asyncio.sleep(dice.uniform(0.0, 4.0))
                    if dice.random() < 0.15:
                        await rig.session.interrupt()
                await rest(rig)
                agrees(ga, rig.session)
            heard = "".join(m.text for m in ga.conversation.messages if m.type == "human")
            # No user turn is lost, none comes twice. (Two that touch are one for the recogniser, without a space.)
            assert "".join(heard.split()) == "".join("".join(said).split())
    assert set(charged) <= set(calls_in_graph(ga))
    assert len(charged) == len(set(charged))
    assert not model.errors
