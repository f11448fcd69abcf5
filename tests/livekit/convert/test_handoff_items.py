"""Handoffs are items of LiveKit's chat context, so that its judges see them: each once, where it happened."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from livekit.agents import evals
from native_support import LiveKitModel

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit.convert.converters import from_chat_context, to_chat_context

pytestmark = pytest.mark.virtual_clock


def kinds(messages: list[AnyMessage], handoffs: Any = None) -> list[str]:
    """Who speaks or acts in LiveKit's context, in its order."""
    context = to_chat_context(messages, handoffs)
    assert [item.created_at for item in context.items] == sorted(item.created_at for item in context.items)
    named = {
        "message": lambda item: f"{item.role}: {item.text_content}",
        "agent_handoff": lambda item: f"{item.old_agent_id} -> {item.new_agent_id}",
    }
    return [named.get(item.type, lambda item: item.type)(item) for item in context.items]


@function_tool
async def pass_on(ctx: RunContext[Any]) -> Handoff:
    """Pass on."""
    return ctx.handoff("b", "Done.")


@pytest.mark.parametrize("tool", ["transfer_to_b", "pass_on"])
@pytest.mark.parametrize("known", [True, False])
async def test_a_handoff_stands_behind_the_tool_that_made_it(tool: str, known: bool) -> None:
    members = [Agent("a", instructions="A.", tools=[pass_on], handoffs=["b"]), Agent("b", instructions="B.")]
    llm = ScriptedModel({"a": [call(tool)], "b": ["B here."]})
    conversation = Conversation(create_voice_graph(members, llm=llm))
    await conversation.run("go")
    shown = kinds(conversation.messages, conversation.handoffs if known else None)
    assert shown == ["user: go", "function_call", "function_call_output", "a -> b", "assistant: B here."]
    assert not any(isinstance(m, Handoff) for m in from_chat_context(to_chat_context(conversation.messages)))


async def test_a_handoff_of_the_program_stands_before_the_new_agents_words() -> None:
    members = [Agent(n, instructions=n, handoffs=[Handoff("b" if n == "a" else "a", tool=False)]) for n in "ab"]
    conversation = Conversation(create_voice_graph(members, llm=ScriptedModel(lambda ms: "Hello.")))
    await conversation.run("one")
    await conversation.update_agent("b")
    await conversation.run("two")
    await conversation.update_agent("a")
    shown = kinds(conversation.messages, conversation.handoffs)
    assert shown == ["user: one", "assistant: Hello.", "user: two", "a -> b", "assistant: Hello.", "b -> a"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "user"]), st.booleans()), max_size=12))
def test_every_handoff_is_there_once_and_in_order(visits: list[tuple[str, bool]]) -> None:
    messages: list[AnyMessage] = []
    handoffs: list[Any] = []
    active = "a"
    for number, (who, speaks) in enumerate(visits):
        if who != "user" and who != active:
            record = {"old_agent_id": active, "new_agent_id": who, "tool_call_id": None, "created_at": float(number)}
            handoffs.append(record)
            active = who
        if speaks:
            said = HumanMessage(f"{number}", id=f"{number}")
            messages.append(said if who == "user" else AIMessage(f"{number}", id=f"{number}", name=who))
    items = to_chat_context(messages, handoffs).items
    found = [(i.old_agent_id, i.new_agent_id) for i in items if i.type == "agent_handoff"]
    assert found == [(h["old_agent_id"], h["new_agent_id"]) for h in handoffs]
    assert len({item.id for item in items}) == len(items)
    now = "a"
    names = {m.id: m.name for m in messages}
    for item in items:  # each agent speaks when it is the active one
        if item.type == "agent_handoff":
            now = item.new_agent_id
        elif item.type == "message" and item.role == "assistant":
            assert names[item.id] == now


async def test_livekits_judge_of_handoffs_sees_them() -> None:
    members = [Agent("a", instructions="A.", handoffs=["b"]), Agent("b", instructions="B.")]
    llm = ScriptedModel({"a": [call("transfer_to_b")], "b": ["B here."]})
    conversation = Conversation(create_voice_graph(members, llm=llm))
    await conversation.run("go")
    judge = LiveKitModel([call("submit_verdict", {"verdict": "pass", "reasoning": "well done"})])
    await evals.handoff_judge(llm=judge).evaluate(chat_ctx=to_chat_context(conversation.messages))
    assert "[agent handoff: a -> b]" in str([m.text_content for ctx in judge.shown for m in ctx.items])
