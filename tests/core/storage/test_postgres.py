"""Calls in a real Postgres (skipped where none is installed): conformance, a call that goes on, a server that dies."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import interrupt
from postgres_support import Postgres, a_postgres, why_not
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from turn_support import told

from graph_voice import Agent, Conversation, Handoff, LiveSaver, RunContext, create_voice_graph, function_tool, history
from graph_voice.storage.write_behind import Lag
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with a_postgres() as server:
        yield server


@asynccontextmanager
async def pooled(server: Postgres) -> AsyncIterator[AsyncPostgresSaver]:
    """With a pool, as the docs have it: a connection that broke is replaced."""
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        server.uri, min_size=1, max_size=2, open=False, kwargs=settings, check=AsyncConnectionPool.check_connection
    )
    async with pool:
        yield AsyncPostgresSaver(pool)


@pytest.fixture
async def saver(postgres: Postgres) -> AsyncIterator[AsyncPostgresSaver]:
    async with pooled(postgres) as made:
        await made.setup()
        yield made


class Caller(BaseModel):
    name: str | None = None


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> str:
    """Record the name."""
    ctx.userdata.name = name
    return "Noted."


@function_tool
async def confirm(ctx: RunContext[Caller]) -> str:
    """Ask."""
    return f"The caller said {interrupt('Really?')}."


def graph(*script: Any) -> Any:
    to_billing = Handoff("billing", "To billing.", history=history.full())
    host = Agent("host", instructions="Host.", tools=[record_name, confirm], handoffs=[to_billing])
    return create_voice_graph(
        [host, Agent("billing", instructions="Billing.")], userdata=Caller, llm=ScriptedModel(list(script))
    )


async def test_langgraphs_own_conformance_tests_pass(postgres: Postgres) -> None:
    missing = {"copy_thread", "prune", "delete_for_runs"}  # of the Postgres saver itself

    @checkpointer_test(name="LiveSaver, Postgres", skip_capabilities=missing)
    async def made() -> Any:
        async with pooled(postgres) as durable:
            await durable.setup()
            async with LiveSaver(durable) as live:
                yield live

    report = await validate(made)
    assert not {name: result.failures for name, result in report.results.items() if result.passed is False}
    assert report.passed_all_base()


async def test_a_call_goes_on_in_another_process_and_langgraph_reads_it(
    saver: AsyncPostgresSaver, postgres: Postgres
) -> None:
    script = [say(call("record_name", {"name": "Ann"})), "Hello Ann.", say(call("transfer_to_billing")), "Billing."]
    async with Conversation(graph(*script), thread_id="goes on", saver=saver) as first:
        await first.run("I am Ann")
        await first.run("my bill")
        before = told(first)
    async with pooled(postgres) as another:
        async with Conversation(graph("It is three."), thread_id="goes on", saver=another) as second:
            assert second.resumed is not None
            assert (second.userdata, second.active_agent) == (Caller(name="Ann"), "billing")
            await second.run("how much")
            check_invariants(second)
        found = await graph().compile(checkpointer=another).aget_state({"configurable": {"thread_id": "goes on"}})
    assert told(second) == [*before, "human: how much", "ai: It is three."]
    assert [m.text for m in found.values["messages"]] == [m.text for m in second.messages]


async def test_a_long_call_is_the_same_in_the_store(saver: AsyncPostgresSaver) -> None:
    lines = [f"Answer {number}." for number in range(150)]
    async with Conversation(graph(*lines), thread_id="long", saver=saver) as conversation:
        for number in range(150):
            await conversation.run(f"question {number}")
            if number % 10 == 0:
                await conversation.flush(timeout=60)
    async with Conversation(graph(), thread_id="long", saver=saver) as again:
        assert again.messages == conversation.messages
        assert len(again.messages) == 300


async def test_a_question_is_answered_in_another_process(saver: AsyncPostgresSaver) -> None:
    async with Conversation(graph(say(call("confirm", id="c"))), thread_id="question", saver=saver) as first:
        await first.run("book it")
    async with Conversation(graph("Done."), thread_id="question", saver=saver) as second:
        assert [found.value for found in second.interrupts] == ["Really?"]
        await second.run("yes")
        assert [m.text for m in second.messages if m.type == "tool"] == ["The caller said yes."]
        check_invariants(second)


async def test_a_server_that_dies_in_the_middle_costs_nothing(postgres: Postgres) -> None:
    lags: list[Lag] = []
    noticed = asyncio.Event()

    def late(lag: Lag) -> None:
        lags.append(lag)
        noticed.set()

    async with pooled(postgres) as durable:
        await durable.setup()
        saver = LiveSaver(durable, on_lag=late, timeout=2)
        conversation = Conversation(graph("One.", "Two.", "Three."), thread_id="dies", saver=saver)
        await conversation.open()
        await conversation.run("a")
        await conversation.flush(timeout=60)
        await asyncio.to_thread(postgres.stop)
        try:
            await conversation.run("b")
            assert not await conversation.call.stored()
            await asyncio.wait_for(noticed.wait(), 60)
        finally:
            await asyncio.to_thread(postgres.start)
        await conversation.run("c")
        await conversation.flush(timeout=120)
        await conversation.aclose()
        await saver.aclose()
        async with Conversation(graph(), thread_id="dies", saver=durable) as again:
            assert told(again) == ["human: a", "ai: One.", "human: b", "ai: Two.", "human: c", "ai: Three."]
    assert lags[0].error is not None
    assert lags[-1].pending == 0


async def test_the_store_of_the_page_is_one(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.uri)
    page = (Path(__file__).parents[3] / "docs" / "durability.md").read_text()
    (snippet,) = [
        code for code in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "_URL" in code
    ]
    names: dict[str, Any] = {}
    exec(snippet, names)
    for words in ("Hi.", "Hi again."):
        async with names["make_saver"]() as made:
            assert made.at_max_lag == "end_call"
            await made.durable.setup()
            async with Conversation(graph(words), thread_id="page", saver=made) as conversation:
                await conversation.run("hello")
            await made.aclose()
    assert told(conversation) == ["human: hello", "ai: Hi.", "human: hello", "ai: Hi again."]
