"""The applications' tests check voice calls by what the adapter's own tests check."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "livekit"))


@pytest.fixture(params=["text", "voice"])
def front_end(request: pytest.FixtureRequest) -> str:
    """In text, and through a LiveKit session with fake audio."""
    return str(request.param)
