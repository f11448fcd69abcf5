"""An endpoint that is down delays neither a turn nor the end of the process."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from langsmith_sink import LangSmithSink

from graph_voice.tracing.sender import FLUSH_TIMEOUT

CALL = '''
import asyncio, json, threading, time
import requests

asked = []
request = requests.Session.request

def watched(self, *args, **kwargs):
    asked.append(threading.current_thread() is threading.main_thread())
    return request(self, *args, **kwargs)

requests.Session.request = watched

from langsmith import traceable
from graph_voice import Agent, Conversation, create_voice_graph
from graph_voice.testing import ScriptedModel

@traceable
def beside():
    """Sent by LangSmith's own thread."""

async def main():
    model = ScriptedModel(["One."] * 3)
    conversation = Conversation(create_voice_graph([Agent("a", instructions="A")], llm=model))
    for text in ("a", "b", "c"):
        await conversation.run(text)
    conversation.score("resolved", 1)
    await conversation.aclose()
    beside()

asyncio.run(main())
print(json.dumps({"over": time.time(), "asked by the call": any(asked)}), flush=True)
'''
SLACK = 2.0
"""Seconds that a machine with much to do may need more than an idle one; without a cap it is 8 seconds and more."""


def end_of(endpoint: str | None) -> float:
    """Seconds that the process takes from the end of its call to its own end."""
    environment = {**os.environ, "LANGSMITH_TRACING": "false"}
    if endpoint is not None:
        environment |= {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": endpoint, "LANGSMITH_API_KEY": "none"}
    process = subprocess.Popen(
        [sys.executable, "-c", CALL], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, errors = process.communicate(timeout=120)
    ended = time.time()
    assert process.returncode == 0, errors
    told = json.loads(out)
    assert not told["asked by the call"], "the event loop's own thread sends nothing"
    return float(ended - told["over"])


@contextmanager
def refusing() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(64)  # the connection is made, and nobody ever answers
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def usual() -> float:
    return end_of(None)


@pytest.mark.parametrize("endpoint", [refusing, silent])
def test_the_process_ends_within_two_seconds(endpoint: object, usual: float) -> None:
    with endpoint() as url:  # type: ignore[operator]
        # Without a cap it never ends in time; with one, only a machine that did something else meanwhile lets it wait.
        assert any(end_of(url) < usual + FLUSH_TIMEOUT + SLACK for _ in range(3))


def test_a_process_that_ends_at_once_has_sent_its_traces() -> None:
    with LangSmithSink() as sink:
        end_of(sink.url)
        names = sorted(run.name for run in sink.roots)
        assert names == ["beside", "turn", "turn", "turn"]
        assert [one["key"] for one in sink.feedback] == ["resolved"]


def test_an_endpoint_that_fails_costs_the_traces_and_nothing_else() -> None:
    with LangSmithSink(status=500) as sink:
        assert end_of(sink.url) < 60
        assert sink.requests
