from collections.abc import Iterator

import pytest

from tests.studio.studio_server import Studio, langgraph_dev


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One server for all tests: it takes seconds to start."""
    with langgraph_dev(tmp_path_factory.mktemp("studio")) as server:
        yield server
