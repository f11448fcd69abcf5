"""A tool that goes on behind its task, and a caller who cuts in while it works: they are told what came of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from graph_voice import Agent, RunContext, Task, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = pytest.mark.virtual_clock

RUNNING = "The tool call is still in progress."


def booking(protect: bool, on_enter: Any) -> Any:
    get_city = Task("get_city", result=str, instructions="Ask for the city.")

    @function_tool(tasks=[get_city])
    async def book(ctx: RunContext[Any]) -> str:
        """Book a flight."""
        city = await ctx.run_task(get_city)
        if protect:
            ctx.disallow_interruptions()
        await asyncio.sleep(4)
        return f"Booked for {city}."

    desk = Agent("desk", instructions="Desk.", tools=[book], on_enter=on_enter)
    return create_voice_graph([desk, get_city])


def truthful(messages: Sequence[Any]) -> Any:
    """A desk that says what its tool says."""
    told = [m.text for m in messages if m.type == "tool"]
    if "Booked for Rome." in told:
        return "It is booked."
    if told:
        return "One moment."
    return call("book") if messages[-1].text == "A flight." else "Hello."


async def greets(ctx: RunContext[Any]) -> None:
    await ctx.generate_reply("Greet the caller.")


@pytest.mark.parametrize("on_enter", ["Greet.", greets], ids=["text", "method"])
@pytest.mark.parametrize("protect", [False, True], ids=["open", "protected"])
@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_the_caller_is_told_what_came_of_it(front_end: Any, protect: bool, on_enter: Any) -> None:
    asks = ["Which city?", call("complete_get_city", {"value": "Rome"})]
    model = ScriptedModel({"desk": truthful, "get_city": asks})
    async with Call(booking(protect, on_enter), llm=model, front_end=front_end) as phone:
        await phone.says("A flight.")
        phone.during_tool("complete_get_city").says("No, wait, don't.")
        await phone.says("Rome.")
        await phone.silence(10)
        assert next(m.text for m in phone.messages if m.type == "tool") == "Booked for Rome."
        heard = [text.strip() for text in phone.heard]
        assert heard[-1] == "It is booked."
        # As behind any tool call that can't be interrupted: LiveKit answers the words beside it, the core behind it.
        assert ("One moment." in heard) != (protect and front_end == "core")
        assert heard.count("It is booked.") == 1 + (protect and front_end == "core"), "the core answers the words then"
    assert phone.effects.count("book") == 1
