"""A LiveKit worker for a voice graph.

LiveKit pickles the entrypoint for its job processes, so everything here is given by name: the graph by its import path,
plugins by module-level functions.
"""

import asyncio
import contextlib
import difflib
import inspect
import logging
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from langchain_core.runnables.config import merge_configs
from livekit.agents import AgentServer, AgentSession, JobContext, JobProcess, Plugin, room_io
from livekit.agents.voice.events import CloseEvent

from graph_voice.errors import BuildError, LoadError
from graph_voice.launch.loading import locate
from graph_voice.tracing import flush_traces
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.session.resume import PATIENCE
from graph_voice_livekit.worker.active_agent_attribute import show_active_agent
from graph_voice_livekit.worker.custom_topic import OnCustom, both, send_custom
from graph_voice_livekit.worker.failed_call import tell_caller
from graph_voice_livekit.worker.job_saver import JobSaver
from graph_voice_livekit.worker.observing import Observe, Observing, observing
from graph_voice_livekit.worker.prepared import APOLOGY, Describe, Plan, PluginMaker, Prepared, Prewarm, prepare
from graph_voice_livekit.worker.rehearsal import Rehearsal

__all__ = ["create_server"]

logger = logging.getLogger("graph_voice.livekit")
MAX_TOOL_STEPS = 1000
"""Instead of LiveKit's 3, which would stop a graph that calls more tools in a row: a graph has its own limits."""
PRELOADED = "graph_voice_livekit.worker.preloaded"
"""Imported once per worker, where the platform can fork."""


def create_server(
    graph: str,
    *,
    stt: PluginMaker = None,
    tts: PluginMaker = None,
    vad: PluginMaker = None,
    call: Describe | None = None,
    session: Mapping[str, Any] | None = None,
    apology: str | None = APOLOGY,
    agent_name: str = "",
    prewarm: Prewarm | None = None,
    saver: Callable[[], Any] | None = None,
    preload_modules: Sequence[str] = (),
    active_agent_attribute: str | None = None,
    session_host: bool | None = None,
    on_custom: OnCustom | None = None,
    custom_topic: str | None = None,
    observe: Observe | None = None,
    **server: Any,
) -> AgentServer:
    """A LiveKit `AgentServer` that answers each job with a voice graph.

    Args:
        graph: `path.py:attribute` or `package.module:attribute`, as in langgraph.json.
        stt: a LiveKit model string, or a module-level function that makes a plugin; it runs once per job process.
        tts: likewise; the voice of agents without one of their own.
        vad: likewise.
        call: a module-level function of LiveKit's `JobContext` that returns keyword arguments of `GraphAgent` for
            this call (`thread_id`, `userdata`, `messages`, ...), sync or async. Default: the room's name as thread.
        session: further keyword arguments of LiveKit's `AgentSession`; plain data. The default of `max_tool_steps` is
            1000, because the graph has its own limits.
        apology: what a caller is told when there can be no call: `call` raises, the session can't start or ends with
            an error, the graph can't be loaded any more. It is spoken by `tts`, else written to the chat. None:
            nothing.
        agent_name: LiveKit's, for explicit dispatch.
        prewarm: a module-level function of LiveKit's `JobProcess`, which runs in each job process before a call comes
            (LiveKit's `setup_fnc`).
        saver: a module-level function that makes the checkpointer in which the call is stored: an async context manager
            (`AsyncPostgresSaver.from_conn_string(...)`), a coroutine, or the checkpointer itself. It runs once in the
            process of each job, and the checkpointer is closed when the end of the call is stored. `call` names the
            thread: a caller who comes back with the same one goes on where the call ended.
        preload_modules: LiveKit's: modules that are imported once per worker, where the platform can fork (Linux), and
            shared by its job processes. Name those of your graph and of its providers (`langchain_openai`), which must
            not start a thread or open a connection when they are imported. What graph_voice and LangGraph need is
            preloaded anyway.
        active_agent_attribute: the name of an attribute of the worker in the room, which is kept at the name of the
            active agent, for a page that shows it. None: there is none.
        session_host: LiveKit's: whether any participant of the room can read the session, and act for the caller, over
            the topic `lk.agent.session` (docs/secrets.md). None: unless an agent of the graph takes a secret.
        on_custom: a module-level function, sync or async, that is called with each `graph_voice.events.Custom`: what
            tools and nodes write with `get_stream_writer()`. LiveKit's `get_job_context().room` is the room.
        custom_topic: the topic of LiveKit's text streams over which that data is sent to all participants of the room,
            as JSON, with `agent`, `node`, `tool` and `key` as attributes. Who joins later gets the latest of each key.
            None: nothing is sent.
        observe: `graph_voice_livekit.tell_observers`, so that `graph-voice serve --watch ROOM` shows all that the live
            page shows of a call. None: it shows what LiveKit tells the room.
        server: further keyword arguments of LiveKit's `AgentServer` (`port`, `load_fnc`, `drain_timeout`, ...).

    Raises:
        BuildError: something can't be pickled for another process (a compiled graph, a lambda, a closure); the message
            has the fix.
        LoadError: there is no such file.

    Run it with LiveKit's `cli.run_app(server)`, or serve it from your own program (`await server.run()`). Before the
    worker registers, it prepares a call once in a process of its own. When the graph can't be imported, a plugin can't
    be made, or a model lacks its key, the worker logs the reason and ends with exit code 1 (`SystemExit`).
    """
    if not isinstance(graph, str):
        raise BuildError(
            f"create_server({type(graph).__name__}): LiveKit starts a process for each call and pickles what it is "
            'given, and a graph can\'t be pickled. Name it: create_server("my_agent.py:graph").'
        )
    if "setup_fnc" in server:
        raise BuildError("create_server(setup_fnc=...): the setup function loads the graph. Write prewarm=... instead.")
    if not isinstance(session or {}, Mapping):
        raise BuildError(f"create_server(session={session!r:.60}): write a dict of AgentSession's arguments.")
    _refuse_unknown("", server, AgentServer, create_server)
    _refuse_unknown("session", session or {}, AgentSession)
    plugins = {"stt": stt, "tts": tts, "vad": vad}
    plan = Plan(
        locate(graph),
        plugins,
        call,
        dict(session or {}),
        apology,
        saver,
        active_agent_attribute,
        prewarm,
        session_host,
        on_custom,
        custom_topic,
        observe,
    )
    passed = {"call": call, "session": plan.options, "prewarm": prewarm, "saver": saver, "on_custom": on_custom}
    passed["observe"] = observe
    for name, value in {**plan.plugins, **passed}.items():
        _check_pickles(name, value)
    setup = partial(_prewarm, plan=plan)
    rehearsal = Rehearsal(plan, server.get("initialize_process_timeout"))
    made = _Server(rehearsal, setup_fnc=setup, preload_modules=[PRELOADED, *preload_modules], **server)
    made.rtc_session(partial(_serve, plan=plan), agent_name=agent_name)
    return made


