"""What a group of tasks leaves is summarized in the background, as for a handoff, and applied once, at its end."""

import re
from typing import Any

import pytest

from graph_voice import Agent, RunContext, Task, TaskGroup, create_voice_graph, function_tool, history
from graph_voice.testing import Call, ScriptedModel, call, fail, hang

pytestmark = pytest.mark.virtual_clock
STEPS = ("get_name", "get_city", "get_size", "get_color")


def form(summarizer: Any, *, single: bool = False) -> tuple[Any, ScriptedModel]:
    """A group of four steps, or a single task, whose talk is summarized by this model."""
    returns = history.summarize(model=summarizer)
    if single:
        asked: Any = Task("get_name", instructions="Name?", returns=returns)
    else:
        asked = TaskGroup("form", [Task(n, instructions=f"{n}?") for n in STEPS], returns=returns, revisit=False)

    @function_tool(tasks=[asked])
    async def register(ctx: RunContext[Any]) -> str:
        """Register."""
        return str(await ctx.run_task(asked))

    script: dict[str, Any] = {name: [f"What is {name}?", call(f"complete_{name}", {"value": name})] for name in STEPS}
    if single:
        script["get_name"] = ["What is it?", "Which one?", "Once more?", "What?", script["get_name"][1]]
    model = ScriptedModel({**script, "desk": [call("register"), "Done."]})
    return create_voice_graph([Agent("desk", instructions="Desk.", tools=[register]), asked]), model


async def played(phone: Call[Any], words: int) -> Any:
    await phone.says("Register me.")
    for number in range(words - 1):
        await phone.says(f"Answer {number}.")
    await phone.silence(5)  # what is prepared is ready
    return await phone.says("The last answer.")


def shown(model: ScriptedModel) -> list[str]:
    """What the agent was shown of the group's talk when it went on."""
    return [m.text for m in model.prompts[-1].messages[1:] if re.search("summary|answer|Answer", m.text)]


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("single", [False, True])
async def test_the_summary_of_a_task_is_ready_when_it_ends(front_end: str, single: bool) -> None:
    summarizer = ScriptedModel([*["They are Ada." for _ in range(2)], hang()])
    graph, model = form(summarizer, single=single)
    async with Call(graph, llm=model, front_end=front_end) as phone:
        result = await played(phone, 4)
        assert result.heard == "Done."
        told, *rest = shown(model)
        assert "Prior conversation summary: They are Ada." in told
        assert rest[-1] == "The last answer."
        assert "Answer 0." not in rest


@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_a_summary_that_fails_does_not_fail_the_group(front_end: str) -> None:
    graph, model = form(ScriptedModel([fail(RuntimeError("down")) for _ in range(9)]))
    async with Call(graph, llm=model, front_end=front_end) as phone:
        result = await played(phone, 4)
        assert result.heard == "Done."
        assert "The last answer." in shown(model)
        assert not any("summary" in text for text in shown(model))


async def test_it_is_applied_once_at_the_groups_end() -> None:
    summarizer = ScriptedModel(lambda messages: "Summed up.")
    graph, model = form(summarizer)
    async with Call(graph, llm=model) as phone:
        await played(phone, 4)
        steps = [p for p in model.prompts if p.messages[0].text.startswith(STEPS)]
        assert len(steps) == 8
        assert not any("Summed up" in m.text for p in steps for m in p.messages)
        assert sum("Summed up" in m.text for m in model.prompts[-1].messages) == 1


async def test_a_summary_that_is_late_is_not_waited_for_longer_than_a_handoff_would() -> None:
    graph, model = form(ScriptedModel([hang() for _ in range(9)]))
    async with Call(graph, llm=model) as phone:
        result = await played(phone, 4)
        assert result.heard == "Done."
        assert result.seconds < 10  # of the virtual clock: the deadline of a handoff's summary is one
