"""Tools of every agent: what may stand in `create_voice_graph(tools=[...])`, and who gets it."""

from typing import Any

import pytest
from langchain_core.tools import tool

from graph_voice import Agent, Handoff, RunContext, Task, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.graph.build import definition_of


@function_tool
async def ping() -> str:
    """See whether the line is up."""
    return "up"


@function_tool(name="see if up")
async def bad_name() -> str:
    """See whether the line is up."""
    return "up"


@function_tool(handoffs=["b"])
async def to_b(ctx: RunContext[Any]) -> Handoff:
    """Go to b."""
    return ctx.handoff("b")


@tool
def today() -> str:
    """Tell the date."""
    return "Friday"


def in_graph(graph: Any, name: str) -> Agent:
    found = definition_of(graph, name)
    assert found is not None
    return found


def agent(name: str, **options: Any) -> Agent:
    return Agent(name, instructions="You are an agent.", **options)


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        (ping, "write a list, tools=[...]"),
        ("ping", "write a list, tools=[...]"),
        (["ping"], "create_voice_graph(tools=[...]): 'ping' is not a tool"),
        ([ping, ping], 'create_voice_graph(tools=[...]) has two tools named "ping"; rename one.'),
        ([bad_name], 'the providers refuse the tool name "see if up"'),
    ],
)
def test_what_can_not_be_one_is_refused(tools: Any, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        create_voice_graph([agent("a")], tools=tools)
    assert words in str(caught.value)


def test_the_agents_themselves_stay_as_they_are() -> None:
    one, other = agent("a", tools=[today]), Agent("b", instructions="You are b.")
    graph = create_voice_graph([one, other], tools=[ping, to_b]).compile()
    assert [[t.name for t in in_graph(graph, name).all_tools] for name in ("a", "b")] == [
        ["today", "ping", "to_b"],
        ["ping"],
    ]
    assert [[t.name for t in a.all_tools] for a in (one, other)] == [["today"], []]
    assert (one.targets, in_graph(graph, "a").targets) == (frozenset(), {"b"})


def test_a_declared_handoff_of_the_agent_comes_before_the_tools() -> None:
    own = Handoff("b", tool=False, say="One moment.")
    graph = create_voice_graph([agent("a", handoffs=[own]), agent("b")], tools=[to_b]).compile()
    assert in_graph(graph, "a").ways == {"b": own}


def test_an_unknown_target_is_named_when_the_graph_is_compiled() -> None:
    with pytest.raises(BuildError, match='hands off to "b", but the graph has no such node'):
        create_voice_graph([agent("a")], tools=[to_b]).compile()


def test_a_task_that_only_such_a_tool_runs_belongs_to_every_agent() -> None:
    name = Task("get_name", instructions="Ask for the name.")
    graph = create_voice_graph([agent("a", handoffs=["b"]), agent("b"), name], tools=[name]).compile()
    runs = {node: in_graph(graph, node).own_tasks for node in ("a", "b", "get_name")}
    assert runs == {"a": {"get_name": name}, "b": {"get_name": name}, "get_name": {}}


def test_tools_of_the_provider_are_declared_to_every_model_once() -> None:
    search = {"type": "web_search"}
    graph = create_voice_graph([agent("a", tools=[search], handoffs=["b"]), agent("b")], tools=[search, ping]).compile()
    assert [in_graph(graph, name).provider_tools for name in ("a", "b")] == [[search], [search]]


def test_the_drawing_shows_where_they_lead() -> None:
    graph = create_voice_graph([agent("a", handoffs=["c"]), agent("c"), agent("b")], tools=[to_b]).compile()
    edges = {(edge.source, edge.target, edge.data) for edge in graph.get_graph().edges}
    assert {("a_tools", "b", "to_b"), ("c_tools", "b", "to_b")} <= edges
    assert not any(edge[0] == "b_tools" for edge in edges)
