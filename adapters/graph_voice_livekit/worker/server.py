"""A LiveKit worker for a voice graph.

LiveKit hands the entrypoint to its job processes by pickle, so everything here is named, not passed: the graph by its
import path, plugins by module-level functions.
"""

import asyncio
import inspect
import logging
import pickle
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langgraph.graph import StateGraph
from livekit.agents import AgentServer, AgentSession, JobContext, JobProcess
from livekit.agents.voice.events import CloseEvent

from graph_voice.errors import BuildError, LoadError
from graph_voice.launch.loading import load_graph, locate
from graph_voice.tracing import flush_traces
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.session.resume import PATIENCE
from graph_voice_livekit.worker.active_agent_attribute import show_active_agent
from graph_voice_livekit.worker.failed_call import tell_caller
from graph_voice_livekit.worker.job_saver import JobSaver

__all__ = ["create_server"]

logger = logging.getLogger("graph_voice.livekit")
APOLOGY = "I'm sorry, I can't take your call right now. Please try again later."
MAX_TOOL_STEPS = 1000
"""In place of LiveKit's 3, which would cut a graph with longer chains of tools: a graph has limits of its own."""
PRELOADED = ("graph_voice_livekit.worker.server", "langchain.chat_models", "langchain_core.tracers.langchain")
"""Imported once per worker, where the platform can fork. What is not installed is left out by the fork server."""
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
    apology: str | None = APOLOGY
    saver: Callable[[], Any] | None = None
    active_agent_attribute: str | None = None


@dataclass
class _Prepared:
    """What a job process has made of the plan before its call came."""

    graph: Any = None
    plugins: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    """Why there can be no call. Kept for the call that comes, so that its caller is told."""


def create_server(
    graph: str,
    *,
    stt: Plugin = None,
    tts: Plugin = None,
    vad: Plugin = None,
    call: Describe | None = None,
    session: Mapping[str, Any] | None = None,
    apology: str | None = APOLOGY,
    agent_name: str = "",
    prewarm: Callable[[JobProcess], Any] | None = None,
    saver: Callable[[], Any] | None = None,
    preload_modules: Sequence[str] = (),
    active_agent_attribute: str | None = None,
    **server: Any,
) -> AgentServer:
    """A LiveKit `AgentServer` that answers each job with a voice graph.

    Args:
        graph: `path.py:attribute` or `package.module:attribute`, as in langgraph.json.
        stt: LiveKit's model string, or a module-level function that makes a plugin; run once per job process.
        tts: likewise; the voice of agents that declare none.
        vad: likewise.
        call: a module-level function of LiveKit's `JobContext` that returns keyword arguments of `GraphAgent` for
            this call (`thread_id`, `userdata`, `messages`, ...), sync or async. Default: the room's name as thread.
        session: further keyword arguments of LiveKit's `AgentSession`; plain data. `max_tool_steps` is 1000 unless it
            is given: the graph has its own limits.
        apology: what a caller is told when there can be no call: the graph can't be loaded, `call` raises, the
            session can't start or ends by an error. Spoken by `tts`, else written to the chat; None says nothing.
        agent_name: LiveKit's, for explicit dispatch.
        prewarm: a module-level function of LiveKit's `JobProcess`, run in each job process before a call comes
            (LiveKit's `setup_fnc`).
        saver: a module-level function that makes the checkpointer in which the call is stored, run once in the process
            of each job: an async context manager (`AsyncPostgresSaver.from_conn_string(...)`), a coroutine, or the
            checkpointer itself. It is closed when the end of the call is stored. `call` names the thread: a caller who
            comes back on the same one goes on where the call was.
        preload_modules: LiveKit's, besides what graph_voice and LangGraph need: modules that are imported once per
            worker, where the platform can fork (Linux), and shared by its job processes. Name those of your graph and
            of its providers (`langchain_openai`); they must start no thread and open no connection when imported.
        active_agent_attribute: the worker's attribute in the room that names the active agent, for a page that shows
            it. None: there is none.
        server: further keyword arguments of LiveKit's `AgentServer` (`port`, `load_fnc`, `drain_timeout`, ...).

    Raises:
        BuildError: something can't be handed to another process (a compiled graph, a lambda, a closure); the message
            has the fix.
        LoadError: there is no such file.

    Run it with LiveKit's `cli.run_app(server)`, or serve it from your own program.
    """
    if not isinstance(graph, str):
        raise BuildError(
            f"create_server({type(graph).__name__}): LiveKit starts a process for each call and pickles what it is "
            'given, and a graph can\'t be pickled. Name it: create_server("my_agent.py:graph").'
        )
    if "setup_fnc" in server:
        raise BuildError("create_server(setup_fnc=...): loading the graph is the set-up. Write prewarm=... instead.")
    plugins = {"stt": stt, "tts": tts, "vad": vad}
    plan = _Plan(locate(graph), plugins, call, dict(session or {}), apology, saver, active_agent_attribute)
    passed = {"call": call, "session": plan.options, "prewarm": prewarm, "saver": saver}
    for name, value in {**plan.plugins, **passed}.items():
        _check_pickles(name, value)
    setup = partial(_prewarm, plan=plan, more=prewarm)
    made = AgentServer(setup_fnc=setup, preload_modules=[*PRELOADED, *preload_modules], **server)
    made.rtc_session(partial(_serve, plan=plan), agent_name=agent_name)
    return made


