"""LiveKit's "away": who waits for a tool behind a barge-in is not away, and the count begins when it has ended."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, voice
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.agents.voice.events import UserStateChangedEvent

from graph_voice import Agent, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, run, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock
AWAY = 5.0


async def when_away(seconds: list[float], *, question: str | None, silence: float) -> tuple[list[float], float]:
    """When the caller counts as away, and when the last tool has ended; in seconds of the call."""
    loop = asyncio.get_running_loop()
    ended: list[float] = []

    @function_tool
    async def find_order(number: int) -> str:
        """Find an order."""
        await asyncio.sleep(seconds[number])
        ended.append(loop.time())
        return "on its way"

    def answer(messages: list[Any]) -> Any:
        last = messages[-1].text
        asks = say(*(call("find_order", {"number": n}) for n in range(len(seconds))))
        return asks if last == "Where is my order?" else "Still looking." if last == question else "It is on its way."

    desk = Agent("desk", instructions="D", tools=[find_order], voice=voice("desk"))
    ga = GraphAgent(create_voice_graph([desk], llm=ScriptedModel(answer)))
    gone: list[float] = []

    def changed(event: UserStateChangedEvent) -> None:
        if event.new_state == "away":
            gone.append(loop.time())

    async with a_call(ga, user_away_timeout=AWAY) as rig:
        rig.session.on("user_state_changed", changed)
        await rig.user_says("Where is my order?")
        await asyncio.sleep(3)
        if question is not None:
            await rig.user_says(question)
        await asyncio.sleep(max(seconds) + silence)
        if silence < AWAY:
            await rig.user_says("Thank you.")
    return gone, max(ended)


@pytest.mark.parametrize("question", ["Are you there?", None])
async def test_nobody_is_away_who_waits_for_a_tool(question: str | None) -> None:
    gone, ended = await when_away([30], question=question, silence=40)
    assert len(gone) == 1
    assert gone[0] >= ended + AWAY


async def test_who_speaks_again_in_time_is_never_away() -> None:
    gone, _ = await when_away([30], question="Are you there?", silence=2)
    assert gone == []


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(4, 60), min_size=1, max_size=3))
def test_the_last_tool_of_a_batch_counts(seconds: list[int]) -> None:
    async def scenario() -> None:
        gone, ended = await when_away([float(s) for s in seconds], question="Are you there?", silence=60)
        assert [moment for moment in gone if moment < ended + AWAY] == []
        assert len(gone) == 1

    run(scenario())
