"""LangSmith as the environment turns it on, sending to a server of the test."""

from collections.abc import Iterator

import langsmith as langsmith_sdk
import pytest
from langsmith.utils import get_env_var
from langsmith_sink import LangSmithSink

from graph_voice.tracing import flush_traces

__all__ = ["langsmith"]


@pytest.fixture
def langsmith(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangSmithSink]:
    """`LANGSMITH_TRACING=true`, and an endpoint."""
    with LangSmithSink() as sink:
        monkeypatch.setenv("LANGSMITH_TRACING", "true")
        monkeypatch.setenv("LANGSMITH_PROJECT", "calls")
        monkeypatch.setenv("LANGSMITH_USE_DAEMON", "true")
        get_env_var.cache_clear()
        langsmith_sdk.configure(client=sink.client())
        yield sink
        flush_traces(10)
        langsmith_sdk.configure(client=None)
        monkeypatch.undo()
        get_env_var.cache_clear()
