"""A recorded call from a LangGraph store."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from langchain_core.messages import convert_to_messages
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph

from graph_voice.errors import MissingDependencyError
from graph_voice.testing.recorded.call import RecordedCall, RecordError, from_messages

__all__ = ["from_thread", "store_at"]


async def from_thread(graph: Any, saver: BaseCheckpointSaver[Any], thread_id: str) -> RecordedCall:
    """The call that a store holds under this thread. It is only read, so the call may go on meanwhile.

    Args:
        graph: the graph of the call.
        saver: the checkpointer.
        thread_id: the call's name.

    Raises `RecordError` when the store has no such thread, or nothing was said in it.
    """
    builder = graph if isinstance(graph, StateGraph) else getattr(graph, "builder", None)
    if not isinstance(builder, StateGraph):
        raise RecordError("from_thread(): give it what create_voice_graph(...) returned, compiled or not.")
    state = await builder.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": thread_id}})
    messages = (state.values or {}).get("messages")
    if not messages:
        raise RecordError(f"the store has no call under the thread {thread_id!r}.")
    return from_messages(convert_to_messages(messages), name=thread_id)


def store_at(place: str) -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
    """The LangGraph store at a path (SQLite) or a URL (postgresql://...).

    Raises `MissingDependencyError` when its package is missing, and `RecordError` when there is no such file.
    """
    if place.startswith(("postgres://", "postgresql://")):
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        except ImportError as error:
            raise MissingDependencyError(
                "--store needs a package: pip install langgraph-checkpoint-postgres"
            ) from error
        return AsyncPostgresSaver.from_conn_string(place)
    if not Path(place).is_file():
        raise RecordError(f"--store: there is no file {place}. Name a SQLite file, or postgresql://...")
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as error:
        raise MissingDependencyError("--store needs a package: pip install langgraph-checkpoint-sqlite") from error
    return AsyncSqliteSaver.from_conn_string(place)
