"""What a conversation starts from, what it is told from outside, and what it gives back."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.store.memory import InMemoryStore
from turn_support import one_agent, play, rest, told, until

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


@dataclass
class Caller:
    name: str = ""
    visits: int = 0


@function_tool
async def visit(ctx: RunContext[Caller]) -> str:
    """Count."""
    ctx.userdata.visits += 1
    return f"{ctx.context} {ctx.store is not None}"


def shop(script: Any, **options: Any) -> Conversation[Caller]:
    graph = create_voice_graph(
        [Agent("a", instructions="A", tools=[visit], on_enter="Greet.")], userdata=Caller, llm=ScriptedModel(script)
    )
    return Conversation(graph, **options)


async def test_initial_userdata_messages_context_and_store_reach_the_turn() -> None:
    before = [HumanMessage("earlier"), AIMessage("yes")]
    conversation = shop(
        [say(call("visit")), "Hello."],
        userdata=Caller("Ann", 4),
        messages=before,
        context="the context",
        store=InMemoryStore(),
    )
    assert (conversation.userdata, told(conversation)) == (Caller("Ann", 4), ["human: earlier", "ai: yes"])
    await conversation.run("hi")
    assert conversation.userdata == Caller("Ann", 5)
    assert told(conversation)[2:] == ["human: hi", "ai:  +call_1", "tool: the context True", "ai: Hello."]


async def test_without_userdata_it_is_the_classes_default() -> None:
    conversation = shop(["Hello."])
    assert conversation.userdata == Caller()
    assert conversation.userdata is conversation.userdata


async def test_a_conversation_that_went_before_is_repaired() -> None:
    torn = [
        HumanMessage("hi"),
        AIMessage("", tool_calls=[{"id": "x", "name": "f", "args": {}}]),
        HumanMessage("hello?"),
        ToolMessage("lost", tool_call_id="y"),
    ]
    conversation = shop(["Hello."], messages=torn)
    check_invariants(conversation, said=["hi", "hello?"])


async def test_the_runs_config_names_the_model() -> None:
    graph = create_voice_graph([Agent("a", instructions="A")])
    conversation: Conversation[Any] = Conversation(graph, config={"configurable": {"llm": ScriptedModel(["Hello."])}})
    await conversation.run("hi")
    assert told(conversation) == ["human: hi", "ai: Hello."]


async def test_enter_greets_and_run_without_words_enters() -> None:
    conversation = shop(["Welcome.", "Welcome again."])
    await play(conversation.enter())
    await conversation.run()
    assert told(conversation) == ["ai: Welcome.", "ai: Welcome again."]


async def test_instructions_are_for_one_reply_and_never_stored() -> None:
    model = ScriptedModel(["The line is recorded.", "Hello."])
    conversation = one_agent(model)
    await conversation.run(instructions="Say that the line is recorded.")
    await conversation.run("hi")
    assert "Say that the line is recorded." in model.prompts[0].messages[-1].text
    assert all("Say that" not in m.text for m in model.prompts[1].messages)
    assert told(conversation) == ["ai: The line is recorded.", "human: hi", "ai: Hello."]


async def test_what_was_said_outside_a_turn_stands_where_it_happened() -> None:
    conversation = one_agent(["One.", "Two."])
    await play(conversation.turn("a"), at=10)
    await play(conversation.turn("b"), at=20)
    conversation.add(AIMessage("The shop closes soon."), at=15)
    conversation.add("plain words", at=16)
    assert told(conversation) == [
        "human: a",
        "ai: One.",
        "ai: The shop closes soon.",
        "human: plain words",
        "human: b",
        "ai: Two.",
    ]


async def test_userdata_from_outside_is_the_newest_also_while_a_turn_is_discarded() -> None:
    conversation = shop([say(call("visit")), "Two."])
    turn = conversation.turn("perhaps")
    conversation.update_userdata(Caller("Bob", 1))
    turn.discard()
    assert conversation.userdata == Caller("Bob", 1)
    await conversation.run("hi")
    assert conversation.userdata == Caller("Bob", 2)


async def test_the_front_end_learns_of_userdata_when_a_tools_node_is_done() -> None:
    conversation = shop([say(call("visit")), "Hello."])
    seen: list[Caller] = []
    conversation.call.on_userdata = lambda: seen.append(conversation.userdata)
    await conversation.run("hi")
    assert seen == [Caller("", 1)]


async def test_chat_ctx_is_what_the_active_agent_is_shown() -> None:
    agents = [Agent("a", instructions="A", handoffs=[Handoff("b")]), Agent("b", instructions="B")]
    model = ScriptedModel({"a": [say("One moment.", call("transfer_to_b"))], "b": ["B here."]})
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    await conversation.run("my secret")
    assert [m.text for m in conversation.chat_ctx] == ["B here."]
    assert told(conversation)[0] == "human: my secret"


async def test_writes_of_a_discarded_turn_leave_no_trace() -> None:
    agents = [Agent("a", instructions="A"), Agent("b", instructions="B", handoffs=[Handoff("a")])]
    model = ScriptedModel(["One.", "Two."])
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, start="b", llm=model))
    turn = conversation.turn("perhaps")
    await until(turn, events.Text)
    await rest(turn)
    assert turn.record.writes
    assert (conversation.state.get("active_agent"), conversation.messages) == (None, [])
    turn.discard()
    assert (conversation.state.get("active_agent"), conversation.active_agent) == (None, "b")


async def test_a_graph_serves_many_conversations_at_once() -> None:
    graph = create_voice_graph(
        [Agent("a", instructions="A", tools=[visit])],
        userdata=Caller,
        llm=ScriptedModel(lambda messages: "Hello." if messages[-1].type == "tool" else say(call("visit"))),
    ).compile()
    calls: list[Conversation[Caller]] = [Conversation(graph, userdata=Caller(f"n{n}")) for n in range(5)]
    await asyncio.gather(*(c.run(f"from {n}") for n, c in enumerate(calls)))
    for n, conversation in enumerate(calls):
        assert conversation.userdata == Caller(f"n{n}", 1)
        check_invariants(conversation, said=[f"from {n}"], heard=["Hello."])
