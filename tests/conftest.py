"""What every test has: the virtual clock of the test kit, no keys, and no tracing to a server."""

import logging
import os
import re
from collections.abc import Iterator

# Hypothesis's pytest plugin imports it when the tests are over otherwise, which Python 3.11 does not always survive.
import hypothesis
import pytest

pytest_plugins = ["pytester"]

# The tests need no key, and behave the same on a machine that has some: also in the processes that they start, and
# while test files are imported.
_KEYS = re.compile(
    r".+_API_(KEY|SECRET)|GOOGLE_APPLICATION_CREDENTIALS|LIVEKIT_URL|GRAPH_VOICE_LLM|LANG(SMITH|CHAIN)_.+"
)
for _name in [name for name in os.environ if _KEYS.fullmatch(name)]:
    del os.environ[_name]

# The same examples each time, as Hypothesis itself does in CI, and no judgement of how fast the machine is.
# `pytest --hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("explore", hypothesis.settings.get_profile("repeatable"), derandomize=False)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own LangSmith settings away from the tests."""
    for name in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """A command that a test runs in this process quiets loggers: not for the tests behind it."""
    loggers = [logging.getLogger(name) for name in ("livekit", "livekit.agents", "faster_whisper", "graph_voice")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
