"""The kit's invariants hold for what is declared: odd words, protected words, several speakers. Effects: what acted."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from graph_voice import Agent, RunContext, ToolError, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])
ODD = [
    "👍",
    "👍 👍🏽",
    "👨‍👩‍👧",
    "Great👍 news",
    "1️⃣ first",
    "...",
    "—",
    "**bold** and `code`",
    "# Title",
    "- one\n- two",
    "[a](http://x.y)",
]


@both
@pytest.mark.parametrize("words", ODD)
async def test_words_that_are_hardly_speech(front_end: str, words: str) -> None:
    graph = create_voice_graph([Agent("desk", instructions="x", on_enter="Greet.")])
    async with Call(graph, llm=ScriptedModel(["Hello.", words, "Bye."]), front_end=front_end) as phone:
        assert (await phone.says("Fine?")).heard == words
        await phone.says("Good bye.")


@both
async def test_a_supervisor_whose_workers_speak(front_end: str) -> None:
    async def supervisor(state: MessagesState) -> Any:
        last = state["messages"][-1]
        return Command(goto=END if isinstance(last, AIMessage) else "math" if "2" in last.text else "poet")

    def worker(name: str, words: str) -> Any:
        async def work(state: MessagesState) -> Any:
            made = await ScriptedModel([words]).ainvoke(state["messages"])
            return Command(update={"messages": [AIMessage(made.text, name=name)]}, goto="supervisor")

        return work

    builder = StateGraph(MessagesState)
    builder.add_node("supervisor", supervisor, destinations=("math", "poet", END))
    builder.add_node("math", worker("math", "It is four."), destinations=("supervisor",))
    builder.add_node("poet", worker("poet", "Roses are red."), destinations=("supervisor",))
    builder.add_edge(START, "supervisor")
    async with Call(builder.compile(), front_end=front_end, speak=["math", "poet"]) as phone:
        assert (await phone.says("What is 2 and 2?")).heard == "It is four."
        assert (await phone.says("A poem.")).heard == "Roses are red."
        phone.barge_in("Stop.", after_words=1)
        await phone.says("Another poem.")


@both
@pytest.mark.parametrize("when", ["tool", "words"])
async def test_what_the_caller_says_into_protected_words(front_end: str, when: str) -> None:
    """LiveKit hears nothing then: its `discard_audio_if_uninterruptible` declares it. The core answers it later."""

    @function_tool
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        ctx.disallow_interruptions()
        await ctx.say("I am paying it now, please do not speak while I am doing this.")
        return "paid"

    graph = create_voice_graph([Agent("desk", instructions="x", tools=[pay])])
    model = ScriptedModel([("pay", [call("pay"), "It is paid now."]), ("", "Yes?")])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        if when == "tool":
            phone.during_tool("pay").says("Wait, stop.")
        else:
            phone.barge_in("Wait, stop.", after_words=5)
        assert "while I am doing this. It is paid now." in (await phone.says("pay")).heard
        await phone.says("More.")
        assert phone.said == ["pay", *(["Wait, stop."] if front_end == "core" else []), "More."]
        assert ("was not heard with: Wait, stop." in phone.transcript) == (front_end == "livekit")


class Slot(BaseModel):
    hour: int


@both
async def test_effects_count_what_acted(front_end: str) -> None:
    @function_tool
    async def pay(amount: int) -> str:
        """Pay."""
        answer = interrupt("Really?")
        if answer == "never":
            raise ToolError("not paid")
        return f"answer {Slot(hour='x') if answer == 'break' else answer}"  # type: ignore[arg-type]

    graph = create_voice_graph([Agent("desk", instructions="x", tools=[pay])])
    asked = [call("pay", {"amount": 3}), "Well."]
    model = ScriptedModel([*asked * 3, call("pay", {"amount": "many"}), "Sorry."])
    async with Call(graph, llm=model, front_end=front_end) as phone:
        for number, answer in enumerate(["yes", "never", "break"]):
            await phone.says("pay")
            assert phone.effects.count("pay") == number  # it asks, and has not acted
            await phone.says(answer)
            assert phone.effects.count("pay") == number + 1
        await phone.says("pay many")
        assert phone.effects.count("pay") == 3  # the schema has refused it
        assert [run.outcome for run in phone.effects] == ["asking", "done", "asking", "failed", "asking", "failed"]


@both
async def test_a_tool_that_was_cut_off_by_a_crash_has_acted(front_end: str) -> None:
    @function_tool(idempotent=True)
    async def note(ctx: RunContext[Any]) -> str:
        """Note."""
        await ctx.say("One moment please, I am noting it.")
        return "noted"

    graph = create_voice_graph([Agent("desk", instructions="x", tools=[note])])
    model = ScriptedModel([call("note"), "Noted again."])
    async with Call(graph, llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        phone.during_tool("note").crash()
        await phone.says("Note it.")
        await phone.resume()
        assert phone.effects.count("note") == 2
