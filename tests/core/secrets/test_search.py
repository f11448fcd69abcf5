"""A number that a caller says is searched for in everything that leaves a call, however it is misplaced."""

import contextlib
import itertools
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langsmith_sink import LangSmithSink
from misplaced_support import CARD, SPELLINGS, WAYS, Rejected, found_in, graph_of, texts_of_events
from postgres_support import a_postgres, why_not
from secrets_support import sqlite_bytes

from graph_voice import Conversation
from graph_voice.notebook_html import conversation_html


def nowhere(where: str, found: Any) -> None:
    text = found if isinstance(found, str) else "\n".join(map(str, found))
    stretch = found_in(text)
    assert stretch is None, f"{where}: ...{stretch}..."


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=list(SPELLINGS))
def test_the_search_finds_every_spelling(spelled: str) -> None:
    for text in (spelled, f"It is {spelled}.", json.dumps({"a": spelled}), repr([spelled]), repr(spelled.encode())):
        assert found_in(text) or "\\xd9" in text, text
    assert found_in("One of 5273 people had 84916 things, and 47 more in 2026.") is None


async def search(way: str, graph: Any, thread: str, tracer: Any, saver: Any, spelled: str) -> None:
    """Hold a call in which the number is misplaced, and search what a program can see of it."""
    conversation: Any = Conversation(graph, thread_id=thread, config={"callbacks": [tracer]}, saver=saver)
    seen: list[Any] = []
    async with conversation:
        for words in WAYS[way].words:
            seen += await conversation.run(words.format(spelled))
        messages = [*conversation.messages, *conversation.chat_ctx]
        nowhere("messages", json.dumps([m.model_dump() for m in messages], default=repr))
        nowhere("messages", map(repr, messages))
        nowhere("state", repr(conversation.state))
        nowhere("interrupts", repr(conversation.interrupts))
        nowhere("HTML", conversation_html(conversation))
    nowhere("events", texts_of_events(seen))


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_that_leaves_a_call_has_it(way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for logger in ("graph_voice", "langgraph", "langchain", "langsmith", "asyncio"):
        caplog.set_level(logging.DEBUG, logger)
    path = tmp_path / "calls.sqlite"
    with LangSmithSink() as langsmith:
        tracer = LangChainTracer(client=langsmith.client())
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            for spelling, spelled in SPELLINGS.items():
                graph, _, _ = graph_of(WAYS[way], spelled)
                await search(way, graph, spelling, tracer, saver, spelled)
        langsmith.wait()
        assert len(langsmith.roots) >= len(SPELLINGS)
        nowhere("LangSmith", langsmith.received.decode(errors="replace"))
    stored = sqlite_bytes(path).decode(errors="replace")
    assert all(f"{spelling}|" in stored for spelling in SPELLINGS)
    nowhere("the database", stored)
    nowhere("the log", caplog.text)


@pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
async def test_a_postgres_server_s_files_and_log_have_it_nowhere() -> None:
    ways = [way for way in WAYS if way.startswith(("a ", "another tool", "words", "said"))]
    with a_postgres() as server:
        async with AsyncPostgresSaver.from_conn_string(server.uri) as saver:
            await saver.setup()
            for way, spelling in itertools.product(ways, ("groups", "words")):
                spelled = SPELLINGS[spelling]
                graph, _, _ = graph_of(WAYS[way], spelled)
                async with Conversation(graph, thread_id=f"{way}, {spelling}", saver=saver) as conversation:
                    for words in WAYS[way].words:
                        await conversation.run(words.format(spelled))
            rows: list[str] = []
            for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
                found = await (await saver.conn.execute(f"select * from {table}")).fetchall()  # type: ignore[union-attr,arg-type]
                rows += [repr(row) for row in found]
            await saver.conn.execute("checkpoint")  # type: ignore[union-attr]
        assert len(rows) > len(ways)
        nowhere("the rows", rows)
        files = [path for path in server.folder.rglob("*") if path.is_file()]
        assert any(path.parent.name == "pg_wal" for path in files)
        raw = b"".join(path.read_bytes() for path in files)
        assert b"My card is **********" in raw
        assert not [name for name, spelled in SPELLINGS.items() if spelled.encode() in raw]


TYPED = [way for way in WAYS if WAYS[way].start == "till" and "interrupt" not in way and "turns" not in way]


@pytest.mark.parametrize("way", TYPED)
async def test_in_a_run_without_a_conversation_only_what_was_typed_has_it(way: str, tmp_path: Path) -> None:
    """What a run is given is stored and streamed by LangGraph, so it is cut out here."""
    path = tmp_path / "calls.sqlite"
    modes: list[Any] = ["updates", "values", "debug", "tasks", "checkpoints", "custom"]
    spellings = {name: SPELLINGS[name] for name in ("plain", "groups", "words")}
    typed = [words.format(spelled) for words in WAYS[way].words for spelled in spellings.values()]
    cut = re.compile("|".join(map(re.escape, sorted(typed, key=len, reverse=True))))
    streamed: list[str] = []
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        for spelling, spelled in spellings.items():
            graph = graph_of(WAYS[way], spelled)[0].compile(checkpointer=saver)
            config: Any = {"configurable": {"thread_id": spelling}}
            for words in WAYS[way].words:
                with contextlib.suppress(Rejected, ConnectionError, OSError):
                    said = {"messages": [words.format(spelled)]}
                    streamed += [repr(part) async for part in graph.astream(said, config, stream_mode=modes)]
            streamed += [repr(snapshot) async for snapshot in graph.aget_state_history(config)]
    nowhere("streams", cut.sub("", "\n".join(streamed)))
    nowhere("the database", cut.sub("", sqlite_bytes(path).decode(errors="replace")))


def test_there_are_enough_ways() -> None:
    assert len(WAYS) >= 40
    assert len(SPELLINGS) == 8
    assert len(CARD) == 16
