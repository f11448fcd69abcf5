"""A call goes the same way whether a tool is the agent's own or a toolset's: barge-ins, late results, crashes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice import Agent, Handoff, RunContext, Task, Toolset, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]
RAN: list[str] = []


@function_tool(filler="One moment.")
async def look(ctx: RunContext[Any], what: str = "") -> str:
    """Look."""
    RAN.append(f"begins {what}")
    await asyncio.sleep(4)
    RAN.append(f"ends {what}")
    return f"found {what}"


@function_tool(idempotent=True)
async def check(what: str = "") -> str:
    """Check."""
    RAN.append(f"checks {what}")
    await asyncio.sleep(4)
    return f"checked {what}"


@function_tool(approve="Shall I pay {what}?")
async def pay(what: str = "") -> str:
    """Pay."""
    RAN.append(f"pays {what}")
    return f"paid {what}"


@function_tool(handoffs=["bills"])
async def move(ctx: RunContext[Any]) -> Handoff:
    """Move."""
    RAN.append("moves")
    return ctx.handoff("bills")


async def fail(what: str = "") -> str:
    RAN.append("fails")
    raise ValueError("no")


get_city = Task("get_city", instructions="Ask for the city.", result=str)


@function_tool(tasks=[get_city])
async def travel(ctx: RunContext[Any]) -> str:
    """Travel."""
    city = await ctx.run_task(get_city)
    RAN.append(f"travels to {city}")
    return f"to {city}"


TOOLS = [look, check, pay, move, travel, StructuredTool.from_function(coroutine=fail, name="fail", description="Fail.")]


class Desk(Toolset):
    """It knows its tools after a while, as a server does."""

    def __init__(self) -> None:
        super().__init__("desk")
        self.now: list[Any] = []

    @property
    def tools(self) -> Sequence[Any]:
        return self.now

    async def setup(self) -> None:
        await asyncio.sleep(0.1)
        self.now = TOOLS


def answers(messages: Sequence[AnyMessage]) -> Any:
    """Calls the tool that the caller names; speaks of a result; completes a task."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return f"So {last.text[:40]}."
    if not last.text or messages[-1].type != "human":
        return "I am here."
    name, _, what = last.text.rstrip(".").partition(" ")
    if "Ask for the city" in messages[0].text:
        return call("complete_get_city", {"value": what or "Rome"}) if name == "in" else "Which city?"
    if name == "both":
        return say("Both of them, then.", call("look", {"what": what}), call("check", {"what": what}))
    if name in {"look", "check", "pay", "fail"}:
        return say("Let me see what I can do for you.", call(name, {"what": what}))
    return call(name) if name in {"move", "travel"} else "Yes?"


async def plain(phone: Call[Any]) -> None:
    for words in ("look tea", "fail now", "Hello?", "both tea"):
        await phone.says(words)


async def cut_words(phone: Call[Any]) -> None:
    phone.barge_in("Wait.", after_words=3)
    await phone.says("look tea")
    await phone.silence(10)


async def cut_in_behind_it(phone: Call[Any]) -> None:
    phone.during_tool("look").says("Hello?")
    await phone.says("look tea")
    await phone.silence(10)


async def both_late(phone: Call[Any]) -> None:
    phone.during_tool("check").says("look cake")
    await phone.says("both tea")
    await phone.silence(20)


async def crash(phone: Call[Any]) -> None:
    phone.during_tool("look").crash()
    await phone.says("look tea")
    await phone.resume()
    await phone.says("Hello?")


async def approved_after_a_crash(phone: Call[Any]) -> None:
    await phone.says("pay tea")
    await phone.crash().resume()
    await phone.says("yes")
    await phone.says("pay cake")
    await phone.says("no")


async def guessed(phone: Call[Any]) -> None:
    await phone.speculates("look tea").then_says("look cake")
    await phone.speculates("pay tea").then_says("Hello?")


async def handed_off(phone: Call[Any]) -> None:
    await phone.says("move")
    await phone.says("Hello?")


async def through_a_task(phone: Call[Any]) -> None:
    await phone.says("travel")
    await phone.says("in Oslo")
    await phone.says("Hello?")


async def played(front_end: Any, scenario: Callable[[Call[Any]], Awaitable[None]], *tools: Any) -> Any:
    RAN.clear()
    desk = Agent("desk", instructions="x", tools=tools, handoffs=[Handoff("bills", tool=False)], tasks=[get_city])
    graph = create_voice_graph([desk, Agent("bills", instructions="x"), get_city])
    async with Call(graph, llm=ScriptedModel(answers), front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Hello.")
        await scenario(phone)
        told = [m.text for m in phone.messages if isinstance(m, ToolMessage)]
        return phone.heard, told, list(RAN), phone.active_agent


@pytest.mark.parametrize(
    "scenario",
    [
        plain,
        cut_words,
        cut_in_behind_it,
        both_late,
        crash,
        approved_after_a_crash,
        guessed,
        handed_off,
        through_a_task,
    ],
)
async def test_it_goes_the_same_way(front_end: Any, scenario: Callable[[Call[Any]], Awaitable[None]]) -> None:
    own = await played(front_end, scenario, *TOOLS)
    of_a_toolset = await played(front_end, scenario, Desk())
    assert of_a_toolset == own
    assert any(own[1:3])
