"""A task whose tools can't end it is refused; one whose tools may or may not is a warning of `check`."""

from typing import Any

import pytest
from langchain_core.tools import tool

from graph_voice import Agent, Done, RunContext, Task, ToolError, create_voice_graph, function_tool
from graph_voice.checks import check_graph
from graph_voice.errors import BuildError


@function_tool
async def records(ctx: RunContext[Any], city: str) -> str:
    """Record it in the userdata."""
    ctx.userdata["city"] = city
    if not city:
        raise ToolError("Which city?")
    return f"Recorded {city} for {ctx.agent}."


@tool
def looks_up(city: str) -> str:
    """Look it up."""
    return city


@function_tool
async def searches(city: str) -> list[str]:
    """Search."""
    return [city]


zone = Task("get_zone", instructions="Zone?")


@pytest.mark.parametrize("tools", [[records], [looks_up], [searches], [zone], [records, looks_up, searches]])
def test_a_task_that_no_tool_can_end_is_refused(tools: list[Any]) -> None:
    with pytest.raises(BuildError, match=r"none of its tools can end it.*or leave tools out.*complete_get_city"):
        Task("get_city", instructions="City?", tools=tools, give_up="The caller won't say.")


def test_so_is_a_class_with_such_methods() -> None:
    class GetCity(Task[str]):
        instructions = "City?"

        @function_tool
        async def record(self, ctx: RunContext[Any], city: str) -> str:
            """Record."""
            return f"{self.name}: {city}"

    with pytest.raises(BuildError, match="none of its tools can end it"):
        GetCity()


@function_tool
async def says_so(ctx: RunContext[Any], city: str) -> str | Done:
    """Its annotation says so."""
    return await helper(ctx, city)


@function_tool
async def names_it(ctx: RunContext[Any], city: str):  # type: ignore[no-untyped-def]
    """Its code names it."""
    return ctx.complete(city)


@function_tool
async def in_an_inner_function(ctx: RunContext[Any], city: str) -> object:
    """So does a function inside it."""

    async def end() -> Done:
        return ctx.complete(city)

    return await end()


async def helper(ctx: Any, city: str) -> Any:
    return ctx.complete(city)


@function_tool
async def passes_it_on(ctx: RunContext[Any], city: str) -> str:
    """Its helper does, whatever its annotation says."""
    found: str = await helper(ctx, city)
    return found


@function_tool
async def says_nothing(ctx: RunContext[Any], city: str):  # type: ignore[no-untyped-def]
    """It does not say what it returns."""
    return city


def warnings_of(task: Task[Any]) -> list[str]:
    desk = Agent("desk", instructions="Desk.", tools=[task])
    found = check_graph(create_voice_graph([desk, task], userdata=dict, llm="openai:x"))
    return [f.problem for f in found if "can end it" in f.problem]


@pytest.mark.parametrize("ends", [says_so, names_it, in_an_inner_function])
def test_one_that_can_is_taken(ends: Any) -> None:
    assert warnings_of(Task("get_city", instructions="City?", tools=[records, ends])) == []
    assert warnings_of(Task("get_city", instructions="City?")) == []


@pytest.mark.parametrize("perhaps", [passes_it_on, says_nothing])
def test_one_that_may_is_a_warning(perhaps: Any) -> None:
    (problem,) = warnings_of(Task("get_city", instructions="City?", tools=[perhaps]))
    assert problem == 'task "get_city": nothing shows that one of its tools can end it.'
