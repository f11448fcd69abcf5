"""Handoffs that take arguments along, `Handoff("billing", arguments=Reason)`, on both front ends."""

from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field, SecretStr

from graph_voice import (
    Agent,
    Handoff,
    RunContext,
    Task,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]


class Reason(BaseModel):
    """Why the caller is passed on."""

    topic: str
    amount: int = Field(default=0, ge=0, description="In euros.")


class Card(BaseModel):
    topic: str
    number: SecretStr


def desk(*handoffs: Any, **options: Any) -> Agent:
    declared = handoffs or (Handoff("billing", "For questions about an invoice.", arguments=Reason),)
    return Agent("desk", instructions="You are the desk.", handoffs=declared, **options)


def billing(**options: Any) -> Agent:
    return Agent("billing", instructions="You are billing.", **options)


REFUND = call("transfer_to_billing", {"topic": "refund", "amount": 30})
CAME = 'What came with the transfer to you: {"topic": "refund", "amount": 30}'


def systems(model: ScriptedModel) -> list[str]:
    return [prompt.messages[0].text for prompt in model.prompts]


def records(phone: Call[Any]) -> list[Any]:
    return [h.get("arguments") for h in phone.conversation.handoffs]


async def test_what_the_model_fills_in_reaches_the_target(front_end: Any) -> None:
    model = ScriptedModel([REFUND, "A refund of 30, I see.", "It is on its way."])
    graph = create_voice_graph([desk(), billing()])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        result = await phone.says("I want my thirty euros back.")
        assert phone.active_agent == "billing"
        handed_off = [event for event in result.events if isinstance(event, events.HandedOff)]
        assert [event.arguments for event in handed_off] == [{"topic": "refund", "amount": 30}]
        await phone.says("When?")
        assert records(phone) == [{"topic": "refund", "amount": 30}]
        told = [f"You are billing.\n\n{CAME}"] * 2
        assert systems(model) == ["You are the desk.", *told], "as long as it is active"


async def test_an_on_enter_function_gets_it(front_end: Any) -> None:
    entering = billing(on_enter=lambda userdata, reason: f"Ask about the {reason.topic} of {reason.amount}.")
    model = ScriptedModel([REFUND, "About your refund."])
    async with Call(create_voice_graph([desk(), entering]), llm=model, front_end=front_end) as phone:
        await phone.says("I want my money back.")
        assert model.prompts[-1].messages[-1].text == ("<instructions>\nAsk about the refund of 30.\n</instructions>")


async def test_an_on_enter_method_and_tools_find_it(front_end: Any) -> None:
    class Billing(Agent):
        name = "billing"
        instructions = "You are billing."

        async def on_enter(self, ctx: RunContext[Any]) -> None:
            assert type(ctx.arguments) is Reason
            await ctx.say(f"You want {ctx.arguments.amount} back.")

        @function_tool
        async def pay(self, ctx: RunContext[Any]) -> str:
            """Pay."""
            return f"paid {ctx.arguments.amount}"

    model = ScriptedModel([REFUND, call("pay"), "Done."])
    async with Call(create_voice_graph([desk(), Billing()]), llm=model, front_end=front_end) as phone:
        await phone.says("I want my money back.")
        await phone.says("Yes.")
        assert phone.heard == ["You want 30 back.", "Done."]
        assert [m.text for m in phone.messages if isinstance(m, ToolMessage)][-1] == "paid 30"


@pytest.mark.parametrize("wrong", [{}, {"topic": "x", "amount": -1}, {"topic": 3}])
async def test_what_does_not_fit_is_told_to_the_model(front_end: Any, wrong: dict[str, Any]) -> None:
    model = ScriptedModel([call("transfer_to_billing", wrong), REFUND, "Billing here."])
    async with Call(create_voice_graph([desk(), billing()]), llm=model, front_end=front_end) as phone:
        await phone.says("My bill, please.")
        assert phone.active_agent == "billing"
        first = next(m for m in phone.messages if isinstance(m, ToolMessage))
        assert first.text.startswith("The caller was not transferred, the arguments are invalid: ")
        assert phone.heard == ["Billing here."]


async def test_one_that_does_not_happen_leaves_nothing_behind(front_end: Any) -> None:
    line = "I am transferring you to the billing department now, one moment please."
    way = Handoff("billing", "For invoices.", arguments=Reason, say=line)
    model = ScriptedModel([REFUND, "Billing here.", "I stay.", "Bye."])
    async with Call(create_voice_graph([desk(way), billing()]), llm=model, front_end=front_end) as phone:
        phone.during_handoff().says("No, stay.")
        await phone.says("My bill, please.")
        assert (phone.active_agent, records(phone)) == ("desk", [])
        await phone.says("Bye.")
        assert not any("What came with" in text for text in systems(model)[2:])


async def test_a_tool_of_its_own_hands_off_with_arguments(front_end: Any) -> None:
    @function_tool(handoffs=["billing"])
    async def refund(ctx: RunContext[Any], amount: int) -> Handoff:
        """Refund."""
        return ctx.handoff("billing", arguments=Reason(topic="refund", amount=amount))

    ways = [Handoff("billing", tool=False, arguments=Reason)]
    model = ScriptedModel([call("refund", {"amount": 30}), "Billing here."])
    async with Call(
        create_voice_graph([desk(*ways, tools=[refund]), billing()]), llm=model, front_end=front_end
    ) as phone:
        await phone.says("Thirty back, please.")
        assert records(phone) == [{"topic": "refund", "amount": 30}]
        assert systems(model)[-1].endswith(CAME)


