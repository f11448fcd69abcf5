"""Handoffs count when the front end says that the active agent has changed, and not before."""

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.types import Command
from turn_support import hear, rest, told, until

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    Turn,
    VoiceState,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.errors import TurnError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


@function_tool
async def note(ctx: RunContext[Any]) -> str:
    """Note."""
    ctx.userdata[str(ctx.tool_call_id)] = True
    return "noted"


def three(scripts: dict[str, Any]) -> Conversation[Any]:
    """Agents a, b, c, which may all hand off to each other."""
    agents = [
        Agent(n, instructions="Help.", tools=[note], handoffs=[Handoff(m) for m in "abc" if m != n]) for n in "abc"
    ]
    return Conversation(create_voice_graph(agents, llm=ScriptedModel(scripts)))


async def to_handoff(turn: Turn) -> events.HandedOff:
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            for asked in event.calls:
                turn.allow(asked.id)
        if isinstance(event, events.HandedOff):
            return event
    raise AssertionError("no handoff")


async def test_a_handoff_counts_once_it_is_confirmed() -> None:
    conversation = three({"a": [say(call("transfer_to_b"))], "b": ["B here."]})
    turn = conversation.turn("hi")
    event = await to_handoff(turn)
    assert (event.old_agent, event.new_agent) == ("a", "b")
    seen = await rest(turn)
    assert (conversation.active_agent, conversation.handoffs) == ("a", [])
    turn.confirm_handoff(event.call_id)
    turn.confirm_handoff(event.call_id)
    hear(turn, seen)
    turn.close()
    assert conversation.active_agent == "b"
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["b"]
    assert told(conversation) == ["human: hi", "ai:  +call_1", "tool: Transferring to b.", "ai: B here."]


async def test_a_rejected_handoff_is_undone_and_nothing_else() -> None:
    conversation = three({"a": [say(call("note"), call("transfer_to_b"))], "b": ["B here."]})
    before = conversation.state.get("chat_ctx")
    turn = conversation.turn("hi")
    event = await to_handoff(turn)
    await rest(turn)
    turn.reject_handoff(event.call_id, "the caller spoke")
    turn.reject_handoff(event.call_id, "again")
    turn.close()
    assert (conversation.active_agent, conversation.handoffs) == ("a", [])
    assert (conversation.state.get("chat_ctx") or None, conversation.state.get("contexts") or {}) == (before, {})
    assert conversation.userdata == {"call_1": True}
    assert told(conversation) == ["human: hi", "ai:  +call_1 +call_2", "tool: noted", "tool: the caller spoke"]
    check_invariants(conversation, current_agent="a")


class Counted(VoiceState):
    visits: Annotated[int, operator.add]


