"""A Postgres server of the tests' own: a temporary folder, a Unix socket, no port."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

INSTALL = "scripts/install_services.sh installs it on Debian"


def program(name: str) -> str | None:
    """Where it is: on PATH, or where Debian puts it."""
    places = (*sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), *Path("/usr/sbin").glob(name))
    found = shutil.which(name) or next(iter(places), None)
    return str(found) if found is not None else None


def why_not() -> str | None:
    """Why there can be no server here; None when there can."""
    for name in ("initdb", "pg_ctl"):
        if program(name) is None:
            return f"{name} is not installed; {INSTALL}"
    if os.geteuid() == 0 and _servant() is None:
        return "Postgres refuses to run as root, and there is no user `postgres` to run it as"
    return None


def why_no_pgbouncer() -> str | None:
    """Why there can be no PgBouncer in front of one; None when there can."""
    return why_not() or (None if program("pgbouncer") else f"pgbouncer is not installed; {INSTALL}")


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
        command = _as_servant(program(name) or name, *arguments)
        # What the server inherits must not hold the tests' own pipes open.
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=self.folder)


def _as_servant(*command: str) -> list[str]:
    """Neither of them runs as root."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={_servant()}", f"--regid={_servant()}", "--init-groups", *command]


POOLED = """
[databases]
* = host={host} user=postgres pool_size={connections}

[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
pidfile =
auth_type = any
pool_mode = transaction
max_client_conn = 500
"""


@contextlib.contextmanager
def a_pgbouncer(server: Postgres, *, connections: int) -> Iterator[str]:
    """PgBouncer in front of this server, in transaction mode, with so many connections to it. Yields its address."""
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        config = Path(folder, "pgbouncer.ini")
        config.write_text(POOLED.format(host=server.folder, connections=connections, folder=folder), encoding="utf-8")
        if os.geteuid() == 0:
            shutil.chown(folder, _servant())
        config.chmod(0o644)
        command = _as_servant(program("pgbouncer") or "pgbouncer", str(config))
        log = Path(folder, "log")
        with log.open("w") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + 60
            while not Path(folder, ".s.PGSQL.6432").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"pgbouncer does not start:\n{log.read_text()}")
                time.sleep(0.05)  # another process's start can't be awaited otherwise
            yield f"postgresql:///postgres?host={folder}&port=6432&user=postgres"
        finally:
            process.terminate()
            process.wait()


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
