"""Approval of a tool call by voice, `@function_tool(approve="Shall I?")`, on both front ends."""

from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from pydantic import SecretStr

from graph_voice import Agent, Handoff, RunContext, Task, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]

QUESTION = "Shall I book noon for you?"


class Desk:
    """A desk that books, if the caller approves."""

    def __init__(self, **options: Any) -> None:
        self.booked: list[str] = []

        @function_tool(**{"approve": "Shall I book {slot} for you?", **options})
        async def book(slot: str, seats: int = 2) -> str:
            """Book a table."""
            self.booked.append(slot)
            return f"Booked {slot}."

        self.book = book

    def graph(self, *tools: Any, **options: Any) -> Any:
        return create_voice_graph([Agent("desk", instructions="Desk.", tools=[self.book, *tools], **options)])


def results(phone: Call[Any]) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


BOOK = call("book", {"slot": "noon"})


@pytest.mark.parametrize("words", ["Yes.", "Yes please.", "OK, go ahead!", "yeah sure"])
async def test_a_yes_runs_it_once(front_end: Any, words: str) -> None:
    desk = Desk()
    model = ScriptedModel([say("One moment.", BOOK), "It is booked."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        assert (desk.booked, phone.heard) == ([], ["One moment.", QUESTION])
        await phone.says(words)
        assert (desk.booked, results(phone)) == (["noon"], ["Booked noon."])
        assert phone.heard[-1] == "It is booked."
        assert phone.effects.count("book") == 1


@pytest.mark.parametrize("words", ["No.", "no thank you", "Nope, stop that."])
async def test_a_no_runs_nothing(front_end: Any, words: str) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, "Then not.", "Bye."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        await phone.says(words)
        assert desk.booked == []
        (told,) = results(phone)
        assert told == f'Not done. The caller was asked "{QUESTION}" and said: "{words}". That is a no.'
        assert phone.heard == [QUESTION, "Then not."]
        assert phone.effects.count("book") == 0
        await phone.says("Bye.")
        assert desk.booked == []


@pytest.mark.parametrize(
    ("read", "runs"), [("yes", True), ("Yes.", True), ("no", False), ("other", False), ("yes, but", False)]
)
async def test_what_is_not_plain_the_agents_model_reads(front_end: Any, read: str, runs: bool) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, read, "Well."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        await phone.says("That would be lovely.")
        assert desk.booked == (["noon"] if runs else [])
        reading = model.prompts[1]
        assert (QUESTION in reading.messages[-1].text, reading.tools) == (True, ())
        assert "That would be lovely." in reading.messages[-1].text
        assert phone.heard == [QUESTION, "Well."], "what it has read is not said"


async def test_a_change_is_told_to_the_model_and_asked_about_again(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, "other", call("book", {"slot": "one"}), "Booked for one."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        await phone.says("Rather at one o'clock.")
        assert desk.booked == []
        assert 'said: "Rather at one o\'clock."' in results(phone)[0]
        await phone.says("Yes.")
        assert desk.booked == ["one"]
        assert phone.heard == [QUESTION, "Shall I book one for you?", "Booked for one."]


async def test_a_model_that_fails_to_read_approves_nothing(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, RuntimeError("down"), "Once more, please?"])
    async with Call(desk.graph(), llm=model, front_end=front_end, check=False) as phone:
        await phone.says("A table at noon.")
        await phone.says("Hm.")
        assert desk.booked == []


async def test_a_function_words_the_question_or_needs_none(front_end: Any) -> None:
    desk = Desk(approve=lambda seats: f"Really {seats} seats?" if seats > 4 else None)
    model = ScriptedModel([BOOK, "Booked.", call("book", {"slot": "one", "seats": 9}), "Booked as well."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        assert desk.booked == ["noon"]
        await phone.says("And one for nine at one.")
        await phone.says("Yes.")
        assert phone.heard == ["Booked.", "Really 9 seats?", "Booked as well."]
        assert desk.booked == ["noon", "one"]


async def test_two_of_a_batch_are_asked_about_one_after_the_other(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([say(BOOK, call("book", {"slot": "one"})), "Only noon."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("Two tables.")
        await phone.says("Yes.")
        await phone.says("No.")
        assert desk.booked == ["noon"]
        assert phone.heard == [QUESTION, "Shall I book one for you?", "Only noon."]


async def test_another_tool_call_of_the_batch_does_not_wait(front_end: Any) -> None:
    looked: list[str] = []

    @function_tool
    async def look() -> str:
        """Look."""
        looked.append("looked")
        return "free"

    desk = Desk()
    model = ScriptedModel([say(BOOK, call("look")), "Booked."])
    async with Call(desk.graph(look), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        assert (looked, desk.booked) == (["looked"], [])
        await phone.says("Yes.")
        assert (looked, desk.booked) == (["looked"], ["noon"])


async def test_the_caller_who_cuts_into_the_question_answers_it(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, "Then not."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        phone.barge_in("No, stop.", after_words=2)
        await phone.says("A table at noon.")
        assert (desk.booked, phone.heard[-1]) == ([], "Then not.")


async def test_typed_words_answer_too(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, "Booked."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.types("A table at noon.")
        await phone.types("yes")
        assert desk.booked == ["noon"]


async def test_a_guess_approves_nothing(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, "Then not."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("A table at noon.")
        await phone.speculates("Yes.").then_says("No.")
        assert (desk.booked, phone.heard[-1]) == ([], "Then not.")


async def test_a_crash_while_it_is_asked_asks_again_and_acts_once(front_end: Any) -> None:
    desk = Desk()
    model = ScriptedModel([BOOK, "I am back.", "Booked."])
    async with Call(desk.graph(), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("A table at noon.")
        await phone.crash().resume()
        assert desk.booked == []
        await phone.says("Yes.")
        assert desk.booked == ["noon"]


async def test_a_crash_behind_the_yes_does_not_ask_again(front_end: Any) -> None:
    desk = Desk(idempotent=True)
    ran: list[str] = []

    @function_tool(approve="Shall I pay?", idempotent=True)
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        ran.append("began")
        await ctx.say("Paying takes a moment, so please be so kind as to wait for it.")
        ran.append("paid")
        return "Paid."

    model = ScriptedModel([call("pay"), "It is paid."])
    async with Call(desk.graph(pay), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Pay, please.")
        phone.during_tool("pay").crash()
        await phone.says("Yes.")
        ran.clear()
        await phone.resume()
        assert "paid" in ran
        assert sum("Shall I pay?" in line for line in phone.heard) == 1
        assert phone.heard[-1] == "It is paid."


async def test_one_that_may_have_acted_is_reported_not_asked_about(front_end: Any) -> None:
    desk = Desk()

    @function_tool(approve="Shall I pay?")
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        await ctx.say("Paying takes a moment, so please be so kind as to wait for it.")
        return "Paid."

    model = ScriptedModel([call("pay"), "I do not know whether that worked."])
    async with Call(desk.graph(pay), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Pay, please.")
        phone.during_tool("pay").crash()
        await phone.says("Yes.")
        await phone.resume()
        assert any("unknown" in text for text in results(phone))
        assert phone.conversation.resumed is not None
        assert phone.conversation.resumed.unknown == ("pay",)


async def test_a_question_and_a_task_of_its_own_come_once_behind_it(front_end: Any) -> None:
    paid: list[str] = []
    name = Task("get_name", instructions="Ask for the name.")

    @function_tool(approve="Shall I pay {euros}?", tasks=[name])
    async def pay(ctx: RunContext[Any], euros: int) -> str:
        """Pay."""
        who = await ctx.run_task(name)
        how = interrupt("Cash?")
        paid.append(f"{euros} {who} {how}")
        return "Paid."

    agents = [Agent("desk", instructions="Desk.", tools=[pay]), name]
    model = ScriptedModel(
        {
            "desk": [call("pay", {"euros": 3}), "All paid."],
            "get_name": ["Your name?", call("complete_get_name", {"value": "Ada"})],
        }
    )
    async with Call(create_voice_graph(agents), llm=model, front_end=front_end) as phone:
        await phone.says("Pay three.")
        await phone.says("Yes.")
        await phone.says("Ada.")
        await phone.says("No.")
        assert phone.heard == ["Shall I pay 3?", "Your name?", "Cash?", "All paid."]
        assert paid == ["3 Ada No."]


async def test_what_it_needs_comes_before_the_question(front_end: Any) -> None:
    paid: list[str] = []
    name = Task("get_name", instructions="Ask for the name.")

    @function_tool(approve="Shall I pay {euros} for {who}?", needs={"who": name})
    async def pay(euros: int, who: str) -> str:
        """Pay."""
        paid.append(f"{euros} {who}")
        return "Paid."

    agents = [Agent("desk", instructions="Desk.", tools=[pay]), name]
    model = ScriptedModel(
        {
            "desk": [call("pay", {"euros": 3}), "All paid."],
            "get_name": ["Your name?", call("complete_get_name", {"value": "Ada"})],
        }
    )
    async with Call(create_voice_graph(agents), llm=model, front_end=front_end) as phone:
        await phone.says("Pay three.")
        await phone.says("Ada.")
        assert (phone.heard[-1], paid) == ("Shall I pay 3 for Ada?", [])
        await phone.says("Yes.")
        assert paid == ["3 Ada"]


async def test_a_handoff_waits_for_the_yes(front_end: Any) -> None:
    @function_tool(approve="Shall I transfer you?", handoffs=["billing"])
    async def to_billing(ctx: RunContext[Any]) -> Handoff:
        """Go to billing."""
        return ctx.handoff("billing")

    desk = Agent("desk", instructions="Desk.", tools=[to_billing], handoffs=[Handoff("billing", tool=False)])
    graph = create_voice_graph([desk, Agent("billing", instructions="Billing.")])
    model = ScriptedModel([call("to_billing"), "Then stay.", call("to_billing"), "Billing here."])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("Billing?")
        await phone.says("No.")
        assert phone.active_agent == "desk"
        await phone.says("Billing after all.")
        await phone.says("Yes.")
        assert phone.active_agent == "billing"


async def test_a_secret_is_not_said(front_end: Any) -> None:
    @function_tool(approve="Shall I charge {number}?")
    async def charge(number: SecretStr) -> str:
        """Charge."""
        return "Charged."

    graph = create_voice_graph([Agent("desk", instructions="Desk.", tools=[charge])])
    model = ScriptedModel([call("charge", {"number": "4111222233334444"}), "Charged."])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("Charge it.")
        assert phone.heard == ["Shall I charge **********?"]
        await phone.says("Yes.")
        assert results(phone) == ["Charged."]
