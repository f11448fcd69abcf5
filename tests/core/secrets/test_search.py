"""A number that a caller says is searched for in everything that leaves a call, however it is misplaced."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langsmith_sink import LangSmithSink
from misplaced_support import CARD, SPELLINGS, WAYS, found_in, graph_of, texts_of_events
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


def test_there_are_enough_ways() -> None:
    assert len(WAYS) >= 40
    assert len(SPELLINGS) == 8
    assert len(CARD) == 16
