"""One `langgraph dev` for all tests: the real server, on a free port of this machine, with a provider's stand-in."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from provider_support import Anthropic

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REMOTE = ["forecaster", "payer", "searcher", "storyteller", "travel"]
"""The graphs of remote_graphs.py."""
PATIENCE = 120.0
"""Seconds until the server answers, on the slowest machine."""


@dataclass
class Studio:
    """The running server, as Studio sees it."""

    http: httpx.Client
    provider: Anthropic
    """What answers for "anthropic:..."; `requests` holds what it was asked."""
    outbound: Path
    """What the server tried to reach elsewhere."""
    folder: Path

    def get(self, path: str, **params: Any) -> Any:
        return _json(self.http.get(path, params=params))

    def post(self, path: str, **body: Any) -> Any:
        return _json(self.http.post(path, json=body))

    def assistant(self, graph: str) -> str:
        (found,) = self.post("/assistants/search", graph_id=graph)
        return str(found["assistant_id"])

    def thread(self) -> str:
        return str(self.post("/threads")["thread_id"])

    def say(self, thread: str, graph: str, text: str, **options: Any) -> Any:
        """One turn as Studio's chat takes it; the state's values afterwards."""
        message = {"role": "user", "content": text}
        return self.run(thread, graph, input={"messages": [message]}, **options)

    def run(self, thread: str, graph: str, **options: Any) -> Any:
        return self.post(f"/threads/{thread}/runs/wait", assistant_id=graph, **options)


def _json(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.status_code}: {answer.text}"
    return answer.json()


@contextmanager
def langgraph_dev(folder: Path, graphs: dict[str, str] | None = None) -> Iterator[Studio]:
    """The server, in this folder, until the block ends. `graphs`: what it serves; default: the repository's."""
    outbound = folder / "outbound"
    config = json.loads((ROOT / "langgraph.json").read_text())
    config["dependencies"] = [str(ROOT)]
    config["graphs"] = {name: str(ROOT / spec) for name, spec in config["graphs"].items()}
    config["graphs"]["asking"] = f"{HERE / 'asking.py'}:graph"
    config["graphs"] |= {name: f"{HERE / 'remote_graphs.py'}:{name}" for name in REMOTE}
    config["graphs"] = graphs or config["graphs"]
    (folder / "langgraph.json").write_text(json.dumps(config))
    with _Provider() as provider, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        hidden = ("GRAPH_VOICE_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        env |= {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "true"}
        env |= {"ANTHROPIC_API_KEY": "key", "ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_URL": provider.url}
        path = [str(HERE.parent / "watched"), *filter(None, [env.get("PYTHONPATH")])]
        env |= {"OUTBOUND_CALLS": str(outbound), "PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1"}
        command = [Path(sys.executable).with_name("langgraph"), "dev", "--no-browser", "--no-reload"]
        log = folder / "log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as http:
                _wait(http, process, log)
                yield Studio(http, provider, outbound, folder)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(http: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if http.get("/ok").is_success:
                return
        except httpx.TransportError:
            pass
        # Another process's start can't be awaited otherwise.
        time.sleep(0.1)
    raise RuntimeError(f"langgraph dev does not answer:\n{log.read_text()[-4000:]}")


class _Provider:
    """The stand-in, in a thread with an event loop of its own: the tests' loops come and go."""

    def __enter__(self) -> Anthropic:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="provider")
        self.thread.start()
        made = Anthropic([])
        self.serving = made.serve()
        asyncio.run_coroutine_threadsafe(self.serving.__aenter__(), self.loop).result(30)
        return made

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.serving.__aexit__(None, None, None), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
