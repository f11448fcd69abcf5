"""A LiveKit worker for a voice graph.

LiveKit hands the entrypoint to its job processes by pickle, so everything here is named, not passed: the graph by its
import path, plugins by module-level functions.
"""

import asyncio
import inspect
import pickle
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from livekit.agents import AgentServer, AgentSession, JobContext, JobProcess
from livekit.agents.voice.events import CloseEvent

from graph_voice.errors import BuildError
from graph_voice.loading import load_graph
from graph_voice_livekit.agent import GraphAgent

__all__ = ["create_server"]

Plugin = str | Callable[[], Any] | None
Describe = Callable[[JobContext], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
_PREWARMED = "graph_voice"


@dataclass(frozen=True)
class _Plan:
    """What a job process needs to hold a call."""

    graph: str
    plugins: Mapping[str, Plugin]
    call: Describe | None
    options: Mapping[str, Any] = field(default_factory=dict)


def create_server(
    graph: str,
    *,
    stt: Plugin = None,
    tts: Plugin = None,
    vad: Plugin = None,
    call: Describe | None = None,
    session: Mapping[str, Any] | None = None,
    agent_name: str = "",
    **server: Any,
) -> AgentServer:
    """A LiveKit `AgentServer` that answers each job with a voice graph.

    Args:
        graph: `path.py:attribute` or `package.module:attribute`, as in langgraph.json.
        stt: LiveKit's model string, or a module-level function that makes a plugin; run once per job process.
        tts: likewise; the voice of agents that declare none.
        vad: likewise.
        call: a module-level function of LiveKit's `JobContext` that returns keyword arguments of `GraphAgent` for
            this call (`thread_id`, `userdata`, `context`, ...), sync or async. Default: the room's name as thread.
        session: further keyword arguments of LiveKit's `AgentSession`; plain data.
        agent_name: LiveKit's, for explicit dispatch.
        server: further keyword arguments of LiveKit's `AgentServer`.

    Raises `BuildError` for what can't be handed to another process (a compiled graph, a lambda, a closure), with the
    fix. Run it with LiveKit's `cli.run_app(server)`, or serve it from your own program.
    """
    if not isinstance(graph, str):
        raise BuildError(
            f"create_server({type(graph).__name__}): LiveKit starts a process for each call and pickles what it is "
            'given, and a graph can\'t be pickled. Name it: create_server("my_agent.py:graph").'
        )
    plan = _Plan(_absolute(graph), {"stt": stt, "tts": tts, "vad": vad}, call, dict(session or {}))
    for name, value in {**plan.plugins, "call": call, "session": plan.options}.items():
        _check_pickles(name, value)
    made = AgentServer(setup_fnc=partial(_prewarm, plan=plan), **server)
    made.rtc_session(partial(_serve, plan=plan), agent_name=agent_name)
    return made


def _absolute(graph: str) -> str:
    """The job process may have another working directory."""
    path, colon, attribute = graph.rpartition(":")
    if not colon:
        path, attribute = graph, "graph"
    return f"{Path(path).resolve()}:{attribute}" if path.endswith(".py") else f"{path}:{attribute}"


def _check_pickles(name: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:  # pickle has a different exception for each way to fail
        raise BuildError(
            f"create_server({name}={value!r}): LiveKit pickles it for its job processes, which fails ({error}). "
            f"Write a function at the top level of a module: def make_{name}(): ..."
        ) from error


def _prewarm(process: JobProcess, *, plan: _Plan) -> None:
    """LiveKit's prewarm: imports, the graph and the models are there before the call is."""
    plugins = {k: v() if callable(v) else v for k, v in plan.plugins.items() if v is not None}
    process.userdata[_PREWARMED] = (load_graph(plan.graph), plugins)


async def _serve(job: JobContext, *, plan: _Plan) -> None:
    """One call. Ends with the session, so that the job does not live on until the room is closed."""
    graph, plugins = job.proc.userdata[_PREWARMED]
    described: Any = plan.call(job) if plan.call is not None else {}
    if inspect.isawaitable(described):
        described = await described
    agent = GraphAgent(graph, **{"thread_id": job.room.name, **described})
    session: AgentSession[Any] = AgentSession(**{**plugins, **plan.options})
    over = asyncio.Event()

    def closed(_: CloseEvent) -> None:
        over.set()

    session.on("close", closed)
    job.add_shutdown_callback(agent.aclose)
    await session.start(agent=agent, room=job.room)
    await over.wait()
    await agent.aclose()