@tool
def visit(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Count a visit."""
    return Command(update={"visits": 1, "messages": [ToolMessage("counted", tool_call_id=call_id)]})


@pytest.mark.parametrize("visits", [0, 1, 2])
async def test_a_rejected_handoff_is_undone_whatever_its_batch_has_written_twice(visits: int) -> None:
    """LangGraph then gives the update of the node channel by channel."""
    model = ScriptedModel({"a": [say(*[call("visit")] * visits, call("transfer_to_b"))], "b": ["B here."]})
    agents = [Agent("a", instructions="A", tools=[visit], handoffs=[Handoff("b")]), Agent("b", instructions="B")]
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model, state_schema=Counted))
    turn = conversation.turn("hi")
    turn.reject_handoff((await to_handoff(turn)).call_id, "no")
    await rest(turn)
    turn.close()
    assert conversation.state.get("visits", 0) == visits
    assert (conversation.state.get("chat_ctx"), conversation.state.get("contexts") or {}) == (None, {})
    check_invariants(conversation, current_agent="a")


async def test_a_chain_in_one_turn_keeps_what_was_confirmed() -> None:
    @function_tool(handoffs=["c"])
    async def on(ctx: RunContext[Any]) -> Any:
        """On."""
        ctx.userdata["on"] = True
        return ctx.handoff("c")

    agents = [
        Agent("a", instructions="A", handoffs=[Handoff("b")]),
        Agent("b", instructions="B", tools=[on], handoffs=[Handoff("c", tool=False)]),
        Agent("c", instructions="C"),
    ]
    model = ScriptedModel({"a": [say(call("transfer_to_b"))], "b": [say(call("on"))], "c": ["C."]})
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    turn = conversation.turn("hi")
    turn.confirm_handoff((await to_handoff(turn)).call_id)
    second = await to_handoff(turn)
    turn.reject_handoff(second.call_id, "no")
    await rest(turn)
    turn.close()
    assert conversation.active_agent == "b"
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["b"]
    assert conversation.userdata == {"on": True}
    assert told(conversation)[-2:] == ["ai:  +call_2", "tool: The transfer did not take place."]


async def test_a_decision_is_final() -> None:
    conversation = three({"a": [say(call("transfer_to_b")), say(call("transfer_to_b"))], "b": ["B."]})
    turn = conversation.turn("hi")
    event = await to_handoff(turn)
    turn.confirm_handoff(event.call_id)
    with pytest.raises(TurnError, match="was confirmed"):
        turn.reject_handoff(event.call_id, "no")
    await rest(turn)
    turn.close()
    await conversation.update_agent("a")
    turn = conversation.turn("again")
    event = await to_handoff(turn)
    turn.reject_handoff(event.call_id, "no")
    with pytest.raises(TurnError, match="was rejected"):
        turn.confirm_handoff(event.call_id)
    with pytest.raises(TurnError, match="made no such tool call"):
        turn.confirm_handoff("nobody")
    await rest(turn)
    turn.close()
    check_invariants(conversation, current_agent="a")


async def test_a_handoff_that_nobody_confirms_did_not_happen() -> None:
    conversation = three({"a": [say(call("transfer_to_b"))], "b": ["B."]})
    turn = conversation.turn("hi")
    await to_handoff(turn)
    await rest(turn)
    turn.close()
    assert conversation.active_agent == "a"
    assert told(conversation)[-1] == "tool: not done: the transfer did not take place."


async def test_the_late_rejection_of_an_older_turns_handoff_leaves_the_newer_turn_alone() -> None:
    conversation = three({"a": [say(call("transfer_to_b")), say(call("transfer_to_c"))], "b": ["B."], "c": ["C here."]})
    old = conversation.turn("to b")
    first = await to_handoff(old)
    old.interrupt()
    new = conversation.turn("no, to c")
    second = await to_handoff(new)
    new.confirm_handoff(second.call_id)
    old.reject_handoff(first.call_id, "the caller spoke")
    hear(new, await rest(new))
    old.close()
    new.close()
    assert told(conversation)[-1] == "ai: C here."
    check_invariants(conversation, current_agent="c")
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["c"]


async def test_the_handoff_that_is_confirmed_last_has_the_floor() -> None:
    conversation = three({"a": [say(call("transfer_to_b")), say(call("transfer_to_c"))], "b": ["B."], "c": ["C."]})
    old, new = conversation.turn("to b"), None
    first = await to_handoff(old)
    new = conversation.turn("to c")
    second = await to_handoff(new)
    await rest(old)
    await rest(new)
    new.confirm_handoff(second.call_id)
    old.confirm_handoff(first.call_id)
    old.close()
    new.close()
    check_invariants(conversation, current_agent="b")
    assert conversation.state["chat_ctx"].get("entering") is None


async def test_a_handoff_is_from_the_agent_that_had_the_floor() -> None:
    """Another turn may have moved the floor between a transfer's call and its confirmation."""
    conversation = three({"a": [say(call("transfer_to_b")), say(call("transfer_to_c"))], "b": ["B."], "c": ["C."]})
    one, other = conversation.turn("to b"), conversation.turn("to c")
    to_b, to_c = await to_handoff(one), await to_handoff(other)
    assert (to_b.old_agent, to_c.old_agent) == ("a", "a")
    other.confirm_handoff(to_c.call_id)
    one.confirm_handoff(to_b.call_id)
    await rest(one)
    await rest(other)
    await conversation.update_agent("a")
    assert [(h["old_agent_id"], h["new_agent_id"]) for h in conversation.handoffs] == [
        ("a", "c"),
        ("c", "b"),
        ("b", "a"),
    ]


async def test_update_agent_outlives_what_the_old_agents_turn_writes_later() -> None:
    @function_tool
    async def slow(ctx: RunContext[Any]) -> str:
        """Slow."""
        await asyncio.sleep(2)
        ctx.userdata["slow"] = True
        return "done"

    agents = [Agent("a", instructions="A", tools=[slow]), Agent("b", instructions="B")]
    with pytest.warns(UserWarning, match="can't be reached"):
        graph = create_voice_graph(agents, llm=ScriptedModel({"a": [say(call("slow")), "Done."], "b": ["B here."]}))
    conversation: Conversation[Any] = Conversation(graph)
    turn = conversation.turn("hi")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    await asyncio.sleep(1)
    await conversation.update_agent("b")
    assert conversation.active_agent == "b"
    await rest(turn)
    turn.close()
    assert (conversation.active_agent, conversation.userdata) == ("b", {"slow": True})
    seen = await conversation.run("hello")
    assert {e.agent for e in seen if isinstance(e, events.Text)} == {"b"}


async def test_an_agent_that_the_program_has_moved_on_from_does_not_enter() -> None:
    entered: list[str] = []

    async def enter(ctx: RunContext[Any]) -> None:
        entered.append(ctx.agent)

    async def leave(ctx: RunContext[Any]) -> None:
        await asyncio.sleep(3)

    agents = [
        Agent("a", instructions="A", handoffs=[Handoff("b", on_interruption="complete")], on_exit=leave),
        Agent("b", instructions="B", on_enter=enter),
        Agent("c", instructions="C", on_enter=enter),
    ]
    with pytest.warns(UserWarning, match="can't be reached"):
        graph = create_voice_graph(agents, llm=ScriptedModel({"a": [say(call("transfer_to_b"))], "c": ["C here."]}))
    conversation: Conversation[Any] = Conversation(graph)
    turn = conversation.turn("to b")
    handoff = await to_handoff(turn)
    turn.confirm_handoff(handoff.call_id)
    await conversation.update_agent("c")  # while the old agent still leaves
    await rest(turn)
    turn.close()
    assert (entered, conversation.active_agent) == ([], "c")
    await rest(conversation.enter())
    assert entered == ["c"]


class Silent(Agent):
    async def on_enter(self, ctx: RunContext[Any]) -> None:
        """Enter without a word."""


async def test_what_nobody_has_answered_is_answered_by_the_agent_that_update_agent_names() -> None:
    """LiveKit's `update_agent` may come while the caller waits: an agent that enters silently answers too."""
    agents = [Agent("a", instructions="A"), Silent("b", instructions="B")]
    model = ScriptedModel({"a": ["A is here.", "A again."], "b": ["B answers."]})
    with pytest.warns(UserWarning, match="can't be reached"):
        conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    await conversation.run("hello")
    waits = conversation.turn("are you there?")
    waits.commit()
    waits.interrupt()
    await rest(waits)
    waits.close()
    await conversation.update_agent("b")
    seen = await rest(turn := conversation.enter())
    hear(turn, seen)
    turn.close()
    (asked,) = (prompt for prompt in model.prompts if prompt.agent == "b")
    assert [m.text for m in asked.messages if m.type == "human"] == ["are you there?"]
    assert conversation.messages[-1].text == "B answers."


@pytest.mark.parametrize("history_of_it", [history.fresh(), None])
async def test_what_was_answered_stays_behind_with_update_agent(history_of_it: Any) -> None:
    agents = [Agent("a", instructions="A"), Silent("b", instructions="B")]
    model = ScriptedModel({"a": ["A is here."], "b": ["B answers."]})
    with pytest.warns(UserWarning, match="can't be reached"):
        conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    await conversation.run("hello")
    await conversation.update_agent("b", history_of_it)
    await rest(turn := conversation.enter())
    turn.close()
    assert "b" not in model.agents
    assert conversation.messages[-1].text == "A is here."


async def test_update_agent_survives_the_discard_of_a_live_turn() -> None:
    conversation = three({"a": ["A."], "b": ["B."]})
    turn = conversation.turn("perhaps")
    await conversation.update_agent("b")
    turn.discard()
    assert conversation.active_agent == "b"
    with pytest.raises(TurnError, match=r'update_agent\("nobody"\): the agents are a, b, c'):
        await conversation.update_agent("nobody")


@pytest.mark.parametrize(
    "policy",
    [
        history.fresh(),
        history.full(),
        history.exclude_tool_calls(),
        history.exclude_tool_calls() | history.last_turns(1),
    ],
    ids=str,
)
async def test_the_new_agent_says_its_first_words_whatever_the_policy_carries(policy: history.Operation) -> None:
    model = ScriptedModel([call("transfer_to_b"), "B here."])
    a = Agent("a", instructions="Help.", handoffs=[Handoff("b", history=policy)])
    b = Agent("b", instructions="Bills.", on_enter="Say who you are.")
    conversation = Conversation(create_voice_graph([a, b], llm=model))
    await conversation.run("My bill, please.")
    assert "Say who you are." in model.prompts[1].messages[-1].text


class Audited(VoiceState):
    audit: Annotated[list[str], operator.add]


@pytest.mark.parametrize("happens", [True, False])
async def test_what_a_node_writes_behind_a_handoff_counts_when_the_handoff_has_happened(happens: bool) -> None:
    agents = [Agent("a", instructions="A", handoffs=[Handoff("b")]), Agent("b", instructions="B")]
    model = ScriptedModel({"a": [say(call("transfer_to_b"))], "b": ["B here."]})
    graph = create_voice_graph(agents, llm=model, state_schema=Audited)

    async def note(state: Any) -> dict[str, Any]:
        return {"audit": ["noted"]}

    graph.add_node("note", note, metadata={"speculative": True})
    graph.add_edge("b", "note")
    conversation: Conversation[Any] = Conversation(graph)
    turn = conversation.turn("b, please")
    handed = await to_handoff(turn)
    await rest(turn)
    assert not conversation.state.get("audit"), "nobody knows yet whether the handoff happens"
    if happens:
        turn.confirm_handoff(handed.call_id)
    else:
        turn.reject_handoff(handed.call_id, "no")
    turn.close()
    assert (conversation.state.get("audit") or []) == (["noted"] if happens else [])
    assert conversation.active_agent == ("b" if happens else "a")
