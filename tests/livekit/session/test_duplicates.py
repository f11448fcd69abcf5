"""Tool calls that are made again while they run, and those that the model cancels, on both front ends."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import function_tool as livekit_tool
from livekit.agents import llm
from livekit.agents.voice import tool_executor

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.agents import duplicates
from graph_voice.agents.tools import as_tool
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]


class Desk:
    """A desk that searches for a long time."""

    def __init__(self, seconds: float = 20.0, **options: Any) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []

        @function_tool(**options)
        async def search(ctx: RunContext[Any], what: str, deep: bool = False) -> str:
            """Search."""
            self.began.append(what)
            if what == "the safe":
                ctx.disallow_interruptions()
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                self.ended.append(f"{what} canceled")
                raise
            self.ended.append(what)
            return f"found {what}"

        self.search = search

    def graph(self) -> Any:
        return create_voice_graph([Agent("desk", instructions="Desk.", tools=[self.search])])


def results(phone: Call[Any]) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


def cancels(call_id: str) -> Any:
    return call("lk_agents_cancel_task", {"call_id": call_id})


KEYS = call("search", {"what": "keys"}, id="c1")
AGAIN = call("search", {"what": "keys", "deep": False}, id="c2")
HATS = call("search", {"what": "hats"}, id="c2")


async def play(desk: Desk, front_end: Any, second: Any, *more: Any, says: str = "Search again.") -> Call[Any]:
    """The caller cuts in while the tool runs, and the model does this."""
    model = ScriptedModel([say("One moment.", KEYS), second, "As you like.", *more])
    async with Call(desk.graph(), llm=model, front_end=front_end, check=False) as phone:
        phone.during_tool("search").says(says)
        await phone.says("My keys, please.")
        await phone.silence(60.0)
        return phone


async def test_by_default_both_run(front_end: Any) -> None:
    desk = Desk()
    await play(desk, front_end, AGAIN, "All found.", "More.")
    assert (desk.began, desk.ended) == (["keys", "keys"], ["keys", "keys"])


async def test_a_duplicate_is_rejected_in_livekits_words(front_end: Any) -> None:
    desk = Desk(on_duplicate="reject")
    phone = await play(desk, front_end, HATS, "Found it.")
    assert (desk.began, desk.ended) == (["keys"], ["keys"])
    told = next(text for text in results(phone) if "already running" in text)
    assert told.startswith("Same tool `search` is already running:\n{")
    assert '"call_id": "c1"' in told
    assert results(phone)[0] == "found keys"
    assert phone.effects.count("search") == 1


@pytest.mark.parametrize(("second", "runs"), [(AGAIN, 1), (HATS, 2)])
async def test_with_arguments_only_the_same_call_is_a_duplicate(front_end: Any, second: Any, runs: int) -> None:
    desk = Desk(on_duplicate="reject", duplicate_scope="name_and_args")
    await play(desk, front_end, second, "Found it.", "More.")
    assert len(desk.began) == runs


@pytest.mark.parametrize("confirms", [True, False])
async def test_a_duplicate_may_be_confirmed(front_end: Any, confirms: bool) -> None:
    desk = Desk(on_duplicate="confirm")
    second = call("search", {"what": "keys", duplicates.CONFIRM: confirms}, id="c2")
    phone = await play(desk, front_end, second, "Found it.", "More.")
    assert len(desk.began) == 1 + confirms
    assert any("Re-call with confirm duplicate True" in text for text in results(phone)) != confirms


async def test_a_duplicate_replaces_the_one_that_runs(front_end: Any) -> None:
    desk = Desk(on_duplicate="replace", cancellable=True)
    phone = await play(desk, front_end, HATS, "Found it.")
    assert (desk.began, desk.ended) == (["keys", "hats"], ["keys canceled", "hats"])
    assert set(results(phone)) == {"", "found hats"}


async def test_the_model_cancels_one(front_end: Any) -> None:
    desk = Desk(cancellable=True)
    phone = await play(desk, front_end, cancels("c1"), says="Never mind the keys.")
    assert desk.ended == ["keys canceled"]
    assert set(results(phone)) == {"", "Task c1 cancelled successfully."}
    assert phone.heard[-1] == "As you like."


async def test_the_model_sees_which_ones_run(front_end: Any) -> None:
    desk = Desk(cancellable=True)
    phone = await play(desk, front_end, call("lk_agents_get_running_tasks"), "Found it.", says="What are you doing?")
    assert '"call_id":"c1"' in results(phone)[-1].replace(" ", "")
    assert desk.ended == ["keys"]


@pytest.mark.parametrize("call_id", ["c9", ""])
async def test_one_that_does_not_run_can_not_be_canceled(front_end: Any, call_id: str) -> None:
    desk = Desk(cancellable=True)
    phone = await play(desk, front_end, cancels(call_id), "Found it.")
    assert f"Task {call_id} not found" in results(phone)
    assert desk.ended == ["keys"]


async def test_it_can_be_canceled_within_its_message(front_end: Any) -> None:
    desk = Desk(cancellable=True)
    model = ScriptedModel([say("One moment.", KEYS, cancels("c1")), "As you like."])
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("My keys, please. Or rather not.")
        assert desk.ended in (["keys canceled"], []), "it may be canceled before it has begun"
        assert [m.tool_call_id for m in phone.messages if isinstance(m, ToolMessage)] == [
            str(c["id"]) for m in phone.messages if isinstance(m, AIMessage) for c in m.tool_calls
        ]


async def test_they_are_livekits_words(front_end: Any) -> None:
    desk = Desk(on_duplicate="confirm", cancellable=True)

    @livekit_tool(on_duplicate="confirm", flags=llm.ToolFlag.CANCELLABLE)
    async def search(what: str, deep: bool = False) -> str:
        """Search."""
        return ""

    assert duplicates.REJECT_DUPLICATE == tool_executor.DUPLICATE_REJECT
    assert duplicates.CONFIRM_DUPLICATE == tool_executor.DUPLICATE_CONFIRM
    theirs = llm.ToolContext([search, tool_executor.cancel_task, tool_executor.get_running_tasks])
    told = {t["function"]["name"]: t["function"] for t in theirs.parse_function_tools("openai", strict=False)}
    ours = Agent("desk", instructions="Desk.", tools=[desk.search]).all_tools
    made = {t.name: convert_to_openai_tool(t)["function"] for t in ours}
    assert set(made) == set(told)
    for name, function in made.items():
        assert function["description"] == told[name]["description"]
        assert set(function["parameters"]["properties"]) == set(told[name]["parameters"]["properties"])
    confirm = [t["search"]["parameters"]["properties"][duplicates.CONFIRM]["description"] for t in (made, told)]
    assert confirm[0] == confirm[1]
    assert as_tool(desk.search).name == "search"
