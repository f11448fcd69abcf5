"""A worker as its user starts it: `python worker.py start`, in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rooms.livekit_server import LiveKitServer, free_port, wait_until

__all__ = ["Worker", "run_worker"]

READY = "registered worker"


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The worker's log so far, and that of its job processes: LiveKit writes JSON lines."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def errors(self, room: str | None = None) -> list[dict[str, Any]]:
        """What was logged as an error, in one room or at all."""
        return [e for e in self.entries if e["level"] in ("ERROR", "CRITICAL") and room in (None, e.get("room"))]

    @property
    def calls(self) -> int:
        """The number of calls that it holds now, by LiveKit's own HTTP endpoint."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/worker", timeout=5) as answer:
            return int(json.load(answer).get("active_jobs", 0))

    def wait_for_calls(self, number: int, seconds: float = 30) -> None:
        wait_until(lambda: self.calls == number, f"{number} calls in the worker", self.process, self.log, seconds)

    def stop(self) -> None:
        """Ask it to drain: it takes no more calls, and ends when those that it holds have ended."""
        self.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def run_worker(
    script: Path, server: LiveKitServer, folder: Path, *command: str, **environment: str
) -> Iterator[Worker]:
    """Start `script` and wait until the server knows it; at the end, stop it and what it has started.

    Args:
        script: a worker's module; it takes its HTTP port from the environment variable WORKER_PORT.
        server: the server that sends it calls.
        folder: where its log goes.
        command: its command line; `start` if there is none.
        environment: further environment variables.
    """
    port, log = free_port(), folder / f"{script.stem}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(script), *(command or ("start",))],
            env={
                **os.environ,
                **server.environment,
                "WORKER_PORT": str(port),
                "WORKER_FOLDER": str(folder),
                **environment,
            },
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its job processes can be ended with it
        )
    worker = Worker(process, log, port)
    try:
        wait_until(lambda: READY in log.read_text(encoding="utf-8", errors="replace"), READY, process, log, 90)
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
