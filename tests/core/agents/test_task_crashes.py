"""The process ends in the middle of the end of a task: nothing that the caller has answered is lost."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import SecretStr

from graph_voice import Agent, Conversation, Done, Handoff, RunContext, Task, create_voice_graph, events, function_tool
from graph_voice.call.durable import NOT_ENDED
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = pytest.mark.virtual_clock


@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_a_task_ends_whose_end_was_announced_when_the_process_ended(front_end: str) -> None:
    """The tool that ends it has acted, and does not act again."""
    saver, ran = InMemorySaver(), list[str]()

    @function_tool
    async def confirm(ctx: RunContext[Any], city: str) -> Done:
        """The city is confirmed."""
        ran.append(city)
        return ctx.complete(city)

    graph = travels(Task("get_city", instructions="Which city?", tools=[confirm]), call("confirm", {"city": "Rome"}))
    first = await crashed_before_it_is_decided(graph, saver, "To Rome.", "Rome.")
    assert [m.text for m in first.messages if isinstance(m, ToolMessage)][-1] == "get city is complete."

    async with Call(graph, front_end=front_end, saver=saver, thread_id="1", check=False) as phone:
        resumed = phone.conversation.resumed
        assert resumed is not None
        assert (resumed.unanswered, resumed.unknown) == (True, ())
        assert results(phone.conversation) == ["Rome", "get city is complete."]
        assert (ran, phone.current_agent, phone.conversation.state["stack"]) == (["Rome"], "desk", [])
        assert phone.greeting.heard == "Done."


async def test_a_task_that_has_run_a_task_ends_too_and_that_one_is_not_asked_again() -> None:
    saver = InMemorySaver()
    zone = Task("get_zone", instructions="Which zone?")

    @function_tool
    async def find_hour(ctx: RunContext[Any], hour: str) -> Done:
        """Record the hour."""
        return ctx.complete(f"{hour} {await ctx.run_task(zone)}")

    hour = Task("get_hour", instructions="Which hour?", tools=[find_hour], tasks=[zone])
    graph = travels(hour, call("find_hour", {"hour": "noon"}), zone)
    await crashed_before_it_is_decided(graph, saver, "To Rome.", "Noon.", "In Rome.")

    second: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await second.open()
    await heard(second.resume())
    assert results(second) == ["noon CET", "get hour is complete.", "get zone is complete."]
    assert (second.active_agent, second.state["stack"]) == ("desk", [])
    await second.aclose()


async def test_what_is_secret_is_not_kept_in_the_result_of_the_tool_call_that_ends_the_task() -> None:
    """Not as a value, and not as a number that the caller has said to an agent that takes secrets."""
    saver, number = InMemorySaver(), "4111111111111111"

    @function_tool
    async def store(ctx: RunContext[Any], code: SecretStr) -> str:
        """Store the number."""
        return "Stored."

    @function_tool
    async def finish(ctx: RunContext[Any], value: str) -> Done:
        """Finish."""
        return ctx.complete(value)

    graph = travels(Task("get_code", instructions="Code?", tools=[store, finish]), call("finish", {"value": number}))
    first = await crashed_before_it_is_decided(graph, saver, "Pay.", f"It is {number}.")
    assert number not in str([message.model_dump() for message in first.messages])
    second: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await second.open()
    assert (second.active_agent, results(second)[-1]) == ("get_code", NOT_ENDED)
    await second.aclose()


async def test_a_tool_that_runs_again_may_wait_for_its_task() -> None:
    """The process ended while it ran for the first time, before it asked for the task."""
    saver, hang, began = InMemorySaver(), asyncio.Event(), asyncio.Event()
    task = Task("get_city", instructions="Which city?")

    @function_tool(idempotent=True)
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        if not began.is_set():
            began.set()
            await hang.wait()
        return str(await ctx.run_task(task))

    desk = Agent("desk", instructions="Desk.", tools=[travel], tasks=[task])
    script = {
        "desk": [call("travel"), "Done."],
        "get_city": ["Which one?", call("complete_get_city", {"value": "Rome"})],
    }
    graph = create_voice_graph([desk, task], llm=ScriptedModel(script))
    first: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await first.open()
    running = asyncio.create_task(first.run("To Rome."))
    await began.wait()
    await first.call.durable.flush(5)  # type: ignore[union-attr]
    await first.call.abandon()
    running.cancel()

    second: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await second.open()
    await heard(second.resume())
    assert (results(second), second.active_agent) == ([RUNNING], "get_city")
    await second.run("Rome.")
    assert (results(second), second.active_agent) == (["Rome", "get city is complete."], "desk")
    await second.aclose()


async def test_a_task_that_leads_to_another_agent_through_a_custom_node_is_abandoned() -> None:
    task = Task("get_city", instructions="Which city?", handoffs=[Handoff("router", "Something else.")])
    desk = Agent("desk", instructions="Desk.", tools=[task])
    other = Agent("other", instructions="Other.")
    script = {
        "desk": [call("get_city")],
        "get_city": ["Which one?", call("transfer_to_router")],
        "other": ["Other here."],
    }
    graph = create_voice_graph([desk, task, other], llm=ScriptedModel(script))
    graph.add_node("router", lambda state: {})
    graph.add_edge("router", "other")
    conversation: Conversation[Any] = Conversation(graph)
    await conversation.run("To Rome.")
    await conversation.run("Something else.")
    assert (conversation.messages[-1].text, conversation.active_agent) == ("Other here.", "other")
    assert (results(conversation)[0], conversation.state["stack"]) == ("not done: the task was abandoned.", [])


def travels(task: Task[Any], ends: Any, *more: Task[Any]) -> Any:
    @function_tool
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        return str(await ctx.run_task(task))

    desk = Agent("desk", instructions="Desk.", tools=[travel], tasks=[task])
    script = {
        "desk": [call("travel"), "Done."],
        task.name: ["Which one?", ends],
        "get_zone": ["Which zone?", call("complete_get_zone", {"value": "CET"})],
    }
    return create_voice_graph([desk, task, *more], llm=ScriptedModel(script))


async def crashed_before_it_is_decided(graph: Any, saver: Any, *said: str) -> Conversation[Any]:
    """The call is durable when the last task ends, and its front end has not decided about that."""
    conversation: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await conversation.open()
    for words in said[:-1]:
        await conversation.run(words)
    turn = conversation.turn(said[-1])
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            for asked in event.calls:
                turn.allow(asked.id)
        if isinstance(event, events.HandedOff):
            if event.new_agent == "desk":
                break
            turn.confirm_handoff(event.call_id)
    await conversation.call.durable.flush(5)  # type: ignore[union-attr]
    await conversation.call.abandon()
    return conversation


async def heard(turn: Any) -> None:
    """A front end that lets everything happen."""
    turn.commit()
    async for event in turn:
        match event:
            case events.Text(message_id=message_id, text=text) | events.Say(message_id=message_id, text=text):
                turn.heard(message_id, text)
            case events.ToolCalls(calls=calls):
                for asked in calls:
                    turn.allow(asked.id)
            case events.HandedOff(call_id=call_id):
                turn.confirm_handoff(call_id)
    turn.close()


def results(conversation: Conversation[Any]) -> list[str]:
    return [m.text for m in conversation.messages if isinstance(m, ToolMessage)]
