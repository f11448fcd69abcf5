"""The durable copy of a call: LangGraph reads it as its own, and it costs the same at every turn."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from graph_voice import Agent, Handoff, LiveSaver, VoiceState, create_voice_graph
from graph_voice.agents.handoff import handoff_record
from graph_voice.call.journal import Journal
from graph_voice.storage.run_saver import RunSaver
from graph_voice.testing import ScriptedModel
from graph_voice.turn.pending import Pending

CONFIG: Any = {"configurable": {"thread_id": "call"}}
CALL: Any = {"configurable": {"thread_id": "call", "checkpoint_ns": ""}}
"""Its own checkpoints: who owns the thread is in another namespace."""
GRAPH = create_voice_graph(
    [Agent("a", instructions="A.", handoffs=[Handoff("b", tool=False)]), Agent("b", instructions="B.")],
    llm=ScriptedModel([]),
).compile()


class Remembered:
    """What a call remembers, and its journal."""

    def __init__(self, saver: LiveSaver, interval: float = 0.0) -> None:
        self.values: dict[str, Any] = {"messages": [], "handoffs": [], "active_agent": "a"}
        self.waiting: Pending | None = None
        self.journal = Journal(
            saver, "call", GRAPH.channels, lambda: self.values, lambda: self.waiting, interval=interval
        )

    def set(self, **values: Any) -> None:
        self.values = {**self.values, **values}
        self.journal.changed()

    async def close(self) -> None:
        await self.journal.barrier()
        self.journal.end()

    async def stored(self, behind: BaseCheckpointSaver[Any]) -> dict[str, Any]:
        """As another process reads it."""
        assert await self.journal.barrier()
        found = await GRAPH.copy(update={"checkpointer": behind}).aget_state(CONFIG)
        assert found.next == ()
        return {name: found.values.get(name) for name in self.values}


def message(number: int, text: str) -> AnyMessage:
    return HumanMessage(text, id=f"m{number}")


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "insert", "remove", "change", "agent", "handoff", "nothing"]),
        st.integers(0, 30),
        st.sampled_from(["x", "y", "z"]),
        st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(EDITS, st.sampled_from([InMemorySaver, None]))
def test_whatever_changes_another_process_reads_what_is_remembered(edits: Any, kind: Any) -> None:
    async def check(behind: BaseCheckpointSaver[Any]) -> None:
        async with LiveSaver(behind) as saver:
            call = Remembered(saver)
            for count, (edit, place, text, look) in enumerate(edits):
                messages: list[AnyMessage] = list(call.values["messages"])
                place = place % (len(messages) + 1)
                match edit:
                    case "append":
                        call.set(messages=[*messages, message(count, text)])
                    case "insert":
                        call.set(messages=[*messages[:place], message(count, text), *messages[place:]])
                    case "remove":
                        call.set(messages=messages[:place] + messages[place + 1 :])
                    case "change" if place < len(messages):
                        changed = messages[place].model_copy(update={"content": text})
                        call.set(messages=[*messages[:place], changed, *messages[place + 1 :]])
                    case "agent":
                        call.set(active_agent=text)
                    case "handoff":
                        call.set(handoffs=[*call.values["handoffs"], handoff_record("a", text, f"c{count}")])
                if look:
                    if call.journal._changes:
                        assert await call.stored(behind) == call.values
                    through = await GRAPH.copy(update={"checkpointer": saver}).aget_state(CONFIG)
                    assert through.values.get("messages", []) == call.values["messages"]
            if edits and call.journal._changes:
                assert await call.stored(behind) == call.values
            await call.close()

    async def run() -> None:
        if kind is not None:
            await check(kind())
            return
        async with AsyncSqliteSaver.from_conn_string(":memory:") as behind:
            await behind.setup()
            await check(behind)

    asyncio.run(run())


async def test_a_call_goes_on_behind_what_another_process_wrote() -> None:
    async with AsyncSqliteSaver.from_conn_string(":memory:") as behind:
        await behind.setup()
        for start in (0, 3, 6):
            async with LiveSaver(behind) as saver:
                call = Remembered(saver)
                graph = GRAPH.copy(update={"checkpointer": saver})
                claim = (await saver.take_up("call")).id
                if (head := await saver.aget_tuple(CONFIG)) is not None:
                    call.values = {**call.values, **(await graph.aget_state(CONFIG)).values}
                call.journal.begin(claim, head, call.values)
                for number in range(start, start + 3):
                    call.set(messages=[*call.values["messages"], message(number, "hi")])
                    await call.journal.barrier()
                await call.close()
        found = await GRAPH.copy(update={"checkpointer": behind}).aget_state(CONFIG)
        assert [m.id for m in found.values["messages"]] == [f"m{i}" for i in range(9)]
        assert len([one async for one in behind.alist(CALL)]) == 9


async def size(behind: AsyncSqliteSaver) -> int:
    async with behind.conn.execute(
        "SELECT (SELECT coalesce(sum(length(checkpoint) + length(metadata)), 0) FROM checkpoints)"
        " + (SELECT coalesce(sum(length(value)), 0) FROM writes)"
    ) as cursor:
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_a_turn_costs_the_same_bytes_however_long_the_call() -> None:
    async with AsyncSqliteSaver.from_conn_string(":memory:") as behind:
        await behind.setup()
        async with LiveSaver(behind) as saver:
            call = Remembered(saver)
            sizes = []
            for number in range(1500):
                said = [HumanMessage("And " * 20, id=f"u{number}"), AIMessage("Yes " * 40, id=f"a{number}", name="a")]
                call.set(
                    messages=[*call.values["messages"], *said],
                    handoffs=[*call.values["handoffs"], handoff_record("a", "b", f"c{number}")],
                )
                await call.journal.barrier()
                if number % 500 == 499:
                    sizes.append(await size(behind))
            await call.close()
    per_turn = [size / (500 * count) for count, size in enumerate(sizes, 1)]
    # The whole lists are written again whenever as much was written in differences: at most twice the bytes.
    assert max(per_turn) < 4000, per_turn
    assert max(per_turn) < 1.5 * min(per_turn), per_turn


async def test_changes_that_nobody_waits_for_are_written_together() -> None:
    behind = InMemorySaver()
    async with LiveSaver(behind) as saver:
        call = Remembered(saver, interval=60)
        for number in range(20):
            call.set(messages=[*call.values["messages"], message(number, "hi")])
        assert await call.stored(behind) == call.values
        assert len([one async for one in behind.alist(CALL)]) == 1
        await call.close()


class Hanging(InMemorySaver):
    hangs = False

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        return await super().aput(*args, **kwargs)


@pytest.mark.virtual_clock
async def test_a_barrier_gives_up_when_the_store_hangs_and_what_came_meanwhile_is_one_checkpoint() -> None:
    behind = Hanging()
    saver = LiveSaver(behind, timeout=1)
    call = Remembered(saver)
    loop = asyncio.get_running_loop()
    behind.hangs, began = True, loop.time()
    for number in range(50):
        call.set(messages=[*call.values["messages"], message(number, "hi")])
        await asyncio.sleep(0.1)
    assert await call.journal.barrier(timeout=0.5) is False
    assert loop.time() - began == pytest.approx(5.5)
    assert saver.lag.pending <= 3  # a claim, the one checkpoint, and the question who owns the thread
    behind.hangs = False
    assert await call.stored(behind) == call.values
    assert len([one async for one in behind.alist(CALL)]) <= 3
    await call.close()
    await saver.aclose()


# ---- a run that waits in `interrupt()`


def asking() -> StateGraph[Any, Any, Any, Any]:
    async def first(state: Any) -> dict[str, Any]:
        return {"messages": [AIMessage("unheard words", id="first")]}

    async def ask(state: Any) -> dict[str, Any]:
        return {"messages": [AIMessage(f"You said {interrupt('Sure?')}.", id="ask")]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(VoiceState)
    builder.add_node("first", first)
    builder.add_node("ask", ask)
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", END)
    return builder


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_run_that_waits_is_stored_and_answered_in_another_process(kind: str) -> None:
    async def check(behind: BaseCheckpointSaver[Any]) -> None:
        heard: Sequence[AnyMessage] = [HumanMessage("hello", id="h1"), AIMessage("words", id="first")]
        async with LiveSaver(behind) as saver:
            call = Remembered(saver)
            run = RunSaver({"messages": []})
            call.set(messages=[HumanMessage("hello", id="h1")])  # stored while the run is on its way
            await asking().compile(checkpointer=run).ainvoke({"messages": [HumanMessage("hello", id="h1")]}, CONFIG)
            await call.journal.barrier()
            call.waiting = Pending((), run, {}, None)
            call.set(messages=list(heard))
            await call.journal.barrier()
            call.set(messages=[*heard, HumanMessage("meanwhile", id="h2")])
            await call.close()
        graph = asking().compile(checkpointer=behind)
        found = await graph.aget_state(CONFIG)
        assert [one.value for one in found.interrupts] == ["Sure?"]
        assert [m.text for m in found.values["messages"]] == ["hello", "words", "meanwhile"]
        # As the next process of the same call: the run is taken up on a fork of what was stored.
        async with LiveSaver(behind) as saver:
            head = await saver.aget_tuple(CONFIG)
            assert head is not None
            values = {**found.values}
            again = RunSaver(values, RunSaver.of([head]))
            ended = await asking().compile(checkpointer=again).ainvoke(Command(resume="yes"), CONFIG)
            assert [m.text for m in ended["messages"]] == ["hello", "words", "meanwhile", "You said yes."]
            call = Remembered(saver)
            call.values = {**call.values, **values}
            call.journal.begin((await saver.take_up("call")).id, head, call.values)
            call.set(messages=[*values["messages"], AIMessage("You said", id="ask")])  # cut off
            assert [m.text for m in (await call.stored(behind))["messages"]][-2:] == ["meanwhile", "You said"]
            await call.close()
        # And as Studio answers it, without any of ours.
        await behind.adelete_thread("call")
        async with LiveSaver(behind) as saver:
            call = Remembered(saver)
            call.waiting = Pending((), run, {}, None)
            call.set(messages=list(heard))
            await call.close()
        ended = await graph.ainvoke(Command(resume="no"), CONFIG)
        assert [m.text for m in ended["messages"]] == ["hello", "words", "You said no."]

    if kind == "memory":
        await check(InMemorySaver())
    else:
        async with AsyncSqliteSaver.from_conn_string(":memory:") as behind:
            await behind.setup()
            await check(behind)
