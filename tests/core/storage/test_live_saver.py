"""A checkpointer with its head in memory and its writes behind: LangGraph's own conformance, and a model to compare."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from graph_voice import LiveSaver
from graph_voice.errors import SaverError
from graph_voice.history.reducers import merge_messages
from graph_voice.storage.write_behind import Lag

KINDS = ["memory", "sqlite", "sqlite, blocking"]


@contextlib.asynccontextmanager
async def durable(kind: str, path: Path | str = ":memory:") -> AsyncIterator[BaseCheckpointSaver[Any]]:
    match kind:
        case "memory":
            yield InMemorySaver()
        case "sqlite":
            async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
                await saver.setup()
                yield saver
        case _:
            with SqliteSaver.from_conn_string(str(path)) as blocking:
                yield blocking


@pytest.mark.parametrize("kind", KINDS)
async def test_langgraphs_own_conformance_tests_pass(kind: str) -> None:
    not_there = {"memory": {"copy_thread", "prune", "delete_for_runs"}}.get(
        kind, {"copy_thread", "prune", "delete_for_runs"}
    )

    @checkpointer_test(name=f"LiveSaver, {kind}", skip_capabilities=not_there)
    async def made() -> Any:
        async with durable(kind) as behind, LiveSaver(behind) as saver:
            yield saver

    report = await validate(made)
    failed = {name: result.failures for name, result in report.results.items() if result.passed is False}
    assert not failed
    assert report.passed_all_base()


# ---- against a plain saver


CONFIGS = st.tuples(st.sampled_from("ab"), st.sampled_from(["", "sub"]))
VALUES = st.integers(0, 5)


class Both:
    """The same operations on a plain saver and on ours, whose answers must be equal."""

    def __init__(self, behind: BaseCheckpointSaver[Any]) -> None:
        self.model = InMemorySaver()
        self.ours = LiveSaver(behind)
        self.known: dict[tuple[str, str], list[str]] = {}

    def config(self, line: tuple[str, str], checkpoint_id: str | None = None) -> Any:
        where: dict[str, Any] = {"thread_id": line[0], "checkpoint_ns": line[1]}
        if checkpoint_id is not None:
            where["checkpoint_id"] = checkpoint_id
        return {"configurable": where}

    async def put(self, line: tuple[str, str], back: int, value: int) -> None:
        ids = self.known.setdefault(line, [])
        parent = ids[-1 - back % len(ids)] if ids else None
        made = empty_checkpoint()
        version = len(ids) + 1
        made["channel_values"] = {"x": value}
        made["channel_versions"] = {"x": f"{version:032}", "d": f"{version:032}"}
        config = self.config(line, parent)
        for saver in (self.model, self.ours):
            await saver.aput(config, made, {"source": "loop", "step": version}, made["channel_versions"])
        ids.append(made["id"])

    async def write(self, line: tuple[str, str], back: int, value: int, task: str, path: str) -> None:
        if not (ids := self.known.get(line)):
            return
        config = self.config(line, ids[-1 - back % len(ids)])
        for saver in (self.model, self.ours):
            await saver.aput_writes(config, [("d", value), ("e", value)], task, path)

    async def delete(self, thread: str) -> None:
        for saver in (self.model, self.ours):
            await saver.adelete_thread(thread)
        for line in [line for line in self.known if line[0] == thread]:
            del self.known[line]

    async def agree(self, line: tuple[str, str]) -> None:
        for config in [self.config(line), *(self.config(line, i) for i in self.known.get(line, ()))]:
            assert _told(await self.ours.aget_tuple(config)) == _told(await self.model.aget_tuple(config))
            if await self.model.aget_tuple(config) is not None:
                theirs = await self.model.aget_delta_channel_history(config=config, channels=["d", "x"])
                assert await self.ours.aget_delta_channel_history(config=config, channels=["d", "x"]) == theirs
        thread: Any = {"configurable": {"thread_id": line[0]}}
        listed = [_told(found) async for found in self.ours.alist(thread)]
        expected = [_told(found) async for found in self.model.alist(thread)]
        # Savers differ in whether they list line by line or by age.
        assert sorted(listed, key=lambda told: told[0]["checkpoint_id"]) == sorted(
            expected, key=lambda told: told[0]["checkpoint_id"]
        )


def _told(found: CheckpointTuple | None) -> Any:
    if found is None:
        return None
    where = found.config["configurable"]
    return (
        {k: where.get(k) for k in ("thread_id", "checkpoint_ns", "checkpoint_id")},
        found.checkpoint["channel_values"],
        found.metadata,
        found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
        found.pending_writes,
    )


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), CONFIGS, st.integers(0, 3), VALUES),
        st.tuples(
            st.just("write"), CONFIGS, st.integers(0, 3), VALUES, st.sampled_from(["t1", "t2"]), st.sampled_from("xy")
        ),
        st.tuples(st.just("delete"), st.sampled_from("ab")),
        st.tuples(st.just("agree"), CONFIGS),
        st.tuples(st.just("flush")),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.sampled_from(["memory", "sqlite"]))
def test_any_sequence_of_operations_reads_as_from_a_plain_saver(operations: list[Any], kind: str) -> None:
    async def run() -> None:
        async with durable(kind) as behind:
            both = Both(behind)
            for name, *args in operations:
                if name == "flush":
                    await both.ours.flush()
                    assert both.ours.lag.pending == 0
                elif name == "reopen":  # another process: nothing in memory
                    await both.ours.aclose()
                    both.ours = LiveSaver(behind)
                else:
                    await getattr(both, name)(*args)
            for line in both.known:
                await both.agree(line)
            await both.ours.aclose()

    asyncio.run(run())


# ---- under a graph


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], DeltaChannel(merge_messages, list)]
    count: int
    answer: str


def counting() -> StateGraph[Any, Any, Any, Any]:
    async def ask(state: State) -> dict[str, Any]:
        return {"answer": interrupt("sure?"), "messages": [HumanMessage("asked", id=f"a{state['count']}")]}

    async def count(state: State) -> dict[str, Any]:
        number = state.get("count", 0) + 1
        return {"count": number, "messages": [HumanMessage(f"{number}", id=f"m{number}")]}

    builder = StateGraph(State)
    builder.add_node("count", count)
    builder.add_node("ask", ask)
    builder.add_edge(START, "count")
    builder.add_edge("count", "ask")
    builder.add_edge("ask", END)
    return builder


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_graph_runs_stops_in_an_interrupt_and_goes_on_in_another_process(kind: str) -> None:
    config: Any = {"configurable": {"thread_id": "t"}}
    async with durable(kind) as behind:
        async with LiveSaver(behind) as saver:
            graph = counting().compile(checkpointer=saver)
            for _ in range(3):
                await graph.ainvoke({}, config)
                await graph.ainvoke(Command(resume="yes"), config)
            stopped = await graph.ainvoke({}, config)
            assert [found.value for found in stopped["__interrupt__"]] == ["sure?"]
        async with LiveSaver(behind) as saver:
            graph = counting().compile(checkpointer=saver)
            state = await graph.aget_state(config)
            assert [found.value for found in state.interrupts] == ["sure?"]
            assert state.values["count"] == 4
            ended = await graph.ainvoke(Command(resume="of course"), config)
            assert ended["answer"] == "of course"
            assert [m.id for m in ended["messages"]] == ["m1", "a1", "m2", "a2", "m3", "a3", "m4", "a4"]
            earlier = [found async for found in graph.aget_state_history(config)]
            first = next(found for found in reversed(earlier) if found.values.get("count") == 1)
            again = await graph.ainvoke(None, first.config)
            assert again["count"] == 1


def test_blocking_methods_are_durable_when_they_return_where_no_event_loop_runs(tmp_path: Path) -> None:
    class Plain(TypedDict, total=False):
        count: int

    builder = StateGraph(Plain)
    builder.add_node("count", lambda state: {"count": state.get("count", 0) + 1})
    builder.add_edge(START, "count")
    config: Any = {"configurable": {"thread_id": "t"}}
    with SqliteSaver.from_conn_string(str(tmp_path / "calls.db")) as behind:
        saver = LiveSaver(behind)
        graph = builder.compile(checkpointer=saver)
        graph.invoke({}, config)
        graph.invoke({}, config)
        assert saver.lag == Lag(0, 0.0)
        assert builder.compile(checkpointer=behind).get_state(config).values == {"count": 2}


# ---- a store with troubles


class Troubled(InMemorySaver):
    """A store that fails, hangs, or refuses what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: str | None = None
        self.tried = 0

    async def _suffer(self) -> None:
        self.tried += 1
        if self.trouble == "fails":
            raise OSError("disk full")
        if self.trouble == "refuses":
            raise TypeError("can't store that")
        if self.trouble == "hangs":
            await asyncio.Event().wait()

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        await self._suffer()
        return await super().aput(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        await self._suffer()
        await super().aput_writes(*args, **kwargs)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_a_store_in_trouble_stalls_nobody_and_has_everything_when_it_is_back(trouble: str) -> None:
    loop, told, behind = asyncio.get_running_loop(), list[Lag](), Troubled()
    async with LiveSaver(behind, timeout=2, on_lag=told.append) as saver:
        config: Any = {"configurable": {"thread_id": "t"}}
        graph = counting().compile(checkpointer=saver)
        behind.trouble, began = trouble, loop.time()
        await graph.ainvoke({}, config)
        assert (await graph.aget_state(config)).values["count"] == 1
        await graph.ainvoke(Command(resume="yes"), config)
        assert loop.time() == began
        assert saver.lag.pending > 0
        with pytest.raises(SaverError, match="writes to the durable saver are not done after 7 s"):
            await saver.flush(timeout=7)
        assert told
        assert told[-1].pending == saver.lag.pending
        assert isinstance(told[-1].error, OSError if trouble == "fails" else TimeoutError)
        behind.trouble = None
        await saver.flush(timeout=20)
        assert told[-1] == Lag(0, 0.0)
    there = await counting().compile(checkpointer=behind).aget_state(config)
    assert [m.id for m in there.values["messages"]] == ["m1", "a1"]


@pytest.mark.virtual_clock
@pytest.mark.parametrize("together", [True, False])
async def test_a_write_that_fails_while_it_is_abandoned_is_not_tried_again(together: bool) -> None:
    """Its failure and the cancellation of its task may come in the same round of the event loop."""
    fails = asyncio.Event()

    class Failing(InMemorySaver):
        tried = 0

        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            self.tried += 1
            await fails.wait()
            raise OSError("the disk is gone")

    behind = Failing()
    saver = LiveSaver(behind)
    await counting().compile(checkpointer=saver).ainvoke({}, {"configurable": {"thread_id": "t"}})
    await asyncio.sleep(0.1)
    assert behind.tried == 1
    if together:
        fails.set()
    await asyncio.wait_for(saver.abandon(), 5)
    await asyncio.sleep(20)
    assert behind.tried == 1
    assert saver.lag.pending == 0


@pytest.mark.virtual_clock
async def test_what_can_not_be_stored_is_left_out_and_said() -> None:
    behind = Troubled()
    saver = LiveSaver(behind)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    behind.trouble = "refuses"
    await saver.aput(config, empty_checkpoint(), {}, {})
    with pytest.raises(SaverError, match="can't store that"):
        await saver.flush(timeout=5)
    behind.trouble = None
    await saver.aput(config, empty_checkpoint(), {}, {})
    await saver.aclose(timeout=5)
    assert behind.tried == 3, "in the form that any store takes, too"


@pytest.mark.virtual_clock
async def test_at_the_bound_a_writer_waits_and_is_then_refused() -> None:
    behind = Troubled()
    saver = LiveSaver(behind, timeout=2, max_pending=3)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    behind.trouble = "hangs"
    for _ in range(3):
        await saver.aput(config, empty_checkpoint(), {}, {})
    with pytest.raises(SaverError, match="3 writes"):
        await saver.aput(config, empty_checkpoint(), {}, {})
    behind.trouble = None
    await saver.flush(timeout=20)
    await saver.aput(config, empty_checkpoint(), {}, {})
    await saver.aclose()


async def test_memory_holds_the_heads_only_when_all_is_durable() -> None:
    async with durable("sqlite") as behind, LiveSaver(behind) as saver:
        graph = counting().compile(checkpointer=saver)
        for thread in ("a", "b"):
            config: Any = {"configurable": {"thread_id": thread}}
            for _ in range(5):
                await graph.ainvoke({}, config)
                await graph.ainvoke(Command(resume="yes"), config)
        await saver.flush()
        assert [line.thread_id for line, _ in saver._memory] == ["a", "b"]


async def test_the_worker_keeps_nothing_of_who_woke_it() -> None:
    from contextvars import ContextVar

    woken_by: ContextVar[str] = ContextVar("woken_by", default="nobody")
    seen: list[str] = []

    class Noting(InMemorySaver):
        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(woken_by.get())
            return await super().aput(*args, **kwargs)

    woken_by.set("a turn")
    async with LiveSaver(Noting()) as saver:
        await saver.aput({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    assert seen == ["nobody"]


@pytest.fixture(autouse=True)
def no_task_is_left() -> Iterator[None]:
    yield
    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_event_loop_policy().get_event_loop()
        assert not [task for task in asyncio.all_tasks(loop) if "write-behind" in task.get_name()]


def test_a_live_saver_takes_no_live_saver() -> None:
    with pytest.raises(SaverError, match="the durable checkpointer itself"):
        LiveSaver(LiveSaver(InMemorySaver()))
