"""An entrypoint of one's own has what `create_server` has: LiveKit's fork server has imported what a call needs."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from livekit.agents import Plugin

import graph_voice_livekit
from graph_voice_livekit.worker.server import PRELOADED, _register

OWN = """
import multiprocessing
import sys


def modules(answer):
    needed = ("graph_voice_livekit.agent", "langgraph.pregel", "langchain_core.messages", "langchain.chat_models")
    answer.put(([name for name in needed if name in sys.modules], "my_graph" in sys.modules))


if __name__ == "__main__":
    from livekit.agents import AgentServer, JobContext, Plugin

    if {imports}:
        from graph_voice_livekit import GraphAgent

    server = AgentServer({options})

    @server.rtc_session()
    async def entrypoint(ctx: JobContext) -> None: ...

    # As LiveKit's server does when it runs.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*(plugin.package for plugin in Plugin.registered_plugins), *{more}])
    answer = context.SimpleQueue()
    process = context.Process(target=modules, args=(answer,))
    process.start()
    print(answer.get())
    process.join()
"""
ALL = ["graph_voice_livekit.agent", "langgraph.pregel", "langchain_core.messages", "langchain.chat_models"]


@pytest.mark.skipif(sys.platform != "linux", reason="only where LiveKit forks")
@pytest.mark.parametrize("imports", [True, False])
def test_a_job_of_an_own_entrypoint_begins_with_what_a_call_needs(imports: bool, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN.format(imports=imports, options="", more="[]"), encoding="utf-8")
    found = subprocess.run([sys.executable, str(file)], check=True, capture_output=True, text=True, timeout=600)
    assert found.stdout.strip() == str((ALL if imports else [], False))


@pytest.mark.skipif(sys.platform != "linux", reason="only where LiveKit forks")
def test_the_modules_of_the_program_are_named_as_ever(tmp_path: Path) -> None:
    (tmp_path / "my_graph.py").write_text("", encoding="utf-8")
    file = tmp_path / "own.py"
    file.write_text(OWN.format(imports=True, options="", more='["my_graph"]'), encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, str(file)],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.stdout.strip() == str((ALL, True))


def test_it_is_registered_once_and_downloads_nothing() -> None:
    (plugin,) = [p for p in Plugin.registered_plugins if p.package == PRELOADED]
    assert plugin.title == "graph_voice"
    plugin.download_files()
    assert graph_voice_livekit.GraphAgent


def test_an_import_outside_the_main_thread_registers_nothing() -> None:
    before = list(Plugin.registered_plugins)
    thread = threading.Thread(target=_register)
    thread.start()
    thread.join()
    assert Plugin.registered_plugins == before
