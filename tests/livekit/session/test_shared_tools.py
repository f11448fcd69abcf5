"""Tools of every agent, `create_voice_graph(tools=[...])`, on both front ends."""

from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from graph_voice import Agent, Handoff, RunContext, Task, TaskGroup, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]


@function_tool
async def opening_hours(ctx: RunContext[Any]) -> str:
    """Tell the opening hours."""
    return f"nine to five, says {ctx.agent}"


@function_tool(handoffs=["operator"])
async def get_help(ctx: RunContext[Any]) -> Handoff:
    """The caller wants a human."""
    return ctx.handoff("operator")


def agent(name: str, **options: Any) -> Agent:
    return Agent(name, instructions=f"You are {name}.", **options)


def results(phone: Call[Any]) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


async def test_every_agent_has_them(front_end: Any) -> None:
    ask = call("opening_hours")
    model = ScriptedModel([ask, "Nine.", call("transfer_to_bills"), "Bills here.", ask, "Nine to five."])
    graph = create_voice_graph([agent("desk", handoffs=["bills"]), agent("bills")], tools=[opening_hours])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("When are you open?")
        await phone.says("My bill, please.")
        await phone.says("And when are you open?")
        assert results(phone) == [
            "nine to five, says desk",
            "Transferring to bills.",
            "nine to five, says bills",
        ]
        assert phone.heard == ["Nine.", "Bills here.", "Nine to five."]


async def test_an_agents_own_tool_of_the_same_name_comes_first(front_end: Any) -> None:
    @function_tool(name="opening_hours")
    async def own() -> str:
        """Tell the opening hours of the shop."""
        return "always"

    model = ScriptedModel([call("opening_hours"), "Always."])
    graph = create_voice_graph([agent("desk", tools=[own])], tools=[opening_hours])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("When are you open?")
        assert results(phone) == ["always"]


async def test_one_that_hands_off_leads_there_from_everywhere_else(front_end: Any) -> None:
    model = ScriptedModel([call("transfer_to_bills"), "Bills here.", call("get_help"), "Operator here.", "Yes."])
    agents = [agent("desk", handoffs=["bills"]), agent("bills"), agent("operator")]
    graph = create_voice_graph(agents, tools=[get_help])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("My bill, please.")
        await phone.says("I want a human.")
        assert phone.active_agent == "operator"
        await phone.says("Are you human?")
        assert [set(prompt.tools) for prompt in model.prompts] == [
            {"transfer_to_bills", "get_help"},
            {"get_help"},
            {"get_help"},
            set(),
            set(),
        ]
        assert phone.heard == ["Bills here.", "Operator here.", "Yes."]


async def test_tasks_and_the_steps_of_a_group_have_them_and_none_runs_itself(front_end: Any) -> None:
    name = Task("get_name", instructions="Ask for the name.")
    group = TaskGroup("about", [name, Task("get_city", instructions="Ask for the city.")])

    @function_tool(tasks=[group])
    async def start_over(ctx: RunContext[Any]) -> str:
        """Take the caller's data."""
        return str(await ctx.run_task(group))

    model = ScriptedModel(
        {
            "desk": [call("start_over"), "Thanks."],
            "get_name": [call("opening_hours"), "Nine. Your name?", call("complete_get_name", {"value": "Ada"})],
            "get_city": ["Your city?", call("complete_get_city", {"value": "Rome"})],
        }
    )
    graph = create_voice_graph([agent("desk"), group], tools=[opening_hours, start_over])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("Take my data.")
        await phone.says("Ada.")
        await phone.says("Rome.")
        assert phone.heard == ["Nine. Your name?", "Your city?", "Thanks."]
        assert "nine to five, says get_name" in results(phone)
        told = [set(prompt.tools) for prompt in model.prompts if "opening_hours" in prompt.tools]
        assert ["start_over" in tools for tools in told] == [True, False, False, False, False, False, True]
