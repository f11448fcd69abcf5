"""The caller interrupts a handoff: it is cancelled or completed as declared, and never half."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from turn_support import play, told

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock

LINE = "I'm transferring you to billing now."


def desk(policy: Any, *, on_exit: Any = None, delay: float = 0.0) -> Conversation[Any]:
    @function_tool(handoffs=["billing"])
    async def pass_on(ctx: RunContext[Any]) -> Any:
        """Pass the caller on."""
        await asyncio.sleep(delay)
        return ctx.handoff("billing", on_interruption=policy, say=LINE)

    model = ScriptedModel(
        {
            "support": [("bill", say("Sure.", call("pass_on"), per_token=0.1)), ("", "I stay with you.")],
            "billing": [("wait", "Billing is here."), ("", say("Billing speaking.", first_token=0.3, per_token=0.1))],
        }
    )
    agents = [
        Agent("support", instructions="S", tools=[pass_on], handoffs=[Handoff("billing", tool=False)], on_exit=on_exit),
        Agent("billing", instructions="B.", on_enter="Greet."),
    ]
    return Conversation(create_voice_graph(agents, llm=model))


async def interrupted(conversation: Conversation[Any], moment: float, seen: list[events.Event] | None = None) -> bool:
    """A turn that the caller interrupts after so many seconds. Returns whether the floor changed in the front end."""
    turn = conversation.turn("my bill")
    turn.commit()
    changed = False
    heard: dict[str, str] = {}

    async def front_end() -> None:
        nonlocal changed
        async for event in turn:
            if seen is not None:
                seen.append(event)
            match event:
                case events.ToolCalls(calls=calls):
                    for asked in calls:
                        turn.allow(asked.id)
                case events.HandedOff(call_id=call_id, on_interruption=policy):
                    await asyncio.sleep(0.2)  # while the line is played
                    if turn.interrupted and policy == "cancel":
                        turn.reject_handoff(call_id, "the caller interrupted")
                    elif not turn.state.is_over:
                        turn.confirm_handoff(call_id)
                        changed = True
                case events.Text(message_id=message_id, text=text) | events.Say(message_id=message_id, text=text):
                    if not turn.interrupted:
                        heard[message_id] = heard.get(message_id, "") + text

    front = asyncio.create_task(front_end())
    await asyncio.sleep(moment)
    turn.interrupt()
    for message_id, text in heard.items():
        turn.heard(message_id, text)
    await front
    turn.close()
    return changed


@pytest.mark.parametrize("policy", ["complete", "cancel"])
@pytest.mark.parametrize("delay", [0.0, 0.5])
@pytest.mark.parametrize("moment", [round(0.01 + 0.07 * n, 2) for n in range(22)])
async def test_at_any_moment_the_transfer_happens_whole_or_not_at_all(moment: float, delay: float, policy: str) -> None:
    left: list[str] = []
    conversation = desk(policy, delay=delay, on_exit=lambda ctx: left.append(ctx.agent))
    changed = await interrupted(conversation, moment)
    floor = "billing" if changed else "support"
    check_invariants(conversation, current_agent=floor)
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["billing"] * changed
    marks = [m for m in conversation.messages if isinstance(m, ToolMessage) and m.artifact is not None]
    assert len(marks) == changed
    assert left == ["support"] * changed
    await play(conversation.turn("no wait"))
    replies = [m for m in conversation.messages if isinstance(m, AIMessage)]
    assert (replies[-1].name, replies[-1].text) == (floor, "Billing is here." if changed else "I stay with you.")
    check_invariants(conversation, current_agent=floor, said=["my bill", "no wait"])


async def test_a_transfer_that_completes_is_not_announced_any_more_once_the_caller_speaks() -> None:
    conversation = desk("complete", delay=1.0)
    seen: list[events.Event] = []
    assert await interrupted(conversation, 0.6, seen)
    assert not [event for event in seen if isinstance(event, events.Say)]
    assert told(conversation) == ["human: my bill", "ai: Sure. +call_1", "tool: Transferring to billing."]


async def test_a_tool_that_decides_after_the_turn_was_closed_transfers_nobody() -> None:
    conversation = desk("complete", delay=1.0)
    turn = conversation.turn("my bill")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            turn.allow("call_1")
            break
    await asyncio.sleep(0.5)
    turn.interrupt()
    turn.close()
    await turn.wait_finished()
    assert (
        told(conversation)[-1] == "tool: The transfer did not take place: the caller interrupted before the transfer."
    )
    check_invariants(conversation, current_agent="support")


def test_another_policy_is_refused() -> None:
    with pytest.raises(BuildError, match=r'Handoff\("b", on_interruption=\'always\'\): write "cancel" or "complete"'):
        Handoff("b", on_interruption="always")  # type: ignore[arg-type]
