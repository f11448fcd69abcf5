"""A call by text through the page's WebSocket: what the page is told of it."""

import asyncio
import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from page_support import STUCK, page, served, shelf_of
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, Handoff, RunContext, ToolError, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, fail, say

MARKUP = "<img src=x onerror=alert(1)>"


class Account(BaseModel):
    name: str | None = None
    pin: SecretStr | None = None


@function_tool
async def look_up(ctx: RunContext[Account], what: str) -> str:
    """Look something up."""
    ctx.userdata.name = f"Ada {MARKUP}"
    return f"It is {what}."


@function_tool
async def take_pin(ctx: RunContext[Account], pin: SecretStr) -> str:
    """Take the caller's PIN."""
    ctx.userdata.pin = pin
    return f"The PIN {pin.get_secret_value()} is right."


def graph_of(script: Any, **options: Any) -> Any:
    desk = Agent("desk", instructions="Help.", tools=[look_up, take_pin], handoffs=[Handoff("billing")], **options)
    billing = Agent("billing", instructions="Bill.", on_enter="Greet.")
    return create_voice_graph([desk, billing], userdata=Account, llm=ScriptedModel(script))


async def test_a_turn_with_a_tool() -> None:
    graph = graph_of([say("One moment.", call("look_up", {"what": MARKUP})), "There it is."])
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        turn = await shown.say("Where is it?")
        step, answer = turn["steps"]
        assert [(w["heard"], w["unheard"], w["state"]) for w in step["words"]] == [("One moment.", "", "heard")]
        assert [(c["name"], json.loads(c["args"]), c["result"]) for c in step["calls"]] == [
            ("look_up", {"what": MARKUP}, f"It is {MARKUP}.")
        ]
        assert step["calls"][0]["seconds"] is not None
        assert answer["words"][0]["heard"] == "There it is."
        assert shown.last("userdata")["fields"] == {"name": f"Ada {MARKUP}"}
        assert {span["kind"] for span in turn["spans"]} >= {"model", "tool"}


@function_tool
async def call_back(ctx: RunContext[Account], number: SecretStr) -> str:
    """Order a call back."""
    raise OSError(f"no line to {number.get_secret_value()}")


@function_tool
async def give_up(ctx: RunContext[Account]) -> str:
    """Give up."""
    raise ToolError("Nobody is there.")


async def test_what_a_tools_code_has_raised_is_shown_to_people_and_not_to_models() -> None:
    number = "5550192837"
    script = [call("call_back", {"number": number}), "I'm sorry.", call("give_up"), "I'm sorry again."]
    desk = Agent("desk", instructions="Help.", tools=[call_back, give_up])
    graph = create_voice_graph([desk], userdata=Account, llm=ScriptedModel(script))
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        (failed,) = (await shown.say("Call me back."))["steps"][0]["calls"]
        assert failed["error"]
        assert failed["result"] == "An internal error occurred."
        assert failed["raised"].startswith("OSError: no line to ")
        assert number not in json.dumps(shown.told)
        (told,) = (await shown.say("Never mind."))["steps"][0]["calls"]
        assert told["result"] == "Nobody is there."
        assert told["raised"] == "ToolError: Nobody is there."


async def test_a_handoff_makes_another_agent_active() -> None:
    graph = graph_of({"desk": [call("transfer_to_billing")], "billing": ["Billing here."]})
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        turn = await shown.say("My bill, please.")
        assert [(m["before"], m["name"]) for m in shown.all("agent")] == [("", "desk"), ("desk", "billing")]
        assert [(h["old"], h["new"], h["state"]) for h in turn["handoffs"]] == [("desk", "billing", "entered")]
        assert turn["steps"][-1]["agent"] == "billing"
        assert any("billing" in message["running"] for message in shown.all("nodes"))
        await shown.until(lambda: shown.last("nodes")["running"] == [])


async def test_the_prompt_that_a_model_was_shown() -> None:
    async with served(shelf_of(graph_of(["Hello there."]))) as client, page(client) as shown:
        await shown.start()
        turn = await shown.say("Hello.")
        await shown.send("prompt", id=turn["prompts"][0]["id"])
        await shown.until(lambda: bool(shown.all("prompt")))
        prompt = shown.last("prompt")
        assert prompt["agent"] == "desk"
        assert [(m["role"], m["text"]) for m in prompt["messages"]] == [("system", "Help."), ("caller", "Hello.")]
        assert set(prompt["tools"]) == {"look_up", "take_pin", "transfer_to_billing"}


async def test_no_secret_is_sent() -> None:
    pin = "73920184"
    graph = graph_of([call("take_pin", {"pin": pin}), f"Your PIN {pin} is right.", "Anything else?"])
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        await shown.send("say", text=f"My PIN is {pin}.")
        await shown.until(lambda: any(t["state"] == "closed" for t in shown.turns.values()))
        turn = await shown.say("Thanks.")
        for request in [p["id"] for t in shown.turns.values() for p in t["prompts"]]:
            await shown.send("prompt", id=request)
        await shown.until(lambda: len(shown.all("prompt")) == 3)
        assert turn["steps"][0]["words"][0]["heard"] == "Anything else?"
        assert pin not in json.dumps(shown.told)
        assert "pin" not in shown.last("userdata")["fields"]


async def test_an_error_is_shown_and_the_call_goes_on() -> None:
    graph = graph_of([fail(ValueError("no such model")), "Here I am."])
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        turn = await shown.say("Hello?")
        assert any("no such model" in text for text in turn["failed"])
        answer = await shown.say("Are you there?")
        assert answer["steps"][-1]["words"][0]["heard"] == "Here I am."