def _check_pickles(name: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:  # pickle has a different exception for each way to fail
        raise BuildError(
            f"create_server({name}={value!r}): LiveKit pickles it for its job processes, which fails ({error}). "
            f"Write a function at the top level of a module: def make_{name}(): ..."
        ) from error


def _prewarm(process: JobProcess, *, plan: _Plan, more: Callable[[JobProcess], Any] | None = None) -> None:
    """LiveKit's prewarm: imports, the graph and the models are there before the call is.

    Nothing is raised: LiveKit would start processes in vain while the callers wait in silence.
    """
    process.userdata[_PREWARMED] = prepared = _Prepared()
    try:
        # The voice first, so that a caller can be told what else fails.
        for name in ("tts", "stt", "vad"):
            plugin = plan.plugins[name]
            if plugin is not None:
                prepared.plugins[name] = plugin() if callable(plugin) else plugin
        graph = load_graph(plan.graph)
        prepared.graph = graph.compile() if isinstance(graph, StateGraph) else graph  # once, and not per call
        if more is not None:
            more(process)
    except LoadError as error:  # its text has the lines that matter
        logger.error("no call can be held: %s", error)
        prepared.error = error
    except Exception as error:
        logger.exception("no call can be held: the set-up failed")
        prepared.error = error


async def _serve(job: JobContext, *, plan: _Plan) -> None:
    """Begin one call. What makes it impossible is told to the caller, then raised: LiveKit logs it and ends the job.

    Returns when the call has begun, since LiveKit waits for its entrypoint before it closes the session at a shutdown.
    """
    prepared: _Prepared = job.proc.userdata[_PREWARMED]
    try:
        if prepared.error is not None:
            raise prepared.error
        await _begin(job, plan, prepared)
    except Exception as error:
        await _tell(job, plan, prepared, error)
        raise


async def _begin(job: JobContext, plan: _Plan, prepared: _Prepared) -> None:
    store = JobSaver(plan.saver)
    described = await _described(job, plan.call)
    agent = GraphAgent(prepared.graph, **{"thread_id": job.room.name, "saver": await store.open(), **described})
    options = {"max_tool_steps": MAX_TOOL_STEPS, **prepared.plugins, **plan.options}
    session: AgentSession[Any] = AgentSession(**options)

    if plan.active_agent_attribute is not None:
        show_active_agent(job, session, plan.active_agent_attribute)

    def closed(event: CloseEvent) -> None:
        ending = asyncio.create_task(_end(job, plan, prepared, agent, store, event), name="graph_voice.end_of_call")

        async def ended() -> None:
            await ending

        job.add_shutdown_callback(ended)

    session.on("close", closed)
    # Read while the room is connected: the agent's first words depend on it.
    opening = asyncio.create_task(agent.conversation.open(patience=PATIENCE), name="graph_voice.open")
    try:
        await session.start(agent=agent, room=job.room)
        await opening
    except BaseException:
        opening.cancel()
        await session.aclose()
        await agent.aclose()
        await store.aclose()
        raise


async def _end(
    job: JobContext, plan: _Plan, prepared: _Prepared, agent: GraphAgent, store: JobSaver, event: CloseEvent
) -> None:
    """The session is closed: the agent leaves the room, which it would stay in until the room is closed otherwise."""
    await agent.aclose()
    await store.aclose()
    await asyncio.to_thread(flush_traces)  # a job's process may be stopped without its exit handlers
    if event.error is not None:  # LiveKit has logged it
        cause: Any = getattr(event.error, "error", event.error)  # its error events wrap the exception
        await _tell(job, plan, prepared, cause)
    job.shutdown("the call is over")


async def _tell(job: JobContext, plan: _Plan, prepared: _Prepared, error: BaseException) -> None:
    if not job.is_fake_job():  # in LiveKit's console there is no room
        await tell_caller(job, error, apology=plan.apology, tts=prepared.plugins.get("tts"))


async def _described(job: JobContext, call: Describe | None) -> Mapping[str, Any]:
    described: Any = call(job) if call is not None else {}
    if inspect.isawaitable(described):
        described = await described
    if not isinstance(described, Mapping):
        name = getattr(call, "__name__", call)
        raise BuildError(
            f"create_server(call={name}): it returned {described!r:.60}. Return a dict of GraphAgent's keyword "
            "arguments; {} for none."
        )
    return described
