"""LangGraph's `get_stream_writer()` in the tools of a turn."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

__all__ = ["with_writer"]


def with_writer(config: RunnableConfig, put: Callable[[Any], None]) -> RunnableConfig:
    """This config with a stream writer that calls `put` at once, before the tool goes on.

    LangGraph's own writes to the run's stream, which is read later: after the tool's result and its handoff.
    """
    loop, here = asyncio.get_running_loop(), threading.get_ident()

    def write(data: Any) -> None:
        if threading.get_ident() == here:
            put(data)
        else:  # a sync tool runs in a thread
            loop.call_soon_threadsafe(put, data)

    given = config.get("configurable", {})
    configurable = {k: v.override(stream_writer=write) if isinstance(v, Runtime) else v for k, v in given.items()}
    return {**config, "configurable": configurable}
