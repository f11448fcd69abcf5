"""A declared transfer leads from agent to agent. The tools node is for what has to be run, and for refusals."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END
from langgraph.types import Command, interrupt
from steps import Steps
from turn_support import hear, play, rest, told, until

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool, history
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock

HELLO = {"messages": [("user", "hello")]}


@function_tool
async def note(ctx: RunContext[Any]) -> str:
    """Note."""
    await asyncio.sleep(0.5)
    return "noted"


@function_tool(handoffs=["b"])
async def pass_on(ctx: RunContext[Any]) -> Handoff:
    """Pass on."""
    return ctx.handoff("b")


def office(*first: Any, to: Handoff | None = None, tools: Any = (), **options: Any) -> tuple[Any, ScriptedModel]:
    """Agent `a`, which says this first, and then "Again a."; it hands off to `b`, which greets."""
    llm = ScriptedModel({"a": [*first, "Again a."], "b": ["B here.", "Still b."]})
    a = Agent("a", instructions="You are a.", tools=tools, handoffs=[to or Handoff("b")], **options)
    b = Agent("b", instructions="You are b.", on_enter="Greet.")
    return create_voice_graph([a, b], llm=llm), llm


def call_of(graph: Any) -> tuple[Conversation[Any], Steps]:
    steps = Steps()
    return Conversation(graph, config={"callbacks": [steps]}), steps


# ---- the way


BATCHES: dict[str, tuple[Any, list[str]]] = {
    "alone": (say(call("transfer_to_b")), ["a", "b"]),
    "after words": (say("One moment.", call("transfer_to_b")), ["a", "b"]),
    "behind a tool": (say(call("note"), call("transfer_to_b")), ["a", "a_tools", "b"]),
    "before a tool": (say(call("transfer_to_b"), call("note")), ["a", "a_tools", "b"]),
    "twice": (say(call("transfer_to_b"), call("transfer_to_b")), ["a", "a_tools", "b"]),
    "returned by a tool": (say(call("pass_on")), ["a", "a_tools", "b"]),
    "beside what is no tool": (say(call("nobody", unknown=True), call("transfer_to_b")), ["a", "a_tools", "b"]),
}


@pytest.mark.parametrize("batch", BATCHES)
async def test_a_transfer_that_is_alone_is_one_step_and_all_else_takes_the_tools_node(batch: str) -> None:
    asked, way = BATCHES[batch]
    graph, _ = office(asked, tools=[note, pass_on])
    conversation, steps = call_of(graph)
    seen = await play(conversation.turn("hello"))
    assert steps.nodes == way
    assert [(e.old_agent, e.new_agent) for e in seen if isinstance(e, events.HandedOff)] == [("a", "b")]
    assert conversation.active_agent == "b"
    assert conversation.messages[-1].text == "B here."
    check_invariants(conversation, current_agent="b")

    graph, _ = office(asked, tools=[note, pass_on])
    steps = Steps()
    done = await graph.compile().ainvoke(HELLO, {"callbacks": [steps]})
    assert steps.nodes == way
    assert (done["active_agent"], done["messages"][-1].text) == ("b", "B here.")


async def test_the_front_end_is_told_the_same_on_both_ways() -> None:
    """The same call by a transfer, and by a tool that returns the handoff."""
    seen: list[list[tuple[Any, ...]]] = []
    for tool in ("transfer_to_b", "pass_on"):
        graph, _ = office(say("One moment.", call(tool)), to=Handoff("b", say="This way, please."), tools=[pass_on])
        conversation, _ = call_of(graph)
        happened = await play(conversation.turn("hello"))
        seen.append([_told(event) for event in happened])
        assert told(conversation)[1:] == [
            "ai: One moment. This way, please. +call_1",
            "tool: Transferring to b.",
            "ai: B here.",
        ]
    assert seen[0] == seen[1]


def _told(event: events.Event) -> tuple[Any, ...]:
    kept = ("agent", "text", "call_id", "output", "is_error", "old_agent", "new_agent")
    return type(event).__name__, *(getattr(event, name, None) for name in kept)


async def test_the_first_transfer_of_a_batch_wins_and_the_other_is_told() -> None:
    llm = ScriptedModel({"a": [say(call("transfer_to_c"), call("transfer_to_b"))], "c": ["C here."]})
    agents = [Agent("a", instructions="A.", handoffs=[Handoff("b"), Handoff("c")])]
    agents += [Agent(name, instructions=name) for name in "bc"]
    conversation, _ = call_of(create_voice_graph(agents, llm=llm))
    await play(conversation.turn("hello"))
    assert told(conversation)[2:] == [
        "tool: Transferring to c.",
        "tool: not done: the caller is being transferred to c.",
        "ai: C here.",
    ]


async def test_each_transfer_of_a_call_is_one_step() -> None:
    llm = ScriptedModel({"a": [call("transfer_to_b")], "b": ["B.", call("transfer_to_c")], "c": ["C here."]})
    agents = [Agent(n, instructions=n, handoffs=[Handoff(to)]) for n, to in ("ab", "bc")]
    conversation, steps = call_of(create_voice_graph([*agents, Agent("c", instructions="C.")], llm=llm))
    await play(conversation.turn("hello"))
    await play(conversation.turn("and c"))
    assert steps.nodes == ["a", "b", "b", "c"]
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["b", "c"]


# ---- what may happen to it


async def test_a_transfer_that_is_refused_or_mocked_is_told_to_the_model_that_asked() -> None:
    answers: dict[str, Callable[[Any, str], None]] = {
        "not done: nobody is there": lambda turn, call_id: turn.deny(call_id, "nobody is there"),
        "mocked": lambda turn, call_id: turn.resolve(call_id, "mocked"),
    }
    for answer, decide in answers.items():
        graph, llm = office(say(call("transfer_to_b")))
        conversation, steps = call_of(graph)
        turn = conversation.turn("hello")
        turn.commit()
        asked = await until(turn, events.ToolCalls)
        decide(turn, asked.calls[0].id)
        seen = await rest(turn)
        hear(turn, seen)
        turn.close()
        assert [e.output for e in seen if isinstance(e, events.ToolResult)] == [answer]
        assert not [e for e in seen if isinstance(e, events.HandedOff)]
        assert told(conversation)[2:] == [f"tool: {answer}", "ai: Again a."]
        assert (steps.nodes, llm.agents) == (["a", "a_tools", "a"], ["a", "a"])
        check_invariants(conversation, current_agent="a")


async def test_a_transfer_that_the_caller_interrupts_before_it_is_allowed_did_not_start() -> None:
    graph, _ = office(say("One moment.", call("transfer_to_b")))
    conversation, steps = call_of(graph)
    turn = conversation.turn("hello")
    turn.commit()
    await until(turn, events.ToolCalls)
    await asyncio.sleep(1)
    turn.interrupt()
    seen = await rest(turn)
    turn.close()
    assert [(type(e).__name__, getattr(e, "is_error", None)) for e in seen] == [("ToolResult", True), ("Ended", None)]
    assert told(conversation) == ["human: hello"]
    assert steps.nodes == ["a"]
    check_invariants(conversation, current_agent="a")


@pytest.mark.parametrize("decided", ["confirm", "reject", "close"])
async def test_on_exit_runs_when_the_transfer_has_happened_and_not_before(decided: str) -> None:
    ran: list[str] = []

    async def on_exit(ctx: RunContext[Any]) -> None:
        ran.append(ctx.agent)
        ctx.userdata["left"] = True

    graph, _ = office(say(call("transfer_to_b")), on_exit=on_exit)
    conversation, steps = call_of(graph)
    turn = conversation.turn("hello")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    handed = await until(turn, events.HandedOff)
    await asyncio.sleep(1)
    assert ran == []
    assert conversation.active_agent == "a"
    if decided == "confirm":
        turn.confirm_handoff(handed.call_id)
        hear(turn, await rest(turn))
    elif decided == "reject":
        turn.reject_handoff(handed.call_id, "the caller spoke")
    turn.close()
    await turn.wait_finished()
    happened = decided == "confirm"
    assert ran == (["a"] if happened else [])
    assert conversation.userdata == ({"left": True} if happened else {})
    assert steps.nodes[0] == "a"
    assert "a_tools" not in steps.nodes
    check_invariants(conversation, current_agent="b" if happened else "a")


async def test_a_transfer_with_arguments_that_are_no_json_is_told_to_the_model() -> None:
    graph, llm = office(say(call("transfer_to_b", '{"to": ')))
    conversation, steps = call_of(graph)
    await play(conversation.turn("hello"))
    assert "not valid JSON" in conversation.messages[-2].text
    assert (steps.nodes, llm.agents) == (["a", "a_tools", "a"], ["a", "a"])


async def test_an_agent_that_was_reached_by_an_edge_writes_that_before_it_transfers() -> None:
    """So a crash while the transfer waits keeps the first handoff, which has happened."""
    llm = ScriptedModel({"a": [call("transfer_to_lookup")], "b": [call("transfer_to_c")], "c": ["C here."]})
    agents = [
        Agent("a", instructions="A.", handoffs=[Handoff("lookup", history=history.full())]),
        Agent("b", instructions="B.", handoffs=[Handoff("c")]),
        Agent("c", instructions="C."),
    ]
    graph = create_voice_graph(agents, llm=llm)
    graph.add_node("lookup", lambda state: {"messages": [HumanMessage("The caller means c.")]})
    graph.add_edge("lookup", "b")
    conversation, steps = call_of(graph)
    turn = conversation.turn("hello")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    turn.confirm_handoff((await until(turn, events.HandedOff)).call_id)
    asked = await until(turn, events.ToolCalls)
    await asyncio.sleep(1)
    assert conversation.active_agent == "b"
    turn.allow(asked.calls[0].id)
    turn.confirm_handoff((await until(turn, events.HandedOff)).call_id)
    hear(turn, await rest(turn))
    turn.close()
    assert steps.nodes == ["a", "lookup", "b", "b_tools", "c"]
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["b", "c"]
    check_invariants(conversation, current_agent="c")


# ---- targets of every kind


def looked_up(to: str, **options: Any) -> tuple[Any, ScriptedModel, list[str]]:
    """`a` hands off to a custom node, which leads to another node, or back to `a`."""
    ran: list[str] = []

    async def lookup(state: dict[str, Any]) -> dict[str, Any]:
        ran.append("lookup")
        await asyncio.sleep(1)
        return {"userdata": {"found": len(ran)}}

    graph, llm = office(say("One moment.", call("find")), to=Handoff("lookup", name="find", **options))
    graph.add_node("lookup", lookup)
    graph.add_edge("lookup", to)
    return graph, llm, ran


@pytest.mark.parametrize("to", ["a", "b"])
async def test_a_transfer_leads_straight_to_a_custom_node(to: str) -> None:
    graph, _, ran = looked_up(to, history=history.full())
    conversation, steps = call_of(graph)
    await play(conversation.turn("hello"))
    assert (steps.nodes, ran) == (["a", "lookup", to], ["lookup"])
    assert conversation.userdata == {"found": 1}
    assert conversation.messages[-1].text == {"a": "Again a.", "b": "B here."}[to]
    check_invariants(conversation, current_agent=to)
    graph, _, ran = looked_up(to)
    done = await graph.compile().ainvoke(HELLO)
    assert (done["active_agent"], ran) == (to, ["lookup"])


async def test_an_agent_that_may_transfer_to_a_custom_node_runs_ahead_of_the_handoff_to_it() -> None:
    """Only an edge that is taken whatever the agent says makes its step wait; a transfer waits for itself."""
    llm = ScriptedModel({"a": [say(call("transfer_to_b"))], "b": ["B here."]})
    agents = [Agent("a", instructions="A.", handoffs=[Handoff("b")])]
    agents += [Agent("b", instructions="B.", handoffs=[Handoff("lookup")])]
    graph = create_voice_graph(agents, llm=llm)
    graph.add_node("lookup", lambda state: {})
    graph.add_edge("lookup", "a")
    conversation, _ = call_of(graph)
    turn = conversation.turn("hello")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    seen = await asyncio.wait_for(rest(turn), 60)
    (handed,) = [e for e in seen if isinstance(e, events.HandedOff)]
    turn.confirm_handoff(handed.call_id)
    hear(turn, seen)
    turn.close()
    check_invariants(conversation, current_agent="b")


@pytest.mark.parametrize("policy", ["cancel", "complete"])
@pytest.mark.parametrize("moment", [0.0, 0.5, 1.5])
async def test_a_custom_node_runs_at_most_once_when_the_caller_interrupts_the_way_there_and_back(
    policy: Any, moment: float
) -> None:
    graph, _, ran = looked_up("a", on_interruption=policy)
    conversation, steps = call_of(graph)
    turn = conversation.turn("hello")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    await asyncio.sleep(moment)
    turn.interrupt()
    await rest(turn)
    turn.close()
    assert len(ran) == (moment > 0 or policy == "complete")
    assert steps.nodes == ["a", "lookup", "a"][: len(steps.nodes)]
    check_invariants(conversation, current_agent="a")


async def test_a_transfer_that_led_back_to_an_agent_without_words_does_not_lead_on_again() -> None:
    graph, _, ran = looked_up("a", history=history.full())
    llm = ScriptedModel({"a": [call("find"), "", ""]})  # asked again
    done = await graph.compile().ainvoke(HELLO, {"configurable": {"llm": llm}})
    assert (done["active_agent"], ran, llm.agents) == ("a", ["lookup"], ["a", "a", "a"])


async def test_a_transfer_leads_straight_to_an_external_agent_and_the_front_end_is_given_its_context() -> None:
    llm = ScriptedModel({"a": [say(call("transfer_to_desk"))]})
    a = Agent("a", instructions="You are a.", handoffs=[Handoff("desk", history=history.full())])
    conversation, steps = call_of(create_voice_graph([a], llm=llm, external=["desk"]))
    seen = await play(conversation.turn("hello"))
    (handed,) = [e for e in seen if isinstance(e, events.HandedOff)]
    assert [m.text for m in handed.shown if m.text] == ["hello", "Transferring to desk."]
    assert steps.nodes == ["a", "desk"]
    check_invariants(conversation, current_agent="desk")


# ---- without a conversation


def thread(name: str = "1") -> Any:
    return {"configurable": {"thread_id": name}}


async def _past(graph: Any, *following: str) -> Any:
    (found,) = [s async for s in graph.aget_state_history(thread()) if s.next == following]
    return found


@pytest.mark.parametrize("wrote", ["a", "a_tools", None])
@pytest.mark.parametrize("asked", [say(call("transfer_to_b")), say(call("note"), call("transfer_to_b"))])
async def test_a_state_that_is_edited_behind_a_transfer_goes_on_to_its_target(asked: Any, wrote: str | None) -> None:
    llm = ScriptedModel({"a": [asked], "b": ["B here.", "B, again."]})
    a = Agent("a", instructions="A.", tools=[note], handoffs=[Handoff("b")])
    graph = create_voice_graph([a, Agent("b", instructions="B.")], llm=llm).compile(checkpointer=InMemorySaver())
    await graph.ainvoke(HELLO, thread())
    past = await _past(graph, "b")
    fork = await graph.aupdate_state(past.config, {"userdata": {"edited": True}}, as_node=wrote)
    assert (await graph.aget_state(fork)).next == ("b",)
    done = await graph.ainvoke(None, fork)
    assert (done["active_agent"], done["userdata"], done["messages"][-1].text) == ("b", {"edited": True}, "B, again.")
    after = await graph.aupdate_state(thread(), {"userdata": {"edited": 2}}, as_node="a")
    assert (await graph.aget_state(after)).next == (), "the transfer has led to b already"


async def test_a_tool_call_that_is_edited_into_the_state_is_run() -> None:
    graph, llm = office("Hello from a.")
    graph = graph.compile(checkpointer=InMemorySaver())
    done = await graph.ainvoke(HELLO, thread())
    asked = {"name": "transfer_to_b", "args": {}, "id": "edited"}
    said = done["messages"][-1].model_copy(update={"tool_calls": [asked]})
    fork = await graph.aupdate_state(thread(), {"messages": [said]}, as_node="a")
    done = await graph.ainvoke(None, fork)
    assert (done["active_agent"], llm.agents) == ("b", ["a", "b"])
    assert [m.tool_call_id for m in done["messages"] if isinstance(m, ToolMessage)] == ["edited"]


@pytest.mark.parametrize("stop", [{"interrupt_before": ["b"]}, {"interrupt_after": ["a"]}])
async def test_a_run_stops_between_a_transfer_and_its_target(stop: dict[str, Any]) -> None:
    graph, llm = office(say(call("transfer_to_b")))
    graph = graph.compile(checkpointer=InMemorySaver(), **stop)
    held = await graph.ainvoke(HELLO, thread())
    assert (await graph.aget_state(thread())).next == ("b",)
    assert [m.type for m in held["messages"]] == ["human", "ai", "tool"]
    done = await graph.ainvoke(None, thread())
    assert (done["active_agent"], llm.agents) == ("b", ["a", "b"])


async def test_on_exit_may_ask_and_no_model_is_asked_twice_for_that() -> None:
    async def on_exit(ctx: RunContext[Any]) -> None:
        ctx.userdata["why"] = interrupt("Why do you leave?")

    graph, llm = office(say(call("transfer_to_b")), on_exit=on_exit)
    graph = graph.compile(checkpointer=InMemorySaver())
    asked = await graph.ainvoke(HELLO, thread())
    assert [found.value for found in asked["__interrupt__"]] == ["Why do you leave?"]
    done = await graph.ainvoke(Command(resume="lunch"), thread())
    assert (done["userdata"], done["active_agent"], llm.agents) == ({"why": "lunch"}, "b", ["a", "b"])


# ---- the drawing


@st.composite
def companies(draw: st.DrawFn) -> list[Agent]:
    """Agents with transfers, tools that hand off, targets that no tool names, and agents without any of these."""
    names = ["a", "b", "c"]
    agents = []
    for name in names:
        others = [n for n in names if n != name]
        handoffs: list[Any] = [
            Handoff(to, name=f"{name}_to_{to}_{number}")
            for to in others
            for number in range(draw(st.integers(0, 2), label="transfers"))
        ]
        plain = draw(st.lists(st.sampled_from(others), unique=True), label="targets")
        tools = []
        for to in draw(st.lists(st.sampled_from(others), max_size=3), label="tools"):
            tools.append(_tool(f"{name}_tool_{len(tools)}", to if draw(st.booleans()) else None))
        plain += [to for to in others if any(to in tool.__graph_voice_tool__["handoffs"] for tool in tools)]
        bare = [Handoff(to, tool=False) for to in sorted(set(plain))]
        agents.append(Agent(name, instructions=name, handoffs=[*handoffs, *bare], tools=tools))
    return agents


@cache
def _tool(name: str, to: str | None) -> Any:
    @function_tool(name=name, handoffs=[to] if to else [])
    async def tool(ctx: RunContext[Any]) -> str:
        """Do something."""
        return "done"

    return tool


@pytest.mark.filterwarnings("ignore:agent .* can't be reached")
@settings(max_examples=25, deadline=None)
@given(companies())
def test_each_possible_handoff_is_drawn_once_where_it_leaves(agents: list[Agent]) -> None:
    drawn = create_voice_graph(agents).compile().get_graph()
    named: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in drawn.edges:
        for label in str(edge.data or "").split(", "):
            named[label.strip()].append((edge.source, edge.target))
    expected: dict[tuple[str, str], set[str]] = defaultdict(set)
    for agent in agents:
        taken = {transfer.handoff.to for transfer in agent.transfers}
        for transfer in agent.transfers:
            expected[agent.name, transfer.handoff.to].add(transfer.name)
        for tool in agent.own_tools:
            for to in getattr(tool, "handoffs", ()):
                expected[f"{agent.name}_tools", to].add(tool.name)
                taken.add(to)
        for to in agent.targets - taken:
            expected[f"{agent.name}_tools" if agent.own_tools else agent.name, to].add(f"handoff to {to}")
    ways = {(e.source, e.target): str(e.data) for e in drawn.edges if e.target in "abc" and e.source != "__start__"}
    back = {(f"{a.name}_tools", a.name): "None" for a in agents if a.all_tools}
    assert ways == back | {pair: ", ".join(_in_order(agents, names)) for pair, names in expected.items()}
    for agent in agents:
        for tool in agent.all_tools:
            assert len(named[tool.name]) == (len(tool.handoffs) if hasattr(tool, "handoffs") else 1)
    assert {e.source for e in drawn.edges if e.target == END} == {a.name for a in agents}


def _in_order(agents: list[Agent], names: set[str]) -> list[str]:
    known = [tool.name for agent in agents for tool in agent.all_tools]
    return sorted(names, key=lambda name: known.index(name) if name in known else -1)


async def test_a_transfer_may_be_named_as_a_node_of_the_graph() -> None:
    for name in ("a_tools", "a", "b", "__end__"):
        graph, _ = office(say(call(name)), to=Handoff("b", name=name))
        done = await graph.compile().ainvoke(HELLO)
        assert done["active_agent"] == "b"
        edges = {(e.source, e.target): str(e.data or "").strip() for e in graph.compile().get_graph().edges}
        assert edges["a", "b"] == ("" if name == "b" else name)
        assert ("a", "a_tools") in edges
        assert ("a", END) in edges
