"""LangGraph's `interrupt()` while another question is open: it is asked when that one is answered, and none is lost."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import interrupt
from turn_support import play, told

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool
from graph_voice.errors import ThreadTakenError
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import Call, ScriptedModel, call
from graph_voice.testing.invariants import check_invariants


class Desk:
    """A graph in which a tool asks, and a custom node to which the agent passes the caller."""

    def __init__(self, *, custom: bool = True) -> None:
        self.acted: list[tuple[str, str]] = []
        self.answered: list[str] = []
        self._moved, self._custom = 0, custom

        @function_tool
        async def pay(ctx: RunContext[Any], amount: int) -> str:
            """Pay."""
            answer = interrupt(f"Really pay {amount}?")
            self.acted.append((str(ctx.tool_call_id), answer))
            return f"paid {amount}: {answer}"

        def check(state: dict[str, Any]) -> dict[str, Any]:
            self.answered.append(interrupt("Which language?"))
            return {"messages": [AIMessage(f"Then in {self.answered[-1]}")]}

        ways = [Handoff("check", "Ask for the language.")] if custom else []
        agent = Agent("desk", instructions="D.", tools=[pay], handoffs=ways)
        builder = create_voice_graph([agent], llm=ScriptedModel(self._reply))
        if custom:
            builder.add_node("check", check, metadata={"speak": True})
        self.graph = builder.compile()

    def _reply(self, messages: list[AnyMessage]) -> Any:
        last = messages[-1]
        if last.type == "tool":
            return f"Done, {last.text}."
        amount = next((word for word in last.text.split() if word.isdigit()), None)
        if "pay" in last.text and amount is not None:
            return call("pay", {"amount": int(amount)}, id=f"call-{amount}")
        self._moved += 1
        moves = self._custom and "node" in last.text
        return call("transfer_to_check", id=f"move-{self._moved}") if moves else "I see."


def still_running(messages: list[AnyMessage]) -> list[str]:
    return [m.tool_call_id for m in messages if isinstance(m, ToolMessage) and m.text == RUNNING]


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("second", ["a tool", "a node"])
async def test_a_second_question_is_asked_when_the_first_is_answered(front_end: str, second: str) -> None:
    desk = Desk()
    async with Call(desk.graph, front_end=front_end) as phone:
        assert (await phone.says("Please pay 1 now.")).heard == "Really pay 1?"
        silent = await phone.generate_reply("Now pay 2 please." if second == "a tool" else "Go to the node.")
        assert "Really" not in silent.heard
        assert "language" not in silent.heard
        assert len(phone.conversation.interrupts) == 2
        after = await phone.says("Yes.")
        question = "Really pay 2?" if second == "a tool" else "Which language?"
        assert after.heard == f"Done, paid 1: Yes.. {question}"
        last = await phone.says("French.")
        assert last.heard == ("Done, paid 2: French.." if second == "a tool" else "Then in French.")
        assert phone.conversation.interrupts == ()
        assert still_running(phone.messages) == []
        assert (await phone.says("Thanks.")).heard == "I see."
    acted = [("call-1", "Yes."), *([("call-2", "French.")] if second == "a tool" else [])]
    assert (desk.acted, desk.answered) == (acted, [] if second == "a tool" else ["French."])


async def test_two_turns_that_ask_at_the_same_time_are_answered_one_after_the_other() -> None:
    desk = Desk()
    conversation = Conversation(desk.graph)
    turns = [conversation.turn("pay 1"), conversation.turn("pay 2")]
    await asyncio.gather(*map(play, turns))
    assert [i.value for i in conversation.interrupts] == ["Really pay 1?", "Really pay 2?"]
    await conversation.run("yes")
    await conversation.run("no")
    assert desk.acted == [("call-1", "yes"), ("call-2", "no")]
    assert conversation.interrupts == ()
    check_invariants(conversation, said=["pay 1", "pay 2", "yes", "no"])


async def test_words_that_cut_off_the_answer_are_no_answer_to_a_question_that_nobody_heard() -> None:
    desk = Desk()
    conversation = Conversation(desk.graph)
    await conversation.run("pay 1")
    await conversation.run(instructions="pay 2")
    turn = conversation.turn("yes")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.Text):
            turn.heard(event.message_id, "Done,")
            turn.interrupt()
    turn.close()
    assert conversation.interrupts == ()
    await conversation.run("Are you there?")
    assert told(conversation)[-2:] == ["ai: I see.", "ai: Really pay 2?"]
    assert [i.value for i in conversation.interrupts] == ["Really pay 2?"]
    await conversation.run("no")
    assert desk.acted == [("call-1", "yes"), ("call-2", "no")]


async def test_a_turn_that_is_cut_off_before_its_answer_is_taken_leaves_the_question_open() -> None:
    desk = Desk()
    conversation = Conversation(desk.graph)
    await conversation.run("pay 1")
    turn = conversation.turn("yes")
    turn.commit()
    turn.interrupt()
    async for _ in turn:
        pass
    turn.close()
    assert [i.value for i in conversation.interrupts] == ["Really pay 1?"]
    await conversation.run("no, wait")
    assert desk.acted == [("call-1", "no, wait")]
    assert still_running(conversation.messages) == []
    check_invariants(conversation, said=["pay 1", "yes", "no, wait"])


ACTS = st.lists(
    st.sampled_from(["pay", "answer", "instruct pay", "instruct node", "instruct", "together", "cut off", "node"]),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60, deadline=None)
@given(ACTS, st.booleans(), st.booleans())
def test_whatever_is_asked_is_asked_and_answered_and_acts_once(acts: list[str], stored: bool, custom: bool) -> None:
    asyncio.run(_asked_and_answered(acts, stored, Desk(custom=custom)))


async def _asked_and_answered(acts: list[str], stored: bool, desk: Desk) -> None:
    number, said = 0, list[str]()
    saver = InMemorySaver() if stored else None
    conversation = Conversation(desk.graph, thread_id="t", saver=saver)
    await conversation.open()

    async def says(text: str) -> None:
        said.append(text)
        await conversation.run(text)

    for act in acts:
        number += 1
        if act in ("pay", "answer", "node"):
            await says({"pay": f"pay {number}", "answer": f"yes {number}", "node": f"node {number}"}[act])
        elif act == "together":
            said += [f"pay {number}", f"pay {number + 1}"]
            turns = [conversation.turn(text) for text in said[-2:]]
            await asyncio.gather(*map(play, turns))
            number += 1
        elif act == "cut off":
            said.append(f"hello {number}")
            turn = conversation.turn(said[-1])
            turn.commit()
            turn.interrupt()
            async for _ in turn:
                pass
            turn.close()
        else:
            await conversation.run(instructions=f"{act} {number}")
    for _ in range(30):
        number += 1
        await says(f"well {number}")
        if not conversation.interrupts:
            break
    check_invariants(conversation, said=said)
    assert still_running(conversation.messages) == []
    assert max(Counter(call_id for call_id, _ in desk.acted).values(), default=1) == 1
    asked = [c["id"] for m in conversation.messages if isinstance(m, AIMessage) for c in m.tool_calls]
    acted = {call_id for call_id, _ in desk.acted}
    for result in (m for m in conversation.messages if isinstance(m, ToolMessage)):
        assert (result.tool_call_id in acted) == result.text.startswith("paid"), result
    assert len(asked) == len(set(asked))
    await conversation.aclose()
    if saver is not None:
        async with Conversation(desk.graph, thread_id="t", saver=saver) as again:
            assert [(m.id, m.text) for m in again.messages] == [(m.id, m.text) for m in conversation.messages]


@pytest.mark.parametrize("answered", [0, 1])
async def test_another_process_asks_the_open_question_and_says_what_became_of_the_other(
    answered: int, tmp_path: Path
) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "calls.db")) as saver:
        desk = Desk()
        first = await Conversation(desk.graph, thread_id="t", saver=saver).open()
        await first.run("pay 1")
        await first.run(instructions="pay 2")
        if answered:
            await first.run("yes")
        await first.flush(5)
        await first.abandon() if hasattr(first, "abandon") else await first.call.abandon()
        again = Desk()
        async with Conversation(again.graph, thread_id="t", saver=saver) as second:
            assert [i.value for i in second.interrupts] == [f"Really pay {answered + 1}?"]
            await second.run("yes")
            assert again.acted == [(f"call-{answered + 1}", "yes")]
            assert still_running(second.messages) == []
            if not answered:
                assert second.resumed is not None
                assert second.resumed.unknown == ("pay",)
            await second.run("thanks")
            await second.flush(5)
        async with Conversation(again.graph, thread_id="t", saver=saver) as third:
            assert [(m.id, m.text) for m in third.messages] == [(m.id, m.text) for m in second.messages]


async def test_a_run_that_asked_before_newer_ones_waits_in_the_store_too_and_its_tool_call_does_not_run_for_ever() -> (
    None
):
    """The head of a thread is its newest checkpoint, so it says where the older run is that still waits."""

    @function_tool
    async def plan(ctx: RunContext[Any]) -> str:
        """Plan."""
        return f"planned {interrupt('Which day?')} at {interrupt('What time?')}"

    @function_tool
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        return f"paid {interrupt('Really?')}"

    def reply(messages: list[AnyMessage]) -> Any:
        last = messages[-1]
        wanted = {"plan": call("plan", id="p"), "pay": call("pay", id="q")}
        return next((made for word, made in wanted.items() if last.type == "human" and word in last.text), "Done.")

    graph = create_voice_graph([Agent("a", instructions="A.", tools=[plan, pay])], llm=ScriptedModel(reply))
    saver = InMemorySaver()
    first = await Conversation(graph, thread_id="t", saver=saver).open()
    await first.run("plan")
    await first.run(instructions="pay")
    await first.run("Friday")
    await first.flush(5)
    assert [i.value for i in first.interrupts] == ["What time?", "Really?"]
    await first.run("noon")
    await first.flush(5)
    assert [i.value for i in first.interrupts] == ["Really?"]
    async with Conversation(graph, thread_id="t", saver=saver) as second:
        assert [m.text for m in second.messages if m.type == "human"] == ["plan", "Friday", "noon"]
        assert [i.value for i in second.interrupts] == ["Really?"]
        await second.run("go on")
        assert still_running(second.messages) == []
        assert "tool: paid go on" in told(second)
    await first.run("yes")
    assert told(first)[-1] == "ai: Done."
    with pytest.raises(ThreadTakenError):
        await first.aclose()
