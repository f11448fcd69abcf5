"""`crash` and `resume` of a scripted call: what the other process says is what `GraphAgent` says."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from graph_voice import Agent, Resumed, RunContext, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])


@function_tool(idempotent=True)
async def book(ctx: RunContext[Any], room: str) -> str:
    """Book."""
    return f"answer {interrupt(f'Shall I book room {room}?')}"


@function_tool
async def ask_twice() -> str:
    """Ask."""
    return f"{interrupt('Which day?')} {interrupt('Which hour?')}"


GRAPH = create_voice_graph([Agent("desk", instructions="x", tools=[book, ask_twice])])


@both
@pytest.mark.parametrize("again", [1, 2])
async def test_an_open_question_is_asked_again_and_its_answer_counts(front_end: str, again: int) -> None:
    cut = [f"Cut {n}." for n in range(again)]
    model = ScriptedModel([call("book", {"room": "12"}), *cut, "Booked."])
    async with Call(GRAPH, llm=model, saver=InMemorySaver(), front_end=front_end) as phone:
        await phone.says("Room twelve.")
        await phone.silence(3)
        for words in cut:
            assert (await phone.crash().resume()).heard == f"{words} Shall I book room 12?"
        result = await phone.says("Yes.")
        assert result.heard == "Booked."
        assert [m.text for m in phone.messages if m.type == "tool"] == ["answer Yes."]


@both
async def test_the_second_question_of_a_tool_is_the_open_one(front_end: str) -> None:
    model = ScriptedModel([call("ask_twice"), "Cut.", "Done."])
    async with Call(GRAPH, llm=model, saver=InMemorySaver(), front_end=front_end) as phone:
        await phone.says("Ask me.")
        await phone.says("Monday.")
        await phone.silence(3)
        assert (await phone.crash().resume()).heard == "Cut. Which hour?"
        assert (await phone.says("Nine.")).heard == "Done."


@both
@pytest.mark.parametrize("hook", ["Say the line was cut.", lambda resumed: "Say the line was cut."])
async def test_on_resume_says_what_is_said(front_end: str, hook: Any) -> None:
    model = ScriptedModel([call("book", {"room": "12"}), "Sorry, we were cut off.", "Booked."])
    async with Call(GRAPH, llm=model, saver=InMemorySaver(), front_end=front_end, on_resume=hook) as phone:
        await phone.says("Room twelve.")
        await phone.silence(3)
        assert "Sorry, we were cut off." in (await phone.crash().resume()).heard
        assert "Say the line was cut." in str(model.prompts[1].messages)


@both
async def test_a_call_that_was_answered_says_that_the_line_was_cut_or_waits(front_end: str) -> None:
    found: list[Resumed] = []

    def quiet(resumed: Resumed) -> None:
        found.append(resumed)

    for hook, said in ((None, "We were cut off."), (quiet, "")):
        model = ScriptedModel(["Hello.", *([said] if said else []), "Yes."])
        async with Call(GRAPH, llm=model, saver=InMemorySaver(), front_end=front_end, on_resume=hook) as phone:
            await phone.says("Hi.")
            await phone.silence(1)
            assert (await phone.crash().resume()).heard == said
            assert (await phone.says("Well?")).heard == "Yes."
    assert found == [Resumed(unanswered=False)]
