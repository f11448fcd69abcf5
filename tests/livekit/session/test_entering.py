"""An agent that enters by a method: a run lasts until it has ended, and what says nothing is no speech."""

import asyncio
from typing import Any

import pytest
from livekit.agents import AgentSession

from graph_voice import Agent, Handoff, RunContext, create_voice_graph
from graph_voice.testing import ScriptedModel, call
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = pytest.mark.virtual_clock


async def greet(ctx: RunContext[Any]) -> None:
    await ctx.say("Welcome.")
    await asyncio.sleep(0.5)
    await ctx.generate_reply("Ask how you can help.")


def words(result: Any) -> list[str]:
    return [event.item.text_content for event in result.events if event.type == "message"]


@pytest.mark.parametrize("how", ["the session starts", "a handoff"])
async def test_a_run_lasts_until_everything_that_on_enter_says_is_said(how: str) -> None:
    script = {"quiet": [call("transfer_to_chatty")], "chatty": lambda messages: "How can I help?"}
    chatty = Agent("chatty", instructions="You greet.", on_enter=greet, handoffs=[Handoff("quiet")])
    quiet = Agent("quiet", instructions="You transfer.", handoffs=[Handoff("chatty")])
    graph = create_voice_graph([quiet, chatty], start="chatty" if how == "the session starts" else "quiet")
    ga = GraphAgent(graph, config={"configurable": {"llm": ScriptedModel(script, first_token=0.2)}})
    async with AgentSession[Any](vad=None, turn_handling={"turn_detection": None}) as session:
        result = await session.start(ga, capture_run=True)
        if how == "a handoff":
            result = await session.run(user_input="go")
        assert words(result) == ["Welcome.", "How can I help?"]
        check_invariants(ga.conversation, heard=["Welcome.", "How can I help?"], current_agent="chatty")


async def test_an_on_enter_that_says_nothing_is_no_speech_and_the_caller_is_answered_meanwhile() -> None:
    async def load(ctx: RunContext[dict[str, Any]]) -> None:
        await asyncio.sleep(5)
        ctx.userdata["loaded"] = True

    agent = Agent("main", instructions="x", on_enter=load)
    ga = GraphAgent(create_voice_graph([agent], llm=ScriptedModel(["Here I am."]), userdata=dict))
    async with voice_rig(ga) as rig:
        speeches: list[Any] = []
        states: list[tuple[float, str]] = []
        rig.session.on("speech_created", speeches.append)
        rig.session.on("agent_state_changed", lambda event: states.append((rig.now, event.new_state)))
        await rig.user_says("Hello?", at=1.0)
        await rig.until_idle()
        await asyncio.sleep(6)
        assert (len(speeches), rig.messages) == (1, [("user", "Hello?"), ("assistant", "Here I am.")])
        assert [state for at, state in states if at < 1.0] in ([], ["listening"])
        assert ga.conversation.userdata == {"loaded": True}


async def test_an_on_enter_that_is_cut_off_lets_the_session_go_on() -> None:
    agent = Agent("main", instructions="x", on_enter=greet)
    ga = GraphAgent(create_voice_graph([agent], llm=ScriptedModel(lambda messages: "Yes?")))
    async with voice_rig(ga) as rig:
        await rig.until_speaking()
        await rig.user_says("Stop, please listen to me.", seconds=1.5)
        await rig.until_idle()
        assert rig.messages[-1] == ("assistant", "Yes?")
        check_invariants(ga.conversation)
