"""From LiveKit's dispatch of a job to its entrypoint, in job processes of LiveKit's own pool.

A job finds a process that waits for it ("warm"), or, when all are taken, a new one is made ("new"): there it counts
what has been imported before. Compared: `spawn`, the fork server with what LiveKit preloads, and with what
`create_server` adds. No server and no room: LiveKit's mock job.
"""

import asyncio
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from livekit.agents import JobContext, JobExecutorType
from livekit.agents.ipc.proc_pool import ProcPool
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.protocol import agent, models

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

ROUNDS = int(os.environ.get("ROUNDS", "5"))
FRAMEWORK = ["livekit.agents.ipc._preload", "livekit.agents.ipc._preload_freeze"]
graph = create_voice_graph([Agent("host", instructions="You are the host.")], llm=ScriptedModel(["Hello."]))


async def entrypoint(job: JobContext) -> None:
    """Notes when it runs, and when there is an agent that could speak."""
    began = time.time()
    from graph_voice_livekit import GraphAgent

    GraphAgent(job.proc.userdata["graph_voice"].graph)
    Path(job.job.room.name).write_text(json.dumps([began, time.time()]))  # noqa: ASYNC240 - nobody else runs here
    job.shutdown("measured")


async def launch(pool: ProcPool, folder: Path, number: int) -> tuple[float, float]:
    """Milliseconds from the dispatch to the entrypoint, and to the agent."""
    told = folder / f"{number}.json"
    info = RunningJobInfo(
        worker_id="worker",
        accept_arguments=JobAcceptArguments(identity="agent", name="", metadata=""),
        job=agent.Job(id=f"job-{number}", room=models.Room(sid="RM", name=str(told)), type=agent.JobType.JT_ROOM),
        url="",
        token="",
        fake_job=True,
    )
    dispatched = time.time()
    await pool.launch_job(info)
    while not told.exists() or not told.read_text():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.005)
    began, ready = json.loads(told.read_text())
    return (began - dispatched) * 1000, (ready - dispatched) * 1000


async def measure(method: str, preloaded: list[str], idle: int, folder: Path) -> list[tuple[float, float]]:
    from graph_voice_livekit import create_server

    server = create_server(f"{__file__}:graph")
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([*preloaded, *FRAMEWORK])
    pool = ProcPool(
        initialize_process_fnc=server.setup_fnc,  # type: ignore[arg-type]
        job_entrypoint_fnc=entrypoint,
        session_end_fnc=None,
        simulation_end_fnc=None,
        num_idle_processes=idle,
        initialize_timeout=60,
        close_timeout=10,
        session_end_timeout=10,
        inference_executor=None,
        job_executor_type=JobExecutorType.PROCESS,
        mp_ctx=context,
        memory_warn_mb=0,
        memory_limit_mb=0,
        http_proxy=None,
        loop=asyncio.get_running_loop(),
    )
    await pool.start()
    found = []
    for number in range(ROUNDS + 1):
        found.append(await launch(pool, folder, number))
        await asyncio.sleep(3)  # the process ends, and the next one gets warm
    await pool.aclose()
    return found[1:]  # the first one starts the fork server


def report(method: str, preloaded: str, idle: str) -> None:
    """One configuration, in a process of its own: a fork server is started once per process."""
    from graph_voice_livekit.server import PRELOADED

    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(method, list(PRELOADED) if preloaded == "ours" else [], int(idle), Path(folder)))
    began, ready = zip(*found, strict=True)
    name = {"ours": "fork server, with create_server's modules", "none": "fork server, as LiveKit has it"}[preloaded]
    cells = [name if method == "forkserver" else "spawn", "warm" if idle == "1" else "new"]
    cells += [f"{statistics.median(x):.0f}" for x in (began, ready)] + [f"{max(ready):.0f}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    print(
        "| processes | process | entrypoint runs, ms | agent is there, ms (median) | (longest) |\n|---|---|---|---|---|"
    )
    for configuration in (
        ("spawn", "none", "0"),
        ("forkserver", "none", "0"),
        ("forkserver", "ours", "0"),
        ("forkserver", "none", "1"),
        ("forkserver", "ours", "1"),
    ):
        subprocess.run([sys.executable, __file__, *configuration], check=True)


def _configured() -> Any:
    return report(*sys.argv[1:]) if len(sys.argv) > 1 else main()


if __name__ == "__main__":
    _configured()
