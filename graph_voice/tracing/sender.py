"""Sending traces in one thread of the process: no turn waits for it, and the process ends without a long wait.

LangSmith's client sends in its own threads, and at its end a process waits for them for as long as the endpoint takes.
A process waits at most 2 seconds for this thread.
"""

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from langsmith import Client

__all__ = ["FLUSH_TIMEOUT", "Sender", "flush_traces", "leave_no_thread", "send_runs", "sender"]

logger = logging.getLogger("graph_voice")

FLUSH_TIMEOUT = 2.0
"""Seconds that a process may wait for its traces when it ends."""
MOST = 256
"""Traces that may wait to be sent. When an endpoint is slower than the calls, the oldest are dropped."""
AT_ONCE = 50
"""Runs per request; LangSmith takes 100."""


class Sender:
    """A queue of jobs, and the thread that does them. The thread starts with the first job."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._clients: list[Client] = []
        self._process = os.getpid()
        self._told: set[str] = set()

    def put(self, job: Callable[[], None], client: Client) -> None:
        """Do this after all earlier jobs. Returns at once; what the job raises is logged."""
        with self._changed:
            if self._process != os.getpid():  # a forked process has its parent's queue, but not its thread
                self._process, self._thread, self._busy = os.getpid(), None, False
                self._jobs.clear()
                self._clients.clear()
            if not any(client is known for known in self._clients):
                self._clients.append(client)
            if len(self._jobs) >= MOST:
                self._jobs.popleft()
                self._warn("too many traces wait to be sent; the oldest are dropped")
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="graph_voice.traces", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything has been sent. Returns False if `timeout` seconds were not enough."""
        deadline = time.monotonic() + timeout
        if self._process != os.getpid():
            return True
        with self._changed:
            while self._jobs or self._busy:
                if (left := deadline - time.monotonic()) <= 0 or not self._changed.wait(left):
                    return not (self._jobs or self._busy)
            clients = list(self._clients)
        for client in clients:
            # What the client sends itself: feedback, OpenTelemetry's spans, code with `@traceable`.
            client.flush(max(0.0, deadline - time.monotonic()))
        return time.monotonic() < deadline or not clients

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._jobs:
                    self._changed.wait()
                job, self._busy = self._jobs.popleft(), True
            try:
                job()
            except Exception as error:  # a client, or the repr of a user's object, may raise anything
                self._warn(f"a trace could not be sent: {error!r}")

    def _warn(self, text: str) -> None:
        if text not in self._told:  # an endpoint that is down fails for every turn
            self._told.add(text)
            logger.warning(text)


sender = Sender()
"""The process's own."""


def flush_traces(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Wait until the traces of all turns that are closed have been sent to LangSmith.

    A process does this itself when it ends. Call it where a process is stopped in another way (a serverless function
    that is frozen, `os._exit`). In an event loop: `await asyncio.to_thread(flush_traces)`.

    Args:
        timeout: seconds.

    Returns whether all were sent, as far as the client knows: an endpoint that refuses them is not retried forever.
    """
    return sender.flush(timeout)


def send_runs(client: Client, runs: Sequence[dict[str, Any]]) -> None:
    """Give complete runs to LangSmith in the calling thread."""
    if client.tracing_mode != "langsmith":
        for run in runs:  # the client makes OpenTelemetry's spans of them
            client.create_run(**run)
        return
    for first in range(0, len(runs), AT_ONCE):
        client.multipart_ingest(create=list(runs[first : first + AT_ONCE]))


def leave_no_thread() -> None:
    """Let LangSmith's default client use threads that a process does not wait for at its end."""
    os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")


atexit.register(sender.flush, FLUSH_TIMEOUT)
