"""`check` warns of a tool that changes the userdata in place and then waits for a task."""

from typing import Any

import pytest

from graph_voice import Agent, RunContext, Task, create_voice_graph, function_tool
from graph_voice.checks import Severity, check_graph

city = Task("get_city", instructions="City?")


def warned(tool: Any, **options: Any) -> list[str]:
    tools = [tool] if tool is not None else [city]
    desk = Agent("desk", instructions="Desk.", tools=tools, tasks=[city], **options)
    found = check_graph(create_voice_graph([desk, city], userdata=dict, llm="openai:x"))
    return [f.problem for f in found if f.severity is Severity.WARNING and "in place" in f.problem]


@function_tool
async def appends(ctx: RunContext[Any]) -> None:
    """Append."""
    ctx.userdata.seen.append(1)
    await ctx.run_task(city)


@function_tool
async def counts(ctx: RunContext[Any]) -> None:
    """Count."""
    ctx.userdata.counts["x"] += 1
    if ctx.userdata.ready:
        await ctx.run_task(city)


@function_tool
async def adds(ctx: RunContext[Any]) -> None:
    """Add."""
    ctx.userdata.seen += ["x"]
    await ctx.run_task(city)


@function_tool
async def inside(c: RunContext[Any]) -> None:
    """Change what is inside."""
    known = c.userdata
    profile = known.profile
    profile.visits += 1
    print(await c.run_task(city))


@function_tool
async def loops(ctx: RunContext[Any]) -> None:
    """Between two tasks."""
    for _ in range(2):
        found = await ctx.run_task(city)
        ctx.userdata["found"].append(found)


@function_tool
async def in_a_branch(ctx: RunContext[Any]) -> None:
    """In a branch that goes on."""
    if ctx.userdata.new:
        ctx.userdata.seen.insert(0, 1)
    await ctx.run_task(city)


@pytest.mark.parametrize("tool", [appends, counts, adds, inside, loops, in_a_branch])
def test_a_change_in_place_before_a_task_is_a_warning(tool: Any) -> None:
    (problem,) = warned(tool)
    assert problem.startswith(f"tool {tool.__name__} changes the userdata in place (")


def test_so_is_one_in_an_on_enter_method() -> None:
    async def enter(ctx: RunContext[Any]) -> None:
        ctx.userdata["seen"].append(1)
        await ctx.run_task(city)

    (problem,) = warned(None, on_enter=enter)
    assert "on_enter of agent \"desk\" changes the userdata in place (ctx.userdata['seen'].append(1))" in problem


@function_tool
async def assigns(ctx: RunContext[Any]) -> None:
    """Assign: it is undone."""
    ctx.userdata.visits += 1
    ctx.userdata.seen = [*ctx.userdata.seen, 1]
    await ctx.run_task(city)


@function_tool
async def behind(ctx: RunContext[Any]) -> None:
    """Behind the task."""
    ctx.userdata.seen.append(await ctx.run_task(city))


@function_tool
async def leaves(ctx: RunContext[Any], slot: str) -> str:
    """In a branch that ends."""
    if not slot:
        ctx.userdata.failed.append(slot)
        return "No such slot."
    return str(await ctx.run_task(city))


@function_tool
async def same_again(ctx: RunContext[Any]) -> None:
    """What changes nothing the second time."""
    ctx.userdata.seen.add(1)
    ctx.userdata.known["x"] = 1
    await ctx.run_task(city)


@function_tool
async def its_own(ctx: RunContext[Any]) -> None:
    """A list of its own."""
    found = list(ctx.userdata.seen)
    found.append(1)
    await ctx.run_task(city)


@function_tool
async def no_task(ctx: RunContext[Any]) -> None:
    """No task."""
    ctx.userdata.seen.append(1)


@function_tool(needs={"city": city})
async def needs(ctx: RunContext[Any], city: str) -> None:
    """Runs once."""
    ctx.userdata.seen.append(city)


@pytest.mark.parametrize("tool", [assigns, behind, leaves, same_again, its_own, no_task, needs])
def test_what_is_undone_or_happens_once_is_none(tool: Any) -> None:
    assert warned(tool) == []
