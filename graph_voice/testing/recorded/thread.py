"""A recorded call from a LangGraph store."""

import sqlite3
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

from langchain_core.messages import convert_to_messages
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from graph_voice.errors import MissingDependencyError
from graph_voice.testing.recorded.call import RecordedCall, RecordError, from_messages

__all__ = ["from_thread", "is_url", "reader_of", "store_at"]


async def from_thread(graph: Any, saver: BaseCheckpointSaver[Any], thread_id: str) -> RecordedCall:
    """The call that a store holds under this thread. It is only read, so the call may go on meanwhile.

    Args:
        graph: the graph of the call.
        saver: the checkpointer.
        thread_id: the call's name.

    Raises `RecordError` when the store has no such thread, or nothing was said in it.
    """
    state = await reader_of(graph, saver).aget_state({"configurable": {"thread_id": thread_id}})
    messages = (state.values or {}).get("messages")
    if not messages:
        raise RecordError(f"the store has no call under the thread {thread_id!r}.")
    return from_messages(convert_to_messages(messages), name=thread_id)


def reader_of(graph: Any, saver: BaseCheckpointSaver[Any]) -> Pregel[Any, Any, Any, Any]:
    """The graph, compiled to read what this checkpointer holds of its calls. Raises `RecordError` for another value."""
    builder = graph if isinstance(graph, StateGraph) else getattr(graph, "builder", None)
    if not isinstance(builder, StateGraph):
        raise RecordError("a thread is read with what create_voice_graph(...) returned, compiled or not.")
    return builder.compile(checkpointer=saver)


def store_at(place: str, option: str = "--store") -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
    """The LangGraph store at a path (SQLite) or a URL (postgresql://...).

    Args:
        place: the path or the URL.
        option: which option named it.

    Raises `MissingDependencyError` when its package is missing, and `RecordError` when there is no such file, or none
    with LangGraph's checkpoints.
    """
    if is_url(place):
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        except ImportError as error:
            raise MissingDependencyError(
                f"{option} needs a package: pip install langgraph-checkpoint-postgres"
            ) from error
        return AsyncPostgresSaver.from_conn_string(place)
    if not Path(place).is_file():
        raise RecordError(f"{option}: there is no file {place}. Name a SQLite file, or postgresql://...")
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as error:
        raise MissingDependencyError(f"{option} needs a package: pip install langgraph-checkpoint-sqlite") from error
    _require_checkpoints(place, option)
    return AsyncSqliteSaver.from_conn_string(place)


def is_url(place: str) -> bool:
    """Whether this names a Postgres server."""
    return place.startswith(("postgres://", "postgresql://"))


def _require_checkpoints(place: str, option: str) -> None:
    """The saver makes its tables in any file that it opens. One without them is left alone."""
    try:
        with closing(sqlite3.connect(f"{Path(place).absolute().as_uri()}?mode=ro", uri=True)) as opened:
            found = opened.execute("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'").fetchone()
    except sqlite3.DatabaseError as error:
        raise RecordError(f"{option}: {place} can't be read as a SQLite file: {error}.") from error
    if found is None:
        raise RecordError(f"{option}: {place} holds no checkpoints of LangGraph's.")
