"""A tool call that asks (LangGraph's `interrupt()`) before and behind its task, on both front ends."""

from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from graph_voice import Agent, RunContext, Task, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]


class Desk:
    """A desk whose tool runs a task, and then asks twice."""

    def __init__(self) -> None:
        self.paid: list[str] = []
        self.name = Task("get_name", instructions="Ask for the name.")

        @function_tool(tasks=[self.name])
        async def pay(ctx: RunContext[Any], euros: int) -> str:
            """Pay."""
            who = await ctx.run_task(self.name)
            how = interrupt("Cash?")
            when = interrupt("Today?")
            self.paid.append(f"{euros} {who} {how} {when}")
            return "Paid."

        @function_tool
        async def look() -> str:
            """Look."""
            return "seen"

        self.tools = [pay, look]

    def graph(self) -> Any:
        return create_voice_graph([Agent("desk", instructions="Desk.", tools=self.tools), self.name])


def script(*desk: Any) -> ScriptedModel:
    name = ["Your name?", call("complete_get_name", {"value": "Ada"})]
    return ScriptedModel({"desk": [*desk], "get_name": name})


PAY = call("pay", {"euros": 3})


async def test_it_asks_behind_its_task(front_end: Any) -> None:
    desk = Desk()
    async with Call(desk.graph(), llm=script(PAY, "All paid."), front_end=front_end) as phone:
        for words in ("Pay three.", "Ada.", "No.", "Tomorrow."):
            await phone.says(words)
        assert phone.heard == ["Your name?", "Cash?", "Today?", "All paid."]
        assert desk.paid == ["3 Ada No. Tomorrow."]
        assert [m.text for m in phone.messages if isinstance(m, ToolMessage)] == ["Paid.", "get name is complete."]
        assert phone.conversation.state["stack"] == []


async def test_a_reply_between_the_question_and_its_answer_does_not_answer_it(front_end: Any) -> None:
    desk = Desk()
    async with Call(desk.graph(), llm=script(PAY, "Are you there?", "All paid."), front_end=front_end) as phone:
        for words in ("Pay three.", "Ada."):
            await phone.says(words)
        await phone.generate_reply("Ask whether the caller is there.")
        assert desk.paid == []
        for words in ("No.", "Tomorrow."):
            await phone.says(words)
        assert phone.heard == ["Your name?", "Cash?", "Are you there?", "Today?", "All paid."]
        assert desk.paid == ["3 Ada No. Tomorrow."]


async def test_beside_another_tool_call(front_end: Any) -> None:
    desk = Desk()
    model = script(say(PAY, call("look")), "All paid.")
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        for words in ("Pay three.", "Ada.", "No.", "Tomorrow."):
            await phone.says(words)
        assert desk.paid == ["3 Ada No. Tomorrow."]


async def test_a_crash_while_it_asks_behind_its_task_loses_nothing(front_end: Any) -> None:
    desk = Desk()
    model = script(PAY, "I am back.", "All paid.")
    async with Call(desk.graph(), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        for words in ("Pay three.", "Ada."):
            await phone.says(words)
        await phone.conversation.flush()
        await phone.crash().resume()
        assert phone.heard[-1] == "Cash?"
        for words in ("No.", "Tomorrow."):
            await phone.says(words)
        assert desk.paid == ["3 Ada No. Tomorrow."]
        assert phone.conversation.state["stack"] == []


async def test_a_question_that_was_not_stored_is_asked_again_or_its_tool_call_is_unknown(front_end: Any) -> None:
    desk = Desk()
    model = script(PAY, "I am back.")
    async with Call(desk.graph(), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        for words in ("Pay three.", "Ada."):
            await phone.says(words)
        await phone.crash().resume()  # what was stored last decides
        assert phone.conversation.resumed is not None
        assert (phone.heard[-1] == "Cash?") != (phone.conversation.resumed.unknown == ("pay",))
        assert desk.paid == []


async def test_a_task_begins_behind_the_answer(front_end: Any) -> None:
    desk = Desk()

    @function_tool(tasks=[desk.name])
    async def send(ctx: RunContext[Any]) -> str:
        """Send."""
        where = interrupt("Where to?") if "where" not in desk.paid else "Rome"
        desk.paid.append("where")
        return f"{where}: {await ctx.run_task(desk.name)}"

    desk.tools = [send]
    async with Call(desk.graph(), llm=script(call("send"), "Sent."), front_end=front_end) as phone:
        for words in ("Send it.", "Rome.", "Ada."):
            await phone.says(words)
        assert next(m.text for m in phone.messages if isinstance(m, ToolMessage)) == "Rome: Ada"
        assert phone.heard == ["Where to?", "Your name?", "Sent."]


@pytest.mark.parametrize("task_first", [True, False])
async def test_one_tool_call_of_a_message_asks_and_another_runs_a_task(front_end: Any, task_first: bool) -> None:
    name = Task("get_name", instructions="Ask for the name.")
    done: list[str] = []

    @function_tool(tasks=[name])
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        done.append(f"paid by {await ctx.run_task(name)}")
        return done[-1]

    @function_tool
    async def book() -> str:
        """Book."""
        done.append(f"booked for {interrupt('When?')}")
        return done[-1]

    calls = [call("pay"), call("book")]
    model = script(say("One moment.", *(calls if task_first else calls[::-1])), "All done.")
    graph = create_voice_graph([Agent("desk", instructions="Desk.", tools=[pay, book]), name])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("Pay and book.")
        for words in ("Ada.", "Noon.") if task_first else ("Noon.", "Ada."):
            await phone.says(words)
        assert sorted(done) == ["booked for Noon.", "paid by Ada"]
        assert phone.heard[-1] == "All done."
        told = {m.name: m.text for m in phone.messages if isinstance(m, ToolMessage)}
        assert (told["pay"], told["book"]) == ("paid by Ada", "booked for Noon.")


async def test_the_model_is_shown_the_answer_however_early_its_turn_began(front_end: Any) -> None:
    """A turn that begins before it is certain (LiveKit's preemptive generation) shows what a certain one does."""
    desk = Desk()
    model = script(PAY, "All paid.")
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        for words in ("Pay three.", "Ada.", "No.", "Tomorrow."):
            await phone.says(words)
    shown = [(m.type, m.text) for m in model.prompts[-1].messages]
    assert shown[-6:] == [
        ("ai", "Your name?"),
        ("human", "Ada."),
        ("ai", "Cash?"),
        ("human", "No."),
        ("ai", "Today?"),
        ("human", "Tomorrow."),
    ]