def _refuse_unknown(where: str, given: Mapping[str, Any], livekit: Any, *more: Callable[..., Any]) -> None:
    """Raise `BuildError` for an argument that LiveKit's class does not have: it would raise in the first call."""
    parameters = inspect.signature(livekit).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # it takes any
    own = (inspect.signature(function).parameters for function in more)
    known = {*parameters, *(name for names in own for name in names)} - {"graph", "server"}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]}?" if close else f"The arguments are {', '.join(sorted(known))}."
            written = f'{where}={{"{name}": ...}}' if where else f"{name}=..."
            raise BuildError(f"create_server({written}): there is no such argument; {meant}")


def _check_pickles(name: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:  # pickle raises different exceptions
        raise BuildError(
            f"create_server({name}={value!r}): LiveKit pickles it for its job processes, which fails ({error}). "
            f"Write a function at the top level of a module: def make_{name}(): ..."
        ) from error


class _Server(AgentServer):
    """LiveKit's server, which takes no calls before one could be held."""

    def __init__(self, rehearsal: Rehearsal, **options: Any) -> None:
        self._rehearsal = rehearsal
        rehearsal.know(**options)
        super().__init__(**options)

    def update_options(self, **options: Any) -> None:
        """As LiveKit's. Its command line passes on what it was given."""
        self._rehearsal.know(**options)
        super().update_options(**options)

    async def run(self, *, devmode: bool = False, unregistered: bool = False) -> None:
        """As LiveKit's, but when a call can't be prepared, log the reason and raise `SystemExit`.

        LiveKit would register the worker, and each caller would be told that there is no call. A job that LiveKit
        starts itself (its console) prepares its one call in any case.
        """
        if not unregistered:
            try:
                await self._rehearsal.play()
            except LoadError as error:
                logger.critical("the worker ends, because it could hold no call: %s", error)
                raise SystemExit(1) from error
        await super().run(devmode=devmode, unregistered=unregistered)


def _prewarm(process: JobProcess, *, plan: Plan) -> None:
    """LiveKit's prewarm: prepare a call before it comes."""
    prepared = prepare(process, plan)
    if prepared.reason is not None:
        logger.error("no call can be held: %s", prepared.reason)


async def _serve(job: JobContext, *, plan: Plan) -> None:
    """Begin one call. If that fails, the caller is told, and the error is raised: LiveKit logs it and ends the job.

    It returns when the call has begun: at a shutdown LiveKit waits for the entrypoint before it closes the session.
    """
    prepared: Prepared = Prepared.of(job.proc)
    try:
        if prepared.error is not None:
            raise prepared.error
        await _begin(job, plan, prepared)
    except Exception as error:
        await _tell(job, plan, prepared, error)
        raise


async def _begin(job: JobContext, plan: Plan, prepared: Prepared) -> None:
    store = JobSaver(plan.saver)
    described = await _described(job, plan.call)
    given = {"thread_id": job.room.name, "saver": await store.open(), "on_custom": plan.on_custom, **described}
    if plan.custom_topic is not None:
        given["on_custom"] = both(given["on_custom"], send_custom(job, plan.custom_topic))
    observer = observing(job, plan.observe)
    if observer is not None:
        given["config"] = merge_configs(given.get("config"), {"callbacks": list(observer.callbacks)})
    agent = GraphAgent(prepared.graph, **given)
    options = {"max_tool_steps": MAX_TOOL_STEPS, **prepared.plugins, **plan.options}
    session: AgentSession[Any] = AgentSession(**options)

    if plan.active_agent_attribute is not None:
        show_active_agent(job, session, plan.active_agent_attribute)

    def closed(event: CloseEvent) -> None:
        ending = asyncio.create_task(
            _end(job, plan, prepared, agent, store, event, observer), name="graph_voice.end_of_call"
        )

        async def ended() -> None:
            await ending

        job.add_shutdown_callback(ended)

    session.on("close", closed)
    # Read the stored call while the room is connected: the agent's first words depend on it.
    opening = asyncio.create_task(agent.conversation.open(patience=PATIENCE), name="graph_voice.open")
    hosts = plan.session_host
    if hosts is None and agent.conversation.call.roles.takers:
        hosts = False
    hosting: dict[str, Any] = {} if hosts is None else {"session_host": hosts}
    if observer is not None:
        observer.begin(job, session, agent)
        text = room_io.TextOutputOptions(next_in_chain=observer.captions)
        hosting["room_options"] = room_io.RoomOptions(text_output=text)
    try:
        await session.start(agent=agent, room=job.room, **hosting)
        await opening
    except BaseException:
        opening.cancel()
        if observer is not None:
            await observer.aclose()
        await session.aclose()
        await agent.aclose()
        await store.aclose()
        raise


async def _end(
    job: JobContext,
    plan: Plan,
    prepared: Prepared,
    agent: GraphAgent,
    store: JobSaver,
    event: CloseEvent,
    observer: Observing | None,
) -> None:
    """The session is closed: let the agent leave the room, where it would otherwise stay until the room is closed."""
    await agent.aclose()
    if observer is not None:
        await observer.aclose()
    await store.aclose()
    await asyncio.to_thread(flush_traces)  # a job's process may be stopped without its exit handlers
    if event.error is not None:  # LiveKit has logged it
        cause: Any = getattr(event.error, "error", event.error)  # its error events wrap the exception
        await _tell(job, plan, prepared, cause)
    job.shutdown("the call is over")


async def _tell(job: JobContext, plan: Plan, prepared: Prepared, error: BaseException) -> None:
    if not job.is_fake_job():  # LiveKit's console has no room
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


def _register() -> None:
    """LiveKit's fork server imports the packages of all plugins, so an entrypoint of one's own has what `create_server`
    has. LiveKit registers plugins in the main thread only."""
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(metadata.PackageNotFoundError):
            Plugin.register_plugin(_Preloading("graph_voice", metadata.version("graph-voice"), PRELOADED, logger))


class _Preloading(Plugin):
    """What LiveKit's worker knows of this package."""


_register()
