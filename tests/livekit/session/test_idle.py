"""`Idle` beside what LiveKit has: text sessions, "away", noises, external agents, the caller who comes back."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, a_text_call, agrees, told_by_graph, told_by_livekit, voice
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.agents import Agent as LiveKitAgent
from livekit.agents.voice.events import UserStateChangedEvent
from native_support import LiveKitModel

from graph_voice import Agent, Handoff, Idle, create_voice_graph
from graph_voice.testing import ScriptedModel, call, run
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS

pytestmark = pytest.mark.virtual_clock

STILL = "Are you still there?"


def desk(*script: Any, idle: Idle, **options: Any) -> GraphAgent:
    agent = Agent("desk", instructions="D", on_enter="Greet.", voice=voice("desk"))
    return GraphAgent(create_voice_graph([agent], llm=ScriptedModel(list(script)), idle=idle), **options)


def said(ga: GraphAgent) -> list[str]:
    return [m.text for m in ga.conversation.messages if m.type == "ai"]


async def test_a_session_in_text_is_nudged_too() -> None:
    ga = desk("Hello.", "Good.", idle=Idle(after=10, say=STILL))
    async with a_text_call(ga) as session:
        await asyncio.sleep(11)
        assert said(ga) == ["Hello.", STILL]
        await session.run(user_input="I am.")
        await asyncio.sleep(9)
        assert said(ga) == ["Hello.", STILL, "Good."]
        await asyncio.sleep(2)
        assert told_by_graph(ga) == told_by_livekit(session)
        assert said(ga)[-1] == STILL


async def test_the_caller_is_away_when_the_nudges_are_over() -> None:
    gone: list[float] = []
    loop = asyncio.get_running_loop()
    ga = desk("Hello.", "Welcome back.", idle=Idle(after=10, say=STILL, limit=2))
    async with a_call(ga, user_away_timeout=15.0) as rig:

        def changed(event: UserStateChangedEvent) -> None:
            if event.new_state == "away":
                gone.append(loop.time() - rig.loudspeaker.origin)

        rig.session.on("user_state_changed", changed)
        await asyncio.sleep(60)
        last = rig.spoken[-1]
        assert [s.text for s in rig.spoken] == ["Hello.", STILL, STILL]
        assert len(gone) == 1
        assert gone[0] == pytest.approx(last.ended + 15, abs=0.5)
        await rig.user_says("I am back.")
        agrees(ga, rig.session)


async def test_a_noise_starts_the_silence_again() -> None:
    ga = desk("Hello.", idle=Idle(after=10, say=STILL))
    async with a_call(ga) as rig:
        await rig.until_idle()
        for _ in range(3):
            await asyncio.sleep(6)
            await rig.caller.make_noise(0.6)
        assert said(ga) == ["Hello."]
        await asyncio.sleep(14)
        assert said(ga) == ["Hello.", STILL]


class Human(LiveKitAgent):
    def __init__(self) -> None:
        super().__init__(instructions="H", llm=LiveKitModel(["One moment."] * 5), tts=FakeTTS("human"))

    async def on_enter(self) -> None:
        self.session.say("This is a human.")


async def test_an_external_agent_is_never_nudging() -> None:
    lead = Agent(
        "lead", instructions="L", on_enter="Greet.", handoffs=[Handoff("human", "Pass on.")], voice=voice("lead")
    )
    model = ScriptedModel(["Hello.", call("transfer_to_human")])
    graph = create_voice_graph([lead], llm=model, external=["human"], idle=Idle(after=10, say=STILL))
    ga = GraphAgent(graph, agents={"human": Human})
    async with a_call(ga) as rig:
        await asyncio.sleep(12)
        await rig.user_says("A human, please.")
        await rig.until_idle()
        before = [s.text for s in rig.spoken]
        assert before == ["Hello.", STILL, "This is a human."]
        await asyncio.sleep(40)
        assert [s.text for s in rig.spoken] == before


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.3, 25), min_size=1, max_size=4))
def test_whenever_the_caller_speaks_both_sides_tell_the_same(pauses: list[float]) -> None:
    async def scenario() -> None:
        ga = desk(*["Of course, whatever you say."] * 12, idle=Idle(after=4, say=STILL, limit=3))
        async with a_call(ga) as rig:
            for pause in pauses:
                await asyncio.sleep(pause)
                await rig.user_says("And another thing.")
            await asyncio.sleep(2)
        nudges = [text for text in said(ga) if STILL.startswith(text)]
        assert len(nudges) <= 3 * (len(pauses) + 1)

    run(scenario())
