"""What a tool does behind its task: it hands off, it stops the reply, it goes on speaking. On both front ends."""

from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.types import interrupt

from graph_voice import Agent, Handoff, RunContext, StopResponse, Task, create_voice_graph, function_tool, history
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]
CODE = Task("get_code", instructions="Ask for the code.")
ASKS = ["Your code?", call("complete_get_code", {"value": "seven"})]


def desk(tool: Any, *handoffs: Handoff) -> Any:
    agent = Agent("desk", instructions="Desk.", tools=[tool], tasks=[CODE], handoffs=handoffs)
    human = [Agent("human", instructions="Human.")] if handoffs else []
    return create_voice_graph([agent, CODE, *human])


@pytest.mark.parametrize("carried", [history.fresh(), history.full(), history.exclude_tool_calls()])
async def test_the_agent_that_it_hands_off_to_answers_alone(front_end: Any, carried: history.Operation) -> None:
    @function_tool(handoffs=["human"])
    async def escalate(ctx: RunContext[Any]) -> Handoff:
        """Escalate."""
        return ctx.handoff("human", f"code {await ctx.run_task(CODE)}")

    graph = desk(escalate, Handoff("human", history=carried, tool=False))
    model = ScriptedModel({"desk": [call("escalate")], "get_code": ASKS, "human": ["Human here.", "Still here."]})
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("A human.")
        assert (await phone.says("Seven.")).heard == "Human here."
        assert phone.active_agent == phone.current_agent == "human"
        assert (await phone.says("Hello?")).heard == "Still here."
        assert next(m.text for m in phone.messages if isinstance(m, ToolMessage)) == "code seven"
    shown = [m.text for m in model.prompts[-2].messages[1:] if m.type in ("human", "ai") and m.text]
    talk = ["A human.", "Your code?", "Seven."]
    assert shown[:3] == talk if carried != history.fresh() else not {*talk} & {*shown}


async def test_a_tool_that_stops_the_reply_is_not_answered(front_end: Any) -> None:
    @function_tool
    async def note(ctx: RunContext[Any]) -> str:
        """Note."""
        await ctx.run_task(CODE)
        raise StopResponse

    model = ScriptedModel({"desk": [call("note"), "Yes?"], "get_code": ASKS})
    async with Call(desk(note), llm=model, front_end=front_end, check=False) as phone:
        await phone.says("Note it.")
        assert (await phone.says("Seven.")).heard == ""
        assert phone.active_agent == "desk"
        assert (await phone.says("Hello?")).heard == "Yes?"


async def test_what_it_says_between_two_tasks_is_said_once(front_end: Any) -> None:
    @function_tool
    async def check(ctx: RunContext[Any]) -> str:
        """Check."""
        await ctx.say("First.")
        one = await ctx.run_task(CODE)
        await ctx.say(f"Once more: {one}.")
        two = await ctx.run_task(CODE)
        await ctx.say("Thanks.")
        return f"{one} {two}"

    model = ScriptedModel({"desk": [call("check"), "Done."], "get_code": ASKS * 2})
    async with Call(desk(check), llm=model, front_end=front_end) as phone:
        heard = [(await phone.says(words)).heard for words in ("Go.", "Seven.", "Seven.")]
        assert heard == ["First. Your code?", "Once more: seven. Your code?", "Thanks. Done."]


async def test_what_it_says_between_two_questions_is_said_once(front_end: Any) -> None:
    @function_tool
    async def check(ctx: RunContext[Any]) -> str:
        """Check."""
        await ctx.say("First.")
        one = interrupt("Which?")
        await ctx.say("Good.")
        two = interrupt("And then?")
        await ctx.say("Thanks.")
        return f"{one} {two}"

    model = ScriptedModel([call("check"), "Done."])
    graph = create_voice_graph([Agent("desk", instructions="Desk.", tools=[check])])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        heard = [(await phone.says(words)).heard for words in ("Go.", "This.", "That.")]
        assert heard == ["First. Which?", "Good. And then?", "Thanks. Done."]
