"""A LiveKit server for the whole folder, a worker for most of it, and the caller's recorded sentences."""

import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.rooms.livekit_server import MISSING, LiveKitServer, find_server, serve
from tests.rooms.worker_process import Worker, run_worker

HERE = Path(__file__).parent
DESK = HERE / "desk.py"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    program = find_server()
    if program is None:
        pytest.skip(MISSING)
    with serve(program, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def desk(server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The worker that most tests call."""
    with run_worker(DESK, server, tmp_path_factory.mktemp("desk")) as worker:
        yield worker


@pytest.fixture
def room() -> str:
    """A room that nobody was in."""
    return f"room-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Awaitable[Path]]:
    """A sentence of the caller's as an audio file."""
    from tests.rooms.speech import record

    folder = tmp_path_factory.mktemp("recordings")
    made: dict[str, Path] = {}

    async def recorded(sentence: str) -> Path:
        if sentence not in made:
            made[sentence] = await record(sentence, folder / f"{len(made)}.wav")
        return made[sentence]

    return recorded
