"""What LangSmith's tracing costs a turn: none, LangChain's tracer, graph_voice's, and that without a server to reach.

One turn is two model calls and a handoff between them, without delays. The ways alternate in one process, so that the
machine's noise hardly changes the ratio of their medians. The server that takes the runs is a process of its own.
"""

import argparse
import asyncio
import contextlib
import gc
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client

from benchmarks.figures import ratio, spread
from benchmarks.part import Effort, Measuring, Part, Row
from benchmarks.stores import Stores
from benchmarks.tables import markdown
from graph_voice import Agent, Conversation, Handoff, Turn, create_voice_graph, events
from graph_voice.call.conversation import hear
from graph_voice.testing import ScriptedModel, call
from graph_voice.tracing import flush_traces

__all__ = ["PART", "measure"]

SINK = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.say({"version": "0.12.0", "batch_ingest_config": {"use_multipart_endpoint": True, "size_limit": 100,
            "size_limit_bytes": 20971520, "scale_up_qsize_trigger": 1000, "scale_up_nthreads_limit": 16,
            "scale_down_nempty_trigger": 4}})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.say({})
    def say(self, found):
        body = json.dumps(found).encode()
        self.send_response(202)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
OFF = "no tracing"
THEIRS = "LangChain's tracer"
OURS = "graph_voice"
REFUSED = "graph_voice, endpoint refuses"


class Plain(LangChainTracer):
    """LangChain's own tracer. graph_voice replaces only the class itself, so it leaves this subclass alone."""


def measure(measuring: Measuring) -> list[Row]:
    """One row for each way."""
    turns = measuring.of(150, 15, 4)
    measuring.progress.begin(1)
    measuring.progress.step("turns with and without tracing")
    with _sink() as url, _refusing() as nobody:
        return asyncio.run(_compare(turns, url, nobody))


async def _compare(turns: int, url: str, nobody: str) -> list[Row]:
    client = Client(api_url=url, api_key="none")
    lost = Client(api_url=nobody, api_key="none")
    tracers: dict[str, Any] = {
        OFF: list,
        THEIRS: lambda: [Plain(client=client)],
        OURS: lambda: [LangChainTracer(client=client)],
        REFUSED: lambda: [LangChainTracer(client=lost)],
    }
    agents = [
        Agent("a", instructions="A", handoffs=[Handoff("b")]),
        Agent("b", instructions="B", handoffs=[Handoff("a", tool=False)]),
    ]
    words = "".join(f"word{n} " for n in range(30))
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in tracers}
    order, warm = random.Random(0), 3
    graph = create_voice_graph(agents).compile()
    gc.collect()
    gc.freeze()  # as in benchmarks/turns.py
    try:
        for index in range(turns + warm):
            for way in order.sample(list(tracers), len(tracers)):
                model = ScriptedModel({"a": [call("transfer_to_b")], "b": [words]})
                config: Any = {"callbacks": tracers[way](), "configurable": {"llm": model}}
                conversation: Conversation[Any] = Conversation(graph, config=config)
                times = await _turn(conversation.turn("hi"))
                await conversation.aclose()
                await asyncio.sleep(0.03)  # the caller speaks: deferred work is done now
                if index >= warm:
                    took[way].append(times)
    finally:
        gc.unfreeze()
    await asyncio.to_thread(flush_traces, 2.0)
    off = [statistics.median(pair[i] for pair in took[OFF]) for i in (0, 1)]
    theirs = [statistics.median(pair[i] for pair in took[THEIRS]) - off[i] for i in (0, 1)]
    rows: list[Row] = []
    for way, pairs in took.items():
        first, whole = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        rows.append(
            {
                "way": way,
                "turns": len(pairs),
                **spread("first_ms", [pair[0] for pair in pairs]),
                **spread("turn_ms", [pair[1] for pair in pairs]),
                "x_off": ratio(first, off[0]),
                "cost_first": None if way == OFF else ratio(first - off[0], theirs[0]),
                "cost_turn": None if way == OFF else ratio(whole - off[1], theirs[1]),
            }
        )
    return rows


async def _turn(turn: Turn) -> tuple[float, float]:
    """Milliseconds to the first words, and to the end."""
    began, first = time.perf_counter(), None
    turn.commit()
    async for event in turn:
        if first is None and isinstance(event, events.Text):
            first = time.perf_counter()
        hear(turn, event)
    turn.close()
    assert first is not None
    return (first - began) * 1000, (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def _sink(port: int = 0) -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", SINK, str(port)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


@contextlib.contextmanager
def _refusing() -> Iterator[str]:
    """An endpoint that is down. In the end it is up: the process sends its traces in order, and what waits to be sent
    again would hold up all that is traced later."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening
        port = taken.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    with _sink(port):
        flush_traces(60.0)


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "way": "",
            "first_ms_p50": "first words p50, ms",
            "first_ms_p95": "p95",
            "turn_ms_p50": "turn p50, ms",
            "x_off": "first words x no tracing",
            "cost_first": "added to first words x LangChain's tracer",
            "cost_turn": "added to the turn x LangChain's tracer",
        },
    )


PART = Part("tracing", "tracing to LangSmith: a turn with two model calls", measure, table)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer turns")
    effort = Effort.QUICK if options.parse_args().quick else Effort.FULL
    print(table(measure(Measuring(effort, Stores(Path(), None, None)))))


if __name__ == "__main__":
    main()
