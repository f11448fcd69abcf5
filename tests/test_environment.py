"""The tests need no key, and see none of those that a developer has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = (
    "OPENAI_API_KEY",
    "CARTESIA_API_KEY",
    "LIVEKIT_URL",
    "LIVEKIT_API_SECRET",
    "LANGSMITH_TRACING",
    "GRAPH_VOICE_LLM",
)


@pytest.mark.parametrize("name", KEYS)
def test_no_key_is_seen(name: str) -> None:
    assert name not in os.environ


def test_none_is_seen_either_where_a_developer_has_them() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "no_key"]
    environment = {**os.environ, **dict.fromkeys(KEYS, "https://not-used.invalid")}
    ran = subprocess.run(command, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert f"{len(KEYS)} passed" in ran.stdout
