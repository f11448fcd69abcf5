"""What every test has: the virtual clock of the test kit, and no tracing to a server."""

# Hypothesis's pytest plugin imports it when the tests are over otherwise, which Python 3.11 does not always survive.
import hypothesis  # noqa: F401
import pytest

pytest_plugins = ["graph_voice.testing.pytest_plugin"]


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own LangSmith settings away from the tests."""
    for name in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.delenv(name, raising=False)
