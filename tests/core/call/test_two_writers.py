"""Several conversations on one thread: who took it up last is its head, and what was called durable is not lost."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from postgres_support import Postgres, a_postgres, why_not
from slow_properties import examples

from graph_voice import Agent, Conversation, LiveSaver, VoiceState, create_voice_graph, function_tool
from graph_voice.call.journal import ASKING
from graph_voice.errors import SaverError, ThreadTakenError
from graph_voice.storage.ownership import later_id, put_claim
from graph_voice.storage.write_behind import Lag
from graph_voice.testing import ScriptedModel, call
from graph_voice.testing.clock import run as run_virtual
from graph_voice.testing.invariants import check_invariants

CONFIG: Any = {"configurable": {"thread_id": "t"}}


@function_tool
async def ask() -> str:
    """Ask the caller."""
    return f"They said {interrupt('Sure?')}."


def answer(messages: list[Any]) -> Any:
    last = messages[-1]
    return call("ask") if last.type == "human" and "ask" in last.text else "Yes."


def graph() -> Any:
    return create_voice_graph([Agent("a", instructions="A.", tools=[ask])], llm=ScriptedModel(answer))


class Reached(BaseCheckpointSaver[Any]):
    """A store as one process reaches it: each request takes its time, and none is answered while the process is frozen.

    Args:
        store: what the processes share.
        delay: returns the seconds of a request.
    """

    def __init__(self, store: BaseCheckpointSaver[Any], delay: Callable[[], float]) -> None:
        super().__init__(serde=store.serde)
        self._store = store
        self._delay = delay
        self.froze = False
        self.awake = asyncio.Event()
        self.awake.set()

    async def _after(self, request: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(2):  # on the way there, and on the way back
            if seconds := self._delay():
                await asyncio.sleep(seconds)
            await self.awake.wait()
            if request is not None:
                answered, request = await request(), None  # type: ignore[assignment]
        return answered

    async def aput(self, *args: Any) -> Any:
        return await self._after(lambda: self._store.aput(*args))

    async def aput_writes(self, *args: Any) -> None:
        await self._after(lambda: self._store.aput_writes(*args))

    async def aget_tuple(self, config: Any) -> Any:
        return await self._after(lambda: self._store.aget_tuple(config))

    async def aget_delta_channel_history(self, **options: Any) -> Any:
        return await self._after(lambda: self._store.aget_delta_channel_history(**options))

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[Any]:
        async def found() -> list[Any]:
            return [one async for one in self._store.alist(config, **options)]

        for one in await self._after(found):
            yield one

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._store.get_next_version(current, channel)


async def opened(store: BaseCheckpointSaver[Any]) -> Conversation[Any]:
    return await Conversation(graph(), thread_id="t", saver=store).open()


def said(conversation: Conversation[Any]) -> list[str]:
    return [m.text for m in conversation.messages if isinstance(m, HumanMessage)]


async def test_a_caller_who_is_back_before_the_old_job_has_ended_is_the_head_and_the_old_job_is_told() -> None:
    store = InMemorySaver()
    old = await opened(store)
    await old.run("one")
    await old.flush()
    new = await opened(store)
    assert said(new) == ["one"]
    await old.run("lost")
    with pytest.raises(ThreadTakenError, match=r"thread 't': another call has taken it up.*is not stored"):
        await old.flush()
    assert not await old.call.stored()
    assert old.durable_lag > 0
    await new.run("two")
    await new.flush()
    assert new.durable_lag == 0
    with pytest.raises(SaverError):
        await old.aclose()
    assert await read_by_langgraph(store) == ["one", "two"]
    await new.aclose()
    again = await opened(store)
    assert said(again) == ["one", "two"]
    await again.aclose()


@pytest.mark.virtual_clock
@pytest.mark.parametrize("policy", ["go_on", "end_call"])
async def test_a_job_that_has_lost_its_thread_goes_on_or_ends_with_a_word_as_with_any_other_lag(policy: Any) -> None:
    store = InMemorySaver()
    saver = LiveSaver(store, max_lag=10, at_max_lag=policy, closing_message="Goodbye.")
    old = await Conversation(graph(), thread_id="t", saver=saver).open()
    new = await opened(store)
    await old.run("one")
    await asyncio.sleep(5)
    await old.run("two")
    await asyncio.sleep(10)
    await old.run("three")
    assert [m.text for m in old.messages if isinstance(m, AIMessage)] == [
        "Yes.",
        "Yes.",
        "Yes." if policy == "go_on" else "Goodbye.",
    ]
    for conversation in (old, new):
        with contextlib.suppress(SaverError):
            await conversation.aclose()


async def test_whoever_watches_the_store_is_told_of_a_call_that_goes_on_unstored() -> None:
    store, seen = InMemorySaver(), list[Lag]()
    async with LiveSaver(store, on_lag=seen.append) as saver:
        old = await Conversation(graph(), thread_id="t", saver=saver).open()
        new = await opened(store)
        await old.run("lost")
        with pytest.raises(ThreadTakenError):
            await old.flush()
        assert ["another call has taken it up" in lost for lag in seen for lost in lag.lost] == [True]
        for conversation in (old, new):
            with contextlib.suppress(SaverError):
                await conversation.aclose()


async def test_a_call_that_had_stored_all_when_it_lost_its_thread_ends_without_a_complaint() -> None:
    store = InMemorySaver()
    old = await opened(store)
    await old.run("one")
    await old.flush()
    new = await opened(store)
    await old.aclose()
    await new.aclose()


async def test_a_question_that_the_old_job_asked_stays_open_however_often_the_thread_is_taken_up() -> None:
    store = InMemorySaver()
    old = await opened(store)
    await old.run("please ask")
    await old.flush()
    for number in range(3):
        new = await opened(store)
        assert [i.value for i in new.interrupts] == ["Sure?"]
        new.add(HumanMessage(f"meanwhile {number}"))
        old.add(HumanMessage("lost"))
        with contextlib.suppress(SaverError):
            await old.flush()
        await new.flush()
        await new.aclose()
    last = await opened(store)
    assert said(last) == ["please ask", "meanwhile 0", "meanwhile 1", "meanwhile 2"]
    await last.run("yes")
    assert "They said yes." in [m.text for m in last.messages]
    assert last.interrupts == ()
    check_invariants(last)
    await last.aclose()
    final = await opened(store)
    assert final.interrupts == ()
    assert "They said yes." in [m.text for m in final.messages]
    await final.aclose()
    with contextlib.suppress(SaverError):
        await old.aclose()


async def test_an_owner_whose_clock_is_behind_is_the_head_all_the_same() -> None:
    store = InMemorySaver()
    days_ahead = str(uuid.UUID(int=uuid.UUID(later_id()).int + (1 << 110)))
    await put_claim(store, "t", days_ahead)
    first = await opened(store)
    await first.run("please ask")
    await first.aclose()
    second = await opened(store)
    assert [i.value for i in second.interrupts] == ["Sure?"]
    await second.run("yes")
    await second.run("another ask")
    second.add(HumanMessage("wait"))
    await second.aclose()
    third = await opened(store)
    assert said(third) == ["please ask", "yes", "another ask", "wait"]
    assert [i.value for i in third.interrupts] == ["Sure?"]
    await third.run("no")
    await third.aclose()
    assert [m.text for m in third.messages if "They said" in m.text] == ["They said yes.", "They said no."]


async def test_a_store_that_takes_no_writes_is_read_and_taken_up_when_it_does() -> None:
    class Down(InMemorySaver):
        down = False

        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            if self.down:
                raise OSError("disk full")
            return await super().aput(*args, **kwargs)

    store = Down()
    old = await opened(store)
    await old.run("one")
    await old.flush()
    store.down = True
    new = await opened(store)
    assert said(new) == ["one"]
    await new.run("two")
    store.down = False
    await new.flush()
    await old.run("lost")
    with pytest.raises(ThreadTakenError):
        await old.flush()
    await new.aclose()
    again = await opened(store)
    assert said(again) == ["one", "two"]
    await again.aclose()


class Frozen(Reached):
    """A process that freezes while it writes a run that waits in `interrupt()`, and writes it when it wakes."""

    def __init__(self, store: BaseCheckpointSaver[Any]) -> None:
        super().__init__(store, lambda: 0.0)
        self.freezes = asyncio.Event()
        self.may_freeze = False

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, versions: Any) -> Any:
        if self.may_freeze and ASKING in metadata:
            self.may_freeze = False
            self.awake.clear()
            self.freezes.set()
        return await super().aput(config, checkpoint, metadata, versions)


async def test_what_a_frozen_job_still_writes_of_its_question_hides_nothing_that_its_successor_has_stored() -> None:
    store = InMemorySaver()
    frozen = Frozen(store)
    old = await opened(frozen)
    await old.run("ask")
    await old.flush()
    frozen.may_freeze = True
    old.add(HumanMessage("lost"))
    await frozen.freezes.wait()
    new = await opened(store)
    assert new.interrupts
    new.add(HumanMessage("two"))
    await new.flush()
    await new.aclose()
    frozen.awake.set()
    with pytest.raises(ThreadTakenError):
        await old.flush()
    again = await opened(store)
    assert said(again) == ["ask", "two"]
    assert again.interrupts
    await again.aclose()
    with contextlib.suppress(SaverError):
        await old.aclose()


async def read_by_langgraph(store: BaseCheckpointSaver[Any]) -> list[str]:
    found = await graph().compile(checkpointer=store).aget_state(CONFIG)
    return [m.text for m in found.values["messages"] if isinstance(m, HumanMessage)]


def node_that_asks() -> Any:
    """A graph whose node asks: nothing waits for the store before it."""

    async def quiz(state: Any) -> dict[str, Any]:
        if "ask" not in state["messages"][-1].text:
            return {"messages": [AIMessage("Yes.")]}
        return {"messages": [AIMessage(f"They said {interrupt('Sure?')}.")]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(VoiceState)
    builder.add_node("quiz", quiz, metadata={"speak": True})
    builder.add_edge(START, "quiz")
    builder.add_edge("quiz", END)
    return builder


async def test_a_job_that_has_lost_its_thread_does_not_store_the_question_that_it_asks() -> None:
    store = InMemorySaver()
    old = await Conversation(node_that_asks(), thread_id="t", saver=store).open()
    await old.run("one")
    await old.flush()
    new = await Conversation(node_that_asks(), thread_id="t", saver=store).open()
    await new.run("two")
    await new.flush()
    await old.run("ask")
    assert old.interrupts
    with pytest.raises(ThreadTakenError):
        await old.flush()
    assert await read_by_langgraph(store) == ["one", "two"]
    for conversation in (old, new):
        with contextlib.suppress(SaverError):
            await conversation.aclose()


async def test_a_checkpoint_of_an_earlier_owner_whose_clock_is_ahead_is_not_the_head() -> None:
    store = InMemorySaver()
    old = await opened(store)
    await old.run("one")
    await old.flush()
    stray = await store.aget_tuple(CONFIG)
    assert stray is not None
    new = await opened(store)
    await new.run("two")
    await new.flush()
    checkpoint = {**stray.checkpoint, "id": later_id(str(uuid.UUID(int=uuid.UUID(later_id()).int + (1 << 110))))}
    await store.aput({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, checkpoint, stray.metadata, {})
    assert await read_by_langgraph(store) == ["one"]
    await new.run("three")
    await new.aclose()
    again = await opened(store)
    assert said(again) == ["one", "two", "three"]
    await again.aclose()
    assert await read_by_langgraph(store) == ["one", "two", "three"]
    with contextlib.suppress(SaverError):
        await old.aclose()


# ---- at random: in a fresh process these come last, since LangGraph's ids never go back behind the virtual clock's


@dataclass
class Writer:
    """One conversation in a process of its own, and what is known of it."""

    number: int
    reached: Reached
    before: frozenset[int]
    """The writers that had taken the thread up before this one began to."""
    conversation: Conversation[Any]
    found: list[str] = field(default_factory=list)
    """What the caller had said, as it was read."""
    durable: list[list[str]] = field(default_factory=list)
    """What the conversation called durable, each time."""
    said: int = 0
    opened: bool = False
    over: bool = False

    def heard(self) -> list[str]:
        return [m.text for m in self.conversation.messages if isinstance(m, HumanMessage) and ":" in m.text]


class Thread:
    """All writers of one thread, each doing one thing after the other, beside the others."""

    def __init__(self, store: BaseCheckpointSaver[Any], delay: Callable[[], float], *, shared: bool = False) -> None:
        self._store = store
        self._delay = delay
        self._shared = LiveSaver(Reached(store, delay)) if shared else None
        self.writers: list[Writer] = []
        self._jobs: dict[int, asyncio.Task[None]] = {}

    def do(self, what: str, which: int) -> None:
        """Begin it; it waits for what the same writer does already."""
        if what == "open" or not self.writers:
            self._open()
            return
        writer = self.writers[which % len(self.writers)]
        if what == "freeze":
            writer.reached.froze = True
            writer.reached.awake.clear()
        elif what == "wake":
            writer.reached.awake.set()
        else:
            self._then(writer, getattr(self, f"_{what}"))

    def _open(self) -> None:
        number = len(self.writers)
        reached = Reached(self._store, self._delay)
        saver = self._shared or LiveSaver(reached, timeout=60)
        conversation: Conversation[Any] = Conversation(graph(), thread_id="t", saver=saver)
        before = frozenset(w.number for w in self.writers if w.opened)
        writer = Writer(number, reached, before, conversation)
        self.writers.append(writer)
        self._then(writer, self._read)

    def _then(self, writer: Writer, act: Callable[[Writer], Awaitable[None]]) -> None:
        earlier = self._jobs.get(writer.number)

        async def job() -> None:
            if earlier is not None:
                await earlier
            if not writer.over:
                await act(writer)

        self._jobs[writer.number] = asyncio.create_task(job())

    async def _read(self, writer: Writer) -> None:
        await writer.conversation.open()
        writer.opened = True
        writer.found = writer.heard()
        check_invariants(writer.conversation)

    async def _say(self, writer: Writer, more: str = "") -> None:
        if writer.conversation.interrupts:
            await writer.conversation.run("yes")
        writer.said += 1
        await writer.conversation.run(f"{writer.number}:{writer.said}{more}")

    async def _ask(self, writer: Writer) -> None:
        await self._say(writer, " ask")
        assert writer.conversation.interrupts

    async def _note(self, writer: Writer) -> None:
        writer.said += 1
        writer.conversation.add(HumanMessage(f"{writer.number}:{writer.said}"))

    async def _flush(self, writer: Writer) -> None:
        said = writer.heard()
        try:
            await writer.conversation.flush(5)
        except ThreadTakenError:
            others = {w.number for w in self.writers if w is not writer}
            assert others - writer.before, "nobody has taken the thread up since"
        except SaverError:
            assert writer.reached.froze, "the store answers"
        else:
            writer.durable.append(said)

    async def _crash(self, writer: Writer) -> None:
        writer.over = True
        await writer.conversation.call.durable.abandon()  # type: ignore[union-attr]

    async def _close(self, writer: Writer) -> None:
        writer.over = True
        with contextlib.suppress(SaverError):
            await writer.conversation.aclose(flush_timeout=1)

    async def end(self) -> None:
        """Everybody wakes and stores what is left; then the thread is read once more."""
        for writer in self.writers:
            writer.reached.awake.set()
            self._then(writer, self._flush)
        await asyncio.gather(*self._jobs.values())
        self._open()
        await asyncio.gather(*self._jobs.values())
        for writer in self.writers:
            await self._then_now(writer, self._crash)
        self.check()

    async def _then_now(self, writer: Writer, act: Callable[[Writer], Awaitable[None]]) -> None:
        self._then(writer, act)
        await self._jobs[writer.number]

    def check(self) -> None:
        for writer in self.writers:
            self._check_is_not_mixed(writer.found)
            for earlier in self.writers[: writer.number]:
                if earlier.number in writer.before:
                    for said in earlier.durable:
                        lost = [line for line in said if line not in writer.found]
                        assert not lost, f"{earlier.number} called {lost} durable, {writer.number} found {writer.found}"

    def _check_is_not_mixed(self, found: list[str]) -> None:
        """What was read is what one writer had found, and then the first lines that it said itself."""
        if not found:
            return
        last = self.writers[int(found[-1].split(":")[0])]
        own = [line for line in found if line.startswith(f"{last.number}:")]
        assert found == [*last.found, *own]
        assert [int(line.split(":")[1].split()[0]) for line in own] == list(range(1, len(own) + 1))


ACTS = ["open", "open", "say", "say", "note", "ask", "flush", "flush", "crash", "close", "freeze", "wake"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTS), st.integers(0, 3), st.sampled_from([0.0, 0.01, 0.05, 0.7])), max_size=25
)


async def play(store: BaseCheckpointSaver[Any], steps: Any, seed: int, *, slow: bool, shared: bool = False) -> None:
    chance = random.Random(seed)
    thread = Thread(store, lambda: chance.choice([0.0, 0.001, 0.02]) if slow else 0.0, shared=shared)
    thread.do("open", 0)
    for what, which, seconds in steps:
        thread.do(what, which)
        await asyncio.sleep(seconds if slow else 0)
    await thread.end()


@examples(40)
@given(STEPS, st.integers(0, 1000))
def test_whatever_several_conversations_on_one_thread_do_nothing_is_mixed_and_nothing_durable_is_lost(
    steps: Any, seed: int
) -> None:
    run_virtual(play(InMemorySaver(), steps, seed, slow=True))


@examples(15)
@given(STEPS, st.integers(0, 1000))
def test_conversations_of_one_process_that_share_a_saver_do_not_mix_either(steps: Any, seed: int) -> None:
    run_virtual(play(InMemorySaver(), steps, seed, slow=True, shared=True))


@examples(10)
@given(STEPS, st.integers(0, 1000))
def test_the_same_on_sqlite(steps: Any, seed: int) -> None:
    async def main() -> None:
        async with AsyncSqliteSaver.from_conn_string(":memory:") as store:
            await store.setup()
            await play(store, steps, seed, slow=False)

    asyncio.run(main())


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with a_postgres() as server:
        yield server


@examples(10)
@given(STEPS, st.integers(0, 1000))
def test_the_same_on_postgres(postgres: Postgres, steps: Any, seed: int) -> None:
    async def main() -> None:
        async with AsyncPostgresSaver.from_conn_string(postgres.uri) as store:
            await store.setup()
            await store.adelete_thread("t")
            await play(store, steps, seed, slow=False)

    asyncio.run(main())