@pytest.mark.parametrize("given", [{"topic": "refund"}, Card(topic="x", number=SecretStr("4111")), {"amount": 3}])
async def test_a_tool_may_take_along_only_what_is_declared(front_end: Any, given: Any) -> None:
    @function_tool(handoffs=["billing"])
    async def refund(ctx: RunContext[Any]) -> Handoff:
        """Refund."""
        return ctx.handoff("billing", arguments=given)

    ways = [Handoff("billing", tool=False, arguments=Reason)]
    fits = given == {"topic": "refund"}
    model = ScriptedModel([call("refund"), "Well."])
    async with Call(
        create_voice_graph([desk(*ways, tools=[refund]), billing()]), llm=model, front_end=front_end
    ) as phone:
        await phone.says("My money back, please.")
        told = next(m.text for m in phone.messages if isinstance(m, ToolMessage))
        assert (phone.active_agent == "billing") == fits
        assert fits or "fits no class that agent" in told


async def test_two_handoffs_to_one_target_take_along_different_things(front_end: Any) -> None:
    class Question(BaseModel):
        topic: str
        amount: int = 0

    seen: list[Any] = []

    class Billing(Agent):
        name = "billing"
        instructions = "You are billing."

        async def on_enter(self, ctx: RunContext[Any]) -> None:
            seen.append(ctx.arguments)
            await ctx.say("Billing here.")

    ways = [
        Handoff("billing", "A refund.", arguments=Reason),
        Handoff("billing", "A question.", name="ask_billing", arguments=Question),
    ]
    model = ScriptedModel([call("ask_billing", {"topic": "vat"})])
    async with Call(create_voice_graph([desk(*ways), Billing()]), llm=model, front_end=front_end) as phone:
        await phone.says("A question about my bill.")
    assert seen == [Question(topic="vat")]


async def test_it_stays_while_a_task_runs_and_goes_with_the_next_handoff(front_end: Any) -> None:
    name = Task("get_name", instructions="Ask for the name.")
    back = billing(tasks=[name], tools=[name], handoffs=["desk"])
    model = ScriptedModel(
        {
            "desk": [REFUND, "Desk again."],
            "billing": [call("get_name"), "Thanks.", call("transfer_to_desk")],
            "get_name": ["Your name?", call("complete_get_name", {"value": "Ada"})],
        }
    )
    async with Call(create_voice_graph([desk(), back, name]), llm=model, front_end=front_end) as phone:
        await phone.says("My money back.")
        await phone.says("Ada.")
        await phone.says("Thanks, bye.")
        assert phone.active_agent == "desk"
        shown = [CAME in text for text in systems(model)]
        # desk, billing, the task twice, billing, billing, desk
        assert shown == [False, True, False, False, True, True, False]


async def test_no_history_policy_and_no_compaction_loses_it(front_end: Any) -> None:
    way = Handoff("billing", "Invoices.", arguments=Reason, history=history.fresh())
    short = billing(context=history.truncate(max_items=2))
    model = ScriptedModel([REFUND, "One.", "Two.", "Three."])
    async with Call(create_voice_graph([desk(way), short]), llm=model, front_end=front_end) as phone:
        for words in ("My money back.", "And?", "And then?"):
            await phone.says(words)
        assert [CAME in text for text in systems(model)] == [False, True, True, True]
        assert not any("What came with" in m.text for m in phone.messages)


async def test_a_crash_loses_nothing(front_end: Any) -> None:
    model = ScriptedModel([REFUND, "A refund.", "As I said.", "Of thirty."])
    graph = create_voice_graph([desk(), billing()])
    async with Call(graph, llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("My money back.")
        await phone.crash().resume()
        await phone.says("How much?")
        assert systems(model)[-1].endswith(CAME)
        assert records(phone) == [{"topic": "refund", "amount": 30}]


async def test_a_secret_reaches_the_code_and_nothing_else(front_end: Any) -> None:
    seen: list[str] = []

    class Billing(Agent):
        name = "billing"
        instructions = "You are billing."

        async def on_enter(self, ctx: RunContext[Any]) -> None:
            seen.append(ctx.arguments.number.get_secret_value())
            await ctx.say("Billing here.")

    way = Handoff("billing", "To pay.", arguments=Card)
    saver = InMemorySaver()
    card = {"topic": "pay", "number": "4111222233334444"}
    model = ScriptedModel([call("transfer_to_billing", card), "Yes."])
    async with Call(create_voice_graph([desk(way), Billing()]), llm=model, front_end=front_end, saver=saver) as phone:
        await phone.says("I want to pay.")
        await phone.says("Do you have it?")
        assert seen == ["4111222233334444"]
        assert systems(model)[-1].endswith('{"topic": "pay", "number": "**********"}')
        assert records(phone) == [{"topic": "pay", "number": "**********"}]
        await phone.conversation.flush()
        assert "4111222233334444" not in str(phone.messages)
        assert "4111222233334444" not in str(dict(saver.blobs)) + str(dict(saver.storage)) + str(dict(saver.writes))


async def test_a_transfer_beside_another_tool_call_takes_it_along(front_end: Any) -> None:
    @function_tool
    async def note(text: str) -> str:
        """Note something."""
        return "noted"

    model = ScriptedModel([say(call("note", {"text": "x"}), REFUND), "Billing here."])
    async with Call(create_voice_graph([desk(tools=[note]), billing()]), llm=model, front_end=front_end) as phone:
        await phone.says("My money back.")
        assert records(phone) == [{"topic": "refund", "amount": 30}]
        assert systems(model)[-1].endswith(CAME)
