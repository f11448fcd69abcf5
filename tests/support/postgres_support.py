"""A Postgres server of the tests' own: a temporary folder, a Unix socket, no port."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def program(name: str) -> str | None:
    """Where it is: on PATH, or where Debian puts it."""
    found = shutil.which(name) or next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    return str(found) if found is not None else None


def why_not() -> str | None:
    """Why there can be no server here; None when there can."""
    for name in ("initdb", "pg_ctl"):
        if program(name) is None:
            return f"{name} is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and _servant() is None:
        return "Postgres refuses to run as root, and there is no user `postgres` to run it as"
    return None


def _servant() -> str | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return None


class Postgres:
    """A server that can be stopped as by a crash, and started again.

    Args:
        folder: an empty one, with a short path.
        fsync: whether a commit waits for the disk.
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self.folder = folder
        self._fsync = "on" if fsync else "off"
        self.uri = f"postgresql:///postgres?host={folder}&user=postgres"
        self._data = folder / "data"

    def create(self) -> None:
        if (servant := _servant()) is not None and os.geteuid() == 0:
            shutil.chown(self.folder, servant)
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync={self._fsync}"
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-t", "120", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _run(self, name: str, *arguments: str) -> None:
        command = [program(name) or name, *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={_servant()}", f"--regid={_servant()}", "--init-groups", *command]
        # What the server inherits must not hold the tests' own pipes open.
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=self.folder)


@contextlib.contextmanager
def a_postgres(*, fsync: bool = False) -> Iterator[Postgres]:
    # Short: a Unix socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), fsync=fsync)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
