"""One configuration of LiveKit's job processes, in a process of its own: `benchmarks/job_start.py` compares them.

It imports only what a worker's own module would, because imports here count in every job process.
"""

import asyncio
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from livekit.agents import JobContext, JobExecutorType
from livekit.agents.ipc.proc_pool import ProcPool
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.protocol import agent, models

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

FRAMEWORK = ["livekit.agents.ipc._preload", "livekit.agents.ipc._preload_freeze"]
graph = create_voice_graph([Agent("host", instructions="You are the host.")], llm=ScriptedModel(["Hello."]))


async def entrypoint(job: JobContext) -> None:
    """Note when it runs, and when there is an agent that could speak."""
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


async def measure(method: str, preloaded: list[str], idle: int, rounds: int, folder: Path) -> list[tuple[float, float]]:
    """Run this many jobs, one after the other. The first one, which starts the fork server, is not counted."""
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
    ready, closed = asyncio.Semaphore(0), asyncio.Semaphore(0)
    pool.on("process_ready", lambda process: ready.release())
    pool.on("process_closed", lambda process: closed.release())
    await pool.start()
    found = []
    for number in range(rounds + 1):
        if idle:
            await ready.acquire()
        found.append(await launch(pool, folder, number))
        await closed.acquire()  # so that its end does not disturb the next one
    await pool.aclose()
    return found[1:]


def main(method: str, preloaded: str, idle: str, rounds: str) -> None:
    """Print what was measured as JSON."""
    from graph_voice_livekit.worker.server import PRELOADED

    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    modules = [PRELOADED] if preloaded == "ours" else []
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(method, modules, int(idle), int(rounds), Path(folder)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
