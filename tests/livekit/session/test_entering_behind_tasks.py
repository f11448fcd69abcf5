"""An `on_enter` method that waits for a task goes on once, however soon the caller speaks again."""

import asyncio
from typing import Any

import pytest
from livekit.agents import AgentSession

from graph_voice import Agent, Conversation, RunContext, Task, create_voice_graph, events
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


class Desk:
    """A desk whose `on_enter` method acts behind a task, and then speaks."""

    def __init__(self) -> None:
        self.acted: list[str] = []
        get_city = Task("get_city", result=str, instructions="Which city?")

        async def enter(ctx: RunContext[Any]) -> None:
            self.acted.append(await ctx.run_task(get_city))
            await ctx.generate_reply("Welcome the caller.")

        desk = Agent("desk", instructions="Desk.", on_enter=enter, tasks=[get_city])
        asks = ["Which city?", call("complete_get_city", {"value": "Rome"})]
        self.model = ScriptedModel({"desk": ["Welcome.", "How can I help?"], "get_city": asks})
        self.graph = create_voice_graph([desk, get_city], llm=self.model)


@pytest.mark.parametrize("pause", [0, 5])
async def test_in_livekit(pause: float) -> None:
    desk = Desk()
    agent = GraphAgent(desk.graph)
    async with AgentSession[Any](vad=None) as session:
        await session.start(agent, capture_run=True)
        for words in ("Rome", "Hello?"):
            await session.run(user_input=words)
            await asyncio.sleep(pause)
        await asyncio.sleep(5)
        said = [m.text for m in agent.conversation.messages if m.type == "ai" and m.text]
        assert said == ["Which city?", "Welcome.", "How can I help?"]
        assert agent.conversation.state["stack"] == []
    assert desk.acted == ["Rome"]
    instructed = [any("Welcome the caller." in m.text for m in prompt.messages) for prompt in desk.model.prompts]
    assert instructed == [False, False, True, False]


async def test_when_the_turn_in_which_it_goes_on_is_still_open() -> None:
    desk = Desk()
    conversation = Conversation(desk.graph)
    await conversation.run()
    first = conversation.turn("Rome")
    first.commit()
    async for event in first:
        if isinstance(event, events.ToolCalls):
            first.allow(event.calls[0].id)
        if isinstance(event, events.HandedOff):
            first.confirm_handoff(event.call_id)
        if isinstance(event, events.Text):
            first.heard(event.message_id, event.text)
            break
    first.interrupt()
    await conversation.run("Hello?")
    first.close()
    assert desk.acted == ["Rome"]
    assert conversation.messages[-1].text == "How can I help?"
    assert conversation.state["stack"] == []
    await conversation.aclose()
