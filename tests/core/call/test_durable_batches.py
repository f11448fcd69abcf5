"""A process that ends while calls of several batches run, or in the middle of one: what another process makes of it."""

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from turn_support import told, until

from graph_voice import Agent, Conversation, RunContext, Turn, create_voice_graph, events, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice.testing.severed import SeverableSaver

pytestmark = pytest.mark.virtual_clock


@function_tool
async def quick(ctx: RunContext[Any]) -> str:
    """Done at once."""
    ctx.userdata["quick"] = ctx.tool_call_id
    return "quick done"


@function_tool
async def slow(ctx: RunContext[Any]) -> str:
    """Take ten minutes."""
    await asyncio.sleep(600)
    ctx.userdata["slow"] = ctx.tool_call_id
    return "slow done"


@function_tool(idempotent=True)
async def repeatable(ctx: RunContext[Any]) -> str:
    """Take ten minutes the first time."""
    if not repeated:
        repeated.append("")
        await asyncio.sleep(600)
    repeated.append(str(ctx.tool_call_id))
    return "repeated"


@function_tool
async def book() -> str:
    """Ask first."""
    return f"booked: {interrupt('Really?')}"


repeated: list[str] = []


@pytest.fixture(autouse=True)
def nothing_was_repeated() -> None:
    repeated.clear()


class Process:
    """One process of the call; `end` is the end of it, in the middle of whatever it does."""

    def __init__(self, store: InMemorySaver, *script: Any) -> None:
        self.line = SeverableSaver(store)
        agent = Agent("host", instructions="Host.", tools=[quick, slow, repeatable, book])
        graph = create_voice_graph([agent], llm=ScriptedModel(list(script)))
        self.conversation: Conversation[Any] = Conversation(graph, thread_id="call", saver=self.line)

    async def begins(self, text: str) -> Turn:
        """A turn whose calls are allowed to run."""
        turn = self.conversation.turn(text)
        turn.commit()
        for asked in (await until(turn, events.ToolCalls)).calls:
            turn.allow(asked.id)
        return turn

    async def end(self) -> None:
        await asyncio.sleep(1)
        self.line.sever()
        await self.conversation.call.abandon()


async def test_a_call_that_is_answered_is_remembered_with_what_it_changed() -> None:
    store = InMemorySaver()
    first = Process(store, say(call("quick", id="q"), call("slow", id="s")))
    await first.conversation.open()
    await first.begins("both")
    await asyncio.sleep(1)
    assert told(first.conversation)[-2:] == ["tool: quick done", "tool: The tool call is still in progress."]
    assert first.conversation.userdata == {"quick": "q"}
    await first.end()
    second = Process(store).conversation
    await second.open()
    assert told(second)[2] == "tool: quick done"
    assert second.userdata == {"quick": "q"}
    await second.aclose()


async def test_what_the_batch_writes_in_the_end_takes_the_place_of_what_was_written_on_the_way() -> None:
    first = Process(InMemorySaver(), say(call("quick", id="q"), call("slow", id="s")), "Done.")
    await first.conversation.open()
    turn = await first.begins("both")
    await asyncio.sleep(1)
    first.conversation.update_userdata({"from": "outside"})
    await asyncio.sleep(600)
    assert first.conversation.userdata == {"from": "outside", "quick": "q", "slow": "s"}
    assert turn.record.drafts == {}
    await first.conversation.aclose()


async def test_each_batch_that_was_running_is_taken_up_not_only_the_last() -> None:
    store = InMemorySaver()
    first = Process(store, say(call("slow", id="s1")), say(call("repeatable", id="r"), call("slow", id="s2")))
    await first.conversation.open()
    turn = await first.begins("one")
    await asyncio.sleep(1)
    turn.interrupt()
    await first.begins("other")
    await first.end()
    process = Process(store, "I am back.")
    second = process.conversation
    await second.open()
    assert second.resumed is not None
    assert (second.resumed.again, second.resumed.unknown) == (("repeatable",), ("slow", "slow"))
    await second.run(turn=second.resume())
    assert repeated == ["", "r"]
    unknown = "tool: The tool call was stopped before it ended; whether it took effect is unknown."
    assert told(second) == [
        "human: one",
        "ai:  +s1",
        unknown,
        "human: other",
        "ai:  +r +s2",
        "tool: repeated",
        unknown,
        "ai: I am back.",
    ]
    check_invariants(second)
    await second.aclose()


async def test_a_question_waits_on_beside_a_later_batch_that_was_running() -> None:
    store = InMemorySaver()
    first = Process(store, say(call("book", id="b")), say(call("slow", id="s")))
    await first.conversation.open()
    asking = await first.begins("book it")
    question = await until(asking, events.Interrupt)
    asking.heard(question.message_id, "Really?")
    asking.close()
    turn = first.conversation.turn(instructions="Look for something meanwhile.")
    for asked in (await until(turn, events.ToolCalls)).calls:
        turn.allow(asked.id)
    await first.end()
    process = Process(store, "It is booked.")
    second = process.conversation
    await second.open()
    assert second.resumed is not None
    assert second.resumed.unknown == ("slow",)
    assert [one.value for one in second.interrupts] == ["Really?"]
    await second.run("yes")
    assert second.interrupts == ()
    assert told(second) == [
        "human: book it",
        "ai: Really? +b",
        "tool: booked: yes",
        "ai:  +s",
        "tool: The tool call was stopped before it ended; whether it took effect is unknown.",
        "human: yes",
        "ai: It is booked.",
    ]
    check_invariants(second)
    await second.aclose()
