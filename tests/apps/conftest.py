"""The two ways in which the applications are called."""

import pytest


@pytest.fixture(params=["text", "voice"])
def front_end(request: pytest.FixtureRequest) -> str:
    """In text, and through a LiveKit session with fake audio."""
    return str(request.param)
