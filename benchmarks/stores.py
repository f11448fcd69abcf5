"""The checkpointers: each conversation has its own, on a disk with fsync."""

import contextlib
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.ways import Store

__all__ = ["ROOT", "Stores", "stores"]

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests" / "support"))

from postgres_support import a_postgres, why_not  # noqa: E402  # the tests' own server


class Stores:
    """Makes checkpointers.

    Args:
        folder: where SQLite's files are.
        postgres: the server's URI; None if there is none.
        why_no_postgres: why there is none.
    """

    def __init__(self, folder: Path, postgres: str | None, why_no_postgres: str | None) -> None:
        self.folder = folder
        self.postgres = postgres
        self.why_no_postgres = why_no_postgres
        self._numbers = itertools.count(1)
        self._is_set_up = False

    def lacks(self, store: Store) -> str | None:
        """Why there is no such store here; None when there is."""
        return self.why_no_postgres if store is Store.POSTGRES else None

    def thread_id(self) -> str:
        """A new one."""
        return f"call-{next(self._numbers)}"

    def file(self) -> Path:
        """A new SQLite file."""
        return self.folder / f"{next(self._numbers)}.db"

    @contextlib.asynccontextmanager
    async def open(self, store: Store) -> AsyncIterator[BaseCheckpointSaver[Any] | None]:
        """A checkpointer for one conversation; None for no store."""
        match store:
            case Store.NONE:
                yield None
            case Store.MEMORY:
                yield InMemorySaver()
            case Store.SQLITE:
                async with AsyncSqliteSaver.from_conn_string(str(self.file())) as saver:
                    yield saver
            case Store.POSTGRES:
                assert self.postgres is not None
                async with AsyncPostgresSaver.from_conn_string(self.postgres) as saver:
                    if not self._is_set_up:
                        await saver.setup()
                        self._is_set_up = True
                    yield saver


@contextlib.contextmanager
def stores(*, postgres: bool = True) -> Iterator[Stores]:
    """A temporary folder, and a Postgres server if one is installed.

    Args:
        postgres: False: none is started.
    """
    why = why_not() if postgres else "it was not asked for"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graph-voice-bench-")))
        server = stack.enter_context(a_postgres(fsync=True)) if why is None else None
        yield Stores(folder, server.uri if server is not None else None, why)
