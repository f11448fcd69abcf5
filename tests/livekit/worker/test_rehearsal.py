"""A worker that could hold no call ends with the reason, before it registers."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import worker_agent

from graph_voice.errors import LoadError
from graph_voice_livekit import create_server
from graph_voice_livekit.worker import rehearsal
from graph_voice_livekit.worker.prepared import Plan
from graph_voice_livekit.worker.rehearsal import Rehearsal

GRAPH = """
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

host = Agent("host", instructions="You are the host.")
graph = create_voice_graph([host], llm={llm})
"""
WORKS = GRAPH.format(llm='ScriptedModel(["Hello."])')


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GRAPH_VOICE_LLM", "LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)


def no_recognizer() -> Any:
    raise OSError("no model file")


def no_setup(process: Any) -> None:
    raise LookupError(f"no license for {process.executor_type.name}")


def needs_the_key() -> Any:
    return os.environ["LIVEKIT_API_KEY"]


async def told(source: str, folder: Path, **options: Any) -> str:
    """Why a worker with this file could hold no call; "" when it could."""
    (folder / "my_agent.py").write_text(source, encoding="utf-8")
    plugins = {"stt": options.pop("stt", None), "tts": None, "vad": None}
    plan = Plan(f"{folder / 'my_agent.py'}:graph", plugins, options.pop("call", None), **options)
    try:
        await Rehearsal(plan, None).play()
    except LoadError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("grpah = 1", r"has no attribute 'graph'; did you mean 'grpah'\?"),
        ("import nobody_has_this", r"my_agent\.py.*line 1.*No module named 'nobody_has_this'"),
        ("graph = 1 +", "SyntaxError"),
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("import sys; sys.exit('not configured')", "not configured"),
        ("import os; os._exit(0)", "has ended without a word"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "has ended without a word"),
        (GRAPH.format(llm='"openai:gpt-4.1"'), "OPENAI_API_KEY"),
        (GRAPH.format(llm='"mistralai:model"'), "langchain-mistralai"),
        (GRAPH.format(llm="None"), "has no model"),
    ],
)
async def test_a_graph_that_can_not_be_served_is_told(source: str, reason: str, tmp_path: Path) -> None:
    assert re.search(reason, await told(source, tmp_path), re.DOTALL)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stt": no_recognizer}, "OSError: no model file"),
        ({"prewarm": no_setup}, "LookupError: no license for PROCESS"),
    ],
)
async def test_a_plugin_or_a_setup_that_fails_is_told_with_its_lines(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    found = await told(WORKS, tmp_path, **options)
    assert reason in found
    assert "test_rehearsal.py" in found


async def test_a_graph_that_works_is_told_nothing_and_neither_one_whose_calls_may_bring_a_model(tmp_path: Path) -> None:
    assert await told(WORKS, tmp_path) == ""
    assert await told(GRAPH.format(llm="None"), tmp_path, call=worker_agent.describe_call) == ""
    assert "OPENAI_API_KEY" in await told(
        GRAPH.format(llm='"openai:gpt-4.1"'), tmp_path, call=worker_agent.describe_call
    )


async def test_a_file_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMEOUT", 0.1)
    assert "not ready after 0.1 s" in await told("import time\ntime.sleep(3600)", tmp_path)


async def test_what_livekit_is_given_for_its_job_processes_is_known_here_too(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(WORKS, encoding="utf-8")
    plan = Plan(f"{tmp_path / 'my_agent.py'}:graph", {"stt": needs_the_key, "tts": None, "vad": None}, None)
    with pytest.raises(LoadError, match="LIVEKIT_API_KEY"):
        await Rehearsal(plan, None).play()
    played = Rehearsal(plan, None)
    played.know(api_key="key", ws_url=None)
    await played.play()


@pytest.fixture
def livekit() -> Iterator[tuple[str, threading.Event]]:
    """The address of a server that no worker gets on with, and whether one has called."""
    called = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            called.set()
            connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"ws://127.0.0.1:{listening.getsockname()[1]}", called
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


MAIN = """

if __name__ == "__main__":
    from livekit.agents import cli
    from graph_voice_livekit import create_server

    cli.run_app(create_server("{graph}", host="127.0.0.1", port=0, num_idle_processes=0))
"""


@pytest.mark.parametrize("options", [[], ["--api-key", "key", "--api-secret", "secret"]])
def test_such_a_worker_ends_with_the_reason_and_its_server_never_hears_of_it(
    options: list[str], livekit: tuple[str, threading.Event], tmp_path: Path
) -> None:
    url, called = livekit
    (tmp_path / "agents.py").write_text("grpah = 1", encoding="utf-8")
    (tmp_path / "my_agent.py").write_text(MAIN.format(graph="agents.py:graph"), encoding="utf-8")
    keys = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "secret"} if not options else {}
    ended = subprocess.run(
        [sys.executable, "my_agent.py", "start", "--url", url, *options],
        cwd=tmp_path,
        env={**os.environ, **keys},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 1
    assert "has no attribute 'graph'; did you mean 'grpah'?" in ended.stdout + ended.stderr
    assert not called.is_set()


def test_a_worker_that_could_hold_a_call_asks_its_server_for_them(
    livekit: tuple[str, threading.Event], tmp_path: Path
) -> None:
    url, called = livekit
    (tmp_path / "my_agent.py").write_text(WORKS + MAIN.format(graph="my_agent.py:graph"), encoding="utf-8")
    worker = subprocess.Popen(
        [sys.executable, "my_agent.py", "start", "--url", url, "--api-key", "key", "--api-secret", "secret"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert called.wait(600)
    finally:
        worker.kill()
        worker.wait()


async def test_a_program_that_serves_by_itself_ends_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "agents.py").write_text("grpah = 1", encoding="utf-8")
    server = create_server(f"{tmp_path / 'agents.py'}:graph", ws_url="ws://127.0.0.1:1", api_key="k", api_secret="s")
    with pytest.raises(SystemExit) as ended:
        await server.run()
    assert ended.value.code == 1
    assert "could hold no call" in caplog.text
    assert "did you mean 'grpah'?" in caplog.text