async def test_an_agent_that_ends_the_call() -> None:
    @function_tool
    async def hang_up(ctx: RunContext[None]) -> None:
        """End the call."""
        ctx.end_call()

    desk = Agent("desk", instructions="Help.", tools=[hang_up])
    graph = create_voice_graph([desk], llm=ScriptedModel([say("Goodbye.", call("hang_up"))]))
    async with served(shelf_of(graph), max_calls=1) as client, page(client) as shown:
        await shown.start()
        await shown.send("say", text="Bye.")
        await shown.until(lambda: bool(shown.all("ended")))
        words = [w["heard"] for t in shown.turns.values() for s in t["steps"] for w in s["words"]]
        assert words == ["Goodbye."]
        async with page(client) as second:  # the place is free, although the page is still open
            await second.start()
            assert second.all("started")


async def test_a_page_that_is_gone_hangs_up() -> None:
    reasons: asyncio.Queue[str | None] = asyncio.Queue()

    class Desk(Agent):
        async def on_exit(self, ctx: RunContext[None]) -> None:
            reasons.put_nowait(ctx.close_reason)

    graph = create_voice_graph([Desk("desk", instructions="Help.")], llm=ScriptedModel(["Hello."]))
    async with served(shelf_of(graph), max_calls=1) as client:
        async with page(client) as shown:
            await shown.start()
            await shown.say("Hello?")
        assert await asyncio.wait_for(reasons.get(), STUCK) == "participant_disconnected"
        while True:  # the place is free as soon as the call has ended
            async with page(client) as second:
                await second.start()
                if second.all("started"):
                    break


async def test_two_pages_have_calls_of_their_own() -> None:
    graph = graph_of(lambda messages: f"You said: {messages[-1].text}")
    async with served(shelf_of(graph)) as client, page(client) as one, page(client) as two:
        await one.start()
        await two.start()
        first, second = await asyncio.gather(one.say("Apples."), two.say("Pears."))
        assert first["steps"][0]["words"][0]["heard"] == "You said: Apples."
        assert second["steps"][0]["words"][0]["heard"] == "You said: Pears."
        assert "Pears" not in json.dumps(one.told)


async def test_another_graph_is_chosen_by_name() -> None:
    shelf = shelf_of(first=graph_of(["First."]), second=graph_of(["Second."]))
    async with served(shelf) as client, page(client) as shown:
        assert shown.last("welcome")["graphs"] == ["first", "second"]
        await shown.start(graph="second")
        turn = await shown.say("Hello?")
        assert turn["steps"][0]["words"][0]["heard"] == "Second."


@pytest.mark.parametrize("name", ["third", "../../etc/passwd", "os.py:system"])
async def test_no_other_graph_is_loaded(name: str) -> None:
    async with served(shelf_of(graph_of([]))) as client, page(client) as shown:
        await shown.start(graph=name)
        assert "There is no graph" in shown.last("notice")["text"]
        assert not shown.all("started")


async def test_a_graph_that_is_not_ours() -> None:
    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"It rains in {city}."

    graph = create_agent(ScriptedModel([call("weather", {"city": "Oslo"}), "Take an umbrella."]), tools=[weather])
    async with served(shelf_of(graph, speak=["model"])) as client, page(client) as shown:
        await shown.start()
        turn = await shown.say("What's the weather?")
        calls = [c for step in turn["steps"] for c in step["calls"]]
        assert [(c["name"], json.loads(c["args"]), c["result"]) for c in calls] == [
            ("weather", {"city": "Oslo"}, "It rains in Oslo.")
        ]
        assert [w["heard"] for s in turn["steps"] for w in s["words"]] == ["Take an umbrella."]
        assert {name for message in shown.all("nodes") for name in message["running"]} >= {"model", "tools"}
        assert turn["spans"]


async def test_what_a_tool_writes_for_a_page_and_what_a_handoff_takes_along() -> None:
    class Reason(BaseModel):
        topic: str

    @function_tool
    async def add(ctx: RunContext[None], item: str) -> str:
        """Add an item to the cart."""
        for count in (1, 2):
            get_stream_writer()({"key": "cart", "items": [item] * count, "note": MARKUP})
        return "Added."

    desk = Agent("desk", instructions="Help.", tools=[add], handoffs=[Handoff("billing", arguments=Reason)])
    billing = Agent("billing", instructions="Bill.")
    model = ScriptedModel(
        {
            "desk": [call("add", {"item": "tea"}), "Done.", call("transfer_to_billing", {"topic": "tea"})],
            "billing": ["Billing here."],
        }
    )
    graph = create_voice_graph([desk, billing], llm=model)
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        turn = await shown.say("Tea, please.")
        assert [(w["by"], w["key"], json.loads(w["data"])) for w in turn["written"]] == [
            ("add", "cart", {"key": "cart", "items": ["tea", "tea"], "note": MARKUP})
        ]
        turn = await shown.say("And the bill.")
        assert [json.loads(h["args"]) for h in turn["handoffs"]] == [{"topic": "tea"}]


async def test_the_button_that_interrupts() -> None:
    model = ScriptedModel(["one two three four five six", "Yes?"], per_token=0.3)
    graph = create_voice_graph([Agent("desk", instructions="Help.")], llm=model)
    async with served(shelf_of(graph)) as client, page(client) as shown:
        await shown.start()
        await shown.send("say", text="Count.")
        await shown.until(lambda: any(w["heard"] for t in shown.turns.values() for s in t["steps"] for w in s["words"]))
        await shown.send("interrupt")
        await shown.until(lambda: any(t["state"] == "closed" for t in shown.turns.values()))
        turn = next(iter(shown.turns.values()))
        assert turn["interrupted"]
        assert (await shown.say("Stop."))["steps"][0]["words"][0]["heard"] == "Yes?"
