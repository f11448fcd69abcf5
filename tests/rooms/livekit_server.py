"""A real `livekit-server` for the tests: found, configured on free loopback ports, started, stopped."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

__all__ = ["MISSING", "LiveKitServer", "find_server", "free_port", "serve", "wait_until"]

MISSING = (
    "there is no LiveKit server: install livekit-server (https://docs.livekit.io/home/self-hosting/local/) so that it "
    "is on PATH, or set LIVEKIT_SERVER to its path"
)
KEY = "graph-voice-tests"
SECRET = "a secret of the tests, longer than thirty-two bytes"


@dataclass(frozen=True)
class LiveKitServer:
    """A running server."""

    port: int
    key: str = KEY
    secret: str = SECRET

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What LiveKit's own tools read."""
        return {"LIVEKIT_URL": self.url, "LIVEKIT_API_KEY": self.key, "LIVEKIT_API_SECRET": self.secret}


def find_server() -> str | None:
    """The server's program: `LIVEKIT_SERVER`, else `livekit-server` on PATH."""
    return shutil.which(os.environ.get("LIVEKIT_SERVER") or "livekit-server")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(
    condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path, seconds: float
) -> None:
    """Poll until `condition` holds. Raises `AssertionError` with the end of the log when it can't or takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            end = log.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise AssertionError(f"{what} did not come within {seconds} s (exit code {process.poll()}):\n{end}")
        time.sleep(0.05)


@contextlib.contextmanager
def serve(program: str, folder: Path) -> Iterator[LiveKitServer]:
    """Run the server, for loopback only, until the block ends."""
    server = LiveKitServer(free_port())
    config = {
        "port": server.port,
        "bind_addresses": ["127.0.0.1"],
        "rtc": {
            "tcp_port": free_port(),
            "udp_port": free_port(socket.SOCK_DGRAM),
            "node_ip": "127.0.0.1",
            "use_external_ip": False,
            # Nobody is there. Without it the server tells its clients to ask a public one.
            "stun_servers": [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
        },
        "keys": {server.key: server.secret},
        "logging": {"level": "info"},
    }
    path, log = folder / "server.yaml", folder / "server.log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with log.open("wb") as out:
        process = subprocess.Popen([program, "--config", str(path)], stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _answers(server.port), "the LiveKit server", process, log, 30)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(2)  # it would wait longer for rooms that are still open
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
