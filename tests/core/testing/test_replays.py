"""A tool that waits for a task runs again from its start. The kit fails a test whose tool then does something else."""

from typing import Any

import pytest
from pydantic import BaseModel, Field

from graph_voice import Agent, RunContext, Task, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock


class Profile(BaseModel):
    visits: int = 0


class Caller(BaseModel):
    visits: int = 0
    seen: list[str] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    profile: Profile = Field(default_factory=Profile)


async def played(body: Any, front_end: str = "core", *, more: tuple[Any, ...] = ()) -> None:
    """A tool with this body, and a caller who answers what the task asks."""
    city, name = Task("get_city", instructions="City?"), Task("get_name", instructions="Name?")
    runs: list[int] = []

    @function_tool
    async def travel(ctx: RunContext[Caller]) -> str:
        """Travel."""
        runs.append(1)
        await body(ctx, city, name, len(runs))
        return "Booked."

    desk = Agent("desk", instructions="Desk.", tools=[travel, *more], tasks=[city, name])
    calls = [call("travel"), *(call(tool.__name__) for tool in more)]
    script = {
        "desk": [say(*calls), "Done."],
        "get_city": ["Which city?", call("complete_get_city", {"value": "Rome"})],
        "get_name": ["Which name?", call("complete_get_name", {"value": "Ada"})],
    }
    graph = create_voice_graph([desk, city, name], userdata=Caller)
    async with Call(graph, llm=ScriptedModel(script), front_end=front_end) as phone:
        for words in ("To Rome.", "Rome.", "Ada."):
            if not phone.messages or phone.active_agent != "desk":
                await phone.says(words)


@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_a_second_run_that_asks_for_another_task_fails_the_test(front_end: str) -> None:
    async def body(ctx: Any, city: Any, name: Any, run: int) -> None:
        await ctx.run_task(city if run == 1 else name)

    with pytest.raises(AssertionError, match="desk's tool travel asked for get_city before, and now for get_name"):
        await played(body, front_end)


@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_one_that_asks_for_the_same_does_not(front_end: str) -> None:
    async def body(ctx: Any, city: Any, name: Any, run: int) -> None:
        ctx.userdata.visits += 1
        await ctx.run_task(city)
        ctx.userdata.seen = [*ctx.userdata.seen, "city"]
        await ctx.run_task(name)
        ctx.userdata.counts["done"] = run

    await played(body, front_end)


def append(userdata: Caller) -> None:
    userdata.seen.append("x")


def count(userdata: Caller) -> None:
    userdata.counts["x"] = userdata.counts.get("x", 0) + 1


def inside(userdata: Caller) -> None:
    userdata.profile.visits += 1


def add_to_list(userdata: Caller) -> None:
    userdata.seen += ["x"]


@pytest.mark.parametrize("write", [append, count, inside, add_to_list])
@pytest.mark.parametrize("between", [False, True])
async def test_what_is_changed_in_place_before_a_task_fails_the_test(write: Any, between: bool) -> None:
    async def body(ctx: Any, city: Any, name: Any, run: int) -> None:
        if between:
            await ctx.run_task(city)
        write(ctx.userdata)
        await ctx.run_task(name)

    with pytest.raises(AssertionError, match="changed the userdata in place before it asked for get_name"):
        await played(body)


async def test_what_another_tool_of_the_batch_changes_is_not_taken_for_its_own() -> None:
    @function_tool
    async def note(ctx: RunContext[Caller]) -> str:
        """Note."""
        ctx.userdata.seen.append("x")
        return "Noted."

    async def body(ctx: Any, city: Any, name: Any, run: int) -> None:
        await ctx.run_task(city)

    await played(body, more=(note,))
