"""`python my_agent.py COMMAND` as far as it goes without a server: help, LiveKit's console, what is wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HALF_A_SECOND = 24_000
"""Bytes of 16-bit sound at the console's 24 kHz."""
LIVEKIT = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
MY_AGENT = """
from livekit.agents import cli
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel
from graph_voice_livekit import create_server
from graph_voice_livekit.testing import FakeTTS

model = ScriptedModel(lambda messages: "Hello there.")
graph = create_voice_graph([Agent("host", instructions="You are the host.", on_enter="Greet.")], llm=model)

def make_tts():
    return FakeTTS("host")

if __name__ == "__main__":
    cli.run_app(create_server("my_agent.py:graph", tts=make_tts, session={"vad": None}, host="127.0.0.1", port=0))
"""


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in LIVEKIT} | more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_agent.py").write_text(MY_AGENT, encoding="utf-8")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "my_agent.py", *command],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_the_command_line_is_livekits(folder: Path) -> None:
    told = run(folder, "--help")
    assert told.returncode == 0
    assert all(command in told.stdout for command in ("console", "start", "dev", "connect"))


@pytest.mark.parametrize("command", ["start", "dev"])
def test_missing_keys_are_named(folder: Path, command: str) -> None:
    if command == "dev":
        pytest.importorskip("watchfiles")
    told = run(folder, command, *(["--no-reload"] if command == "dev" else []))
    assert "set LIVEKIT_URL environment variable" in told.stdout + told.stderr


def test_a_missing_file_is_named_with_what_is_there(folder: Path) -> None:
    (folder / "my_agent.py").write_text(MY_AGENT.replace("my_agent.py:graph", "my_agnt.py:graph"), encoding="utf-8")
    told = run(folder, "start")
    assert told.returncode != 0
    assert told.stderr.strip().splitlines()[-1].endswith("did you mean my_agent.py?")


def test_the_console_plays_the_agents_first_words(folder: Path) -> None:
    played = folder / "played.pcm"
    path = os.pathsep.join([str(HERE / "console_device"), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = folder / "console.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "my_agent.py", "console"],
            cwd=folder,
            env=environment(PYTHONPATH=path, CONSOLE_PLAYED=str(played)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 600
        # At the console's own rate and gain the fake voice's words can't be read any more: sound is what shows.
        while not (played.exists() and played.stat().st_size >= HALF_A_SECOND):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
