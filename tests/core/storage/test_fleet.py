"""The samples of docs/durability.md, as a fleet runs them: many calls at once, each with a store of its own."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from postgres_support import Postgres, a_pgbouncer, a_postgres, why_no_pgbouncer, why_not
from psycopg import AsyncConnection

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call

PAGE = Path(__file__).parents[3] / "docs" / "durability.md"
CALLS = 28
"""psycopg's default pool fills a Postgres, as it is installed, with the 25th."""
POOLED = 5
TURNS = 3


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with a_postgres() as server:
        asyncio.run(_set_up(server))
        yield server


async def _set_up(server: Postgres) -> None:
    async with AsyncPostgresSaver.from_conn_string(server.uri) as saver:
        await saver.setup()


def make_saver() -> Callable[[], Any]:
    """The function of the page, as it stands there."""
    page = PAGE.read_text(encoding="utf-8")
    (snippet,) = [
        s for s in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "def make_saver" in s
    ]
    names: dict[str, Any] = {}
    exec(compile(snippet, str(PAGE), "exec"), names)
    made: Callable[[], Any] = names["make_saver"]
    return made


@function_tool
async def note(ctx: RunContext[Any], what: str) -> str:
    """Note it."""
    ctx.userdata["noted"] = what
    return f"Noted {what}."


def answer(messages: list[Any]) -> Any:
    last = messages[-1]
    return call("note", {"what": last.text}) if last.type == "human" else f"I have {last.text}"


def graph() -> Any:
    return create_voice_graph([Agent("desk", instructions="D.", tools=[note])], llm=ScriptedModel(answer))


async def hold(thread: str, number: int, make: Callable[[], Any]) -> list[str]:
    """One job: its store, and a call in which all of each turn is durable before the next."""
    async with make() as saver, Conversation(graph(), thread_id=thread, saver=saver) as conversation:
        assert conversation.resumed is None
        for turn in range(TURNS):
            await conversation.run(f"{number}/{turn}")
            await conversation.flush(60)
        return [m.text for m in conversation.messages]


async def read(thread: str, make: Callable[[], Any]) -> list[str]:
    async with make() as saver, Conversation(graph(), thread_id=thread, saver=saver) as conversation:
        assert conversation.resumed is not None
        return [m.text for m in conversation.messages]


@contextlib.asynccontextmanager
async def most_connections(server: Postgres) -> AsyncIterator[list[int]]:
    """The greatest number of connections that the server had meanwhile, without the one that counts."""
    seen = [0]
    async with await AsyncConnection.connect(server.uri, autocommit=True) as watching:

        async def watch() -> None:
            while True:
                found = await watching.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                )
                row = await found.fetchone()
                assert row is not None
                seen[0] = max(seen[0], row[0] - 1)
                await asyncio.sleep(0.01)

        task = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.wait([task])


async def at_once(make: Callable[[], Any]) -> None:
    threads = [f"{uuid.uuid4()}" for _ in range(CALLS)]
    said = await asyncio.gather(*(hold(thread, number, make) for number, thread in enumerate(threads)))
    for number, lines in enumerate(said):
        assert lines == [
            line
            for turn in range(TURNS)
            for line in (f"{number}/{turn}", "", f"Noted {number}/{turn}.", f"I have Noted {number}/{turn}.")
        ]
    assert await asyncio.gather(*(read(thread, make) for thread in threads)) == said


async def test_many_calls_at_once_on_a_postgres_as_it_is_installed(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.uri)
    async with most_connections(postgres) as seen:
        await at_once(make_saver())
    assert 1 <= seen[0] <= CALLS


@pytest.mark.skipif(why_no_pgbouncer() is not None, reason=why_no_pgbouncer() or "")
async def test_many_calls_at_once_behind_pgbouncer(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_pgbouncer(postgres, connections=POOLED) as uri:
        monkeypatch.setenv("DATABASE_URL", uri)
        async with most_connections(postgres) as seen:
            await at_once(make_saver())
    assert 1 <= seen[0] <= POOLED


async def test_many_calls_at_once_in_one_sqlite_file(tmp_path: Path) -> None:
    def make() -> contextlib.AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
        return AsyncSqliteSaver.from_conn_string(str(tmp_path / "calls.db"))

    await at_once(make)
