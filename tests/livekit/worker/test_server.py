"""`create_server`: what is handed to LiveKit's job processes survives the pickling; what can't is refused at once."""

import asyncio
import multiprocessing
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import worker_agent
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from livekit.agents import AgentServer, AgentSession
from livekit.agents.testing import fake_job_context

from graph_voice.errors import BuildError, LoadError
from graph_voice_livekit import GraphAgent, create_server
from graph_voice_livekit.worker import server as server_module
from graph_voice_livekit.worker.prepared import Plan, prepare

SUPPORT = Path(__file__).parents[2] / "support"
WORKER = f"{SUPPORT / 'worker_agent.py'}:graph"


class Captured:
    """What LiveKit would hand to its job processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.options: dict[str, Any] = {}
        self.entrypoint: Any = None
        init, register = AgentServer.__init__, AgentServer.rtc_session

        def noted(server: AgentServer, **options: Any) -> None:
            self.options = options
            init(server, **options)

        def registered(server: AgentServer, function: Any, **options: Any) -> Any:
            self.entrypoint = function
            return register(server, function, **options)

        monkeypatch.setattr(AgentServer, "__init__", noted)
        monkeypatch.setattr(AgentServer, "rtc_session", registered)


def hold_a_call(setup: bytes, entrypoint: bytes, answer: Any) -> None:
    """In a fresh process: prewarm, then one call in text, as LiveKit's job process would."""
    started: list[Any] = []

    async def start(session: AgentSession[Any], *, agent: Any, room: Any = None, **options: Any) -> Any:
        started.append(agent)
        answer.put(session.options.max_tool_steps)
        result = await really_start(session, agent=agent)
        run = await session.run(user_input="hello")
        answer.put([getattr(event.item, "text_content", None) for event in run.events])
        answer.put((agent.conversation.thread_id, agent.conversation.call.state.config.get("tags")))
        session.shutdown(drain=False)
        return result

    really_start = AgentSession.start
    AgentSession.start = start  # type: ignore[method-assign,assignment]  # there is no room to start in

    async def job() -> None:
        with fake_job_context() as context:
            pickle.loads(setup)(context.proc)
            await asyncio.wait_for(pickle.loads(entrypoint)(context), 300)

    asyncio.run(job())


def test_a_fresh_process_holds_a_call_with_what_was_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(monkeypatch)
    create_server(WORKER, tts=worker_agent.make_tts, call=worker_agent.describe_call, session={"vad": None})
    setup, entrypoint = pickle.dumps(captured.options["setup_fnc"]), pickle.dumps(captured.entrypoint)
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    process = spawn.Process(target=hold_a_call, args=(setup, entrypoint, answer))
    process.start()
    try:
        assert answer.get(timeout=600) == 1000
        assert answer.get(timeout=600) == ["Hello there."]
        assert answer.get(timeout=600) == ("thread of nobody", ["worker"])
        process.join(600)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_a_compiled_graph_is_refused_with_the_fix() -> None:
    with pytest.raises(BuildError, match=r'create_server\("my_agent.py:graph"\)'):
        create_server(worker_agent.graph.compile())  # type: ignore[arg-type]


def test_a_closure_is_refused_by_the_name_of_its_argument() -> None:
    with pytest.raises(BuildError, match=r"create_server\(stt=.*def make_stt\(\)"):
        create_server(WORKER, stt=lambda: None)
    with pytest.raises(BuildError, match=r"create_server\(call="):
        create_server(WORKER, call=lambda job: {})


async def serve(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> tuple[list[AgentSession[Any]], list[str]]:
    """One job of what was captured, in this process: its sessions, and what the caller was told."""
    sessions: list[AgentSession[Any]] = []
    told: list[str] = []

    async def start(session: AgentSession[Any], **options: Any) -> None:
        vars(session)["given"] = options
        sessions.append(session)

    async def tell(job: Any, error: BaseException, *, apology: str | None, tts: Any) -> None:
        told.append(f"{type(error).__name__}: {apology}")

    monkeypatch.setattr(AgentSession, "start", start)
    monkeypatch.setattr(server_module, "tell_caller", tell)
    job = SimpleNamespace(
        proc=SimpleNamespace(userdata={}), room=SimpleNamespace(name="room"), is_fake_job=lambda: False
    )
    pickle.loads(pickle.dumps(captured.options["setup_fnc"]))(job.proc)
    try:
        await pickle.loads(pickle.dumps(captured.entrypoint))(job)
    except Exception as error:
        told.append(str(error))
    return sessions, told


@pytest.mark.parametrize(("session", "steps"), [({}, 1000), ({"max_tool_steps": 7}, 7)])
async def test_chains_of_tools_are_long_unless_the_session_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, session: dict[str, Any], steps: int
) -> None:
    captured = Captured(monkeypatch)
    create_server(WORKER, session={"vad": None, **session})
    sessions, told = await serve(captured, monkeypatch)
    assert [s.options.max_tool_steps for s in sessions] == [steps]
    assert not told


TAKES = """
from pydantic import SecretStr
from graph_voice import Agent, RunContext, create_voice_graph, function_tool
@function_tool
async def store_card(ctx: RunContext, number: SecretStr) -> str:
    "Store the card."
    return "Stored."
graph = create_voice_graph([Agent("till", instructions="Pay.", tools=[store_card])], llm="openai:gpt-4.1")
"""


@pytest.mark.parametrize(
    ("takes", "given", "hosts"), [(True, None, False), (True, True, True), (False, None, None), (False, False, False)]
)
async def test_the_room_can_not_read_the_session_of_a_graph_that_takes_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, takes: bool, given: bool | None, hosts: bool | None
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-used")
    (tmp_path / "my_agent.py").write_text(TAKES, encoding="utf-8")
    captured = Captured(monkeypatch)
    create_server(f"{tmp_path / 'my_agent.py'}:graph" if takes else WORKER, session={"vad": None}, session_host=given)
    (session,), told = await serve(captured, monkeypatch)
    assert not told
    assert vars(session)["given"].get("session_host") is hosts


def answers_nothing(job: Any) -> Any:
    return None


def cannot_describe(job: Any) -> Any:
    raise LookupError("no such customer")


@pytest.mark.parametrize(
    ("describe", "reason"),
    [
        (cannot_describe, "LookupError: Not today.|no such customer"),
        (answers_nothing, "BuildError: Not today.|create_server(call=answers_nothing): it returned None. "),
    ],
)
async def test_a_call_that_cannot_begin_is_told_to_the_caller_and_to_livekit(
    monkeypatch: pytest.MonkeyPatch, describe: Any, reason: str
) -> None:
    captured = Captured(monkeypatch)
    create_server(WORKER, session={"vad": None}, call=describe, apology="Not today.")
    sessions, told = await serve(captured, monkeypatch)
    assert "|".join(told).startswith(reason)
    assert not sessions


async def test_a_graph_that_is_not_there_is_told_to_the_log_at_once_and_to_each_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    captured = Captured(monkeypatch)
    create_server(f"{SUPPORT / 'worker_agent.py'}:grpah")
    _, told = await serve(captured, monkeypatch)
    assert told[0].startswith("LoadError: I'm sorry")
    assert "did you mean 'graph'?" in told[1]
    (logged,) = [r for r in caplog.records if r.name == "graph_voice.livekit"]
    assert "did you mean 'graph'?" in logged.message
    assert logged.exc_info is None


def refuses() -> Any:
    raise OSError("no model file")


async def test_a_recogniser_that_cannot_be_made_leaves_the_voice_for_the_apology(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured = Captured(monkeypatch)
    create_server(WORKER, stt=refuses, tts="a/voice")
    process = type("Process", (), {"userdata": {}})()
    captured.options["setup_fnc"](process)
    prepared = process.userdata["graph_voice"]
    assert prepared.plugins == {"tts": "a/voice"}
    assert isinstance(prepared.error, OSError)


def test_a_missing_file_is_refused_at_once() -> None:
    with pytest.raises(LoadError, match=r"did you mean .*worker_agent\.py"):
        create_server(f"{SUPPORT / 'worker_agnt.py'}:graph")


def note_prewarm(process: Any) -> None:
    process.userdata["mine"] = "graph_voice" in process.userdata


def never_full() -> float:
    return 0.0


def test_what_is_the_workers_own_goes_to_livekit(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(monkeypatch)
    names: list[str] = []
    register = AgentServer.rtc_session
    monkeypatch.setattr(
        AgentServer, "rtc_session", lambda s, f, *, agent_name: (names.append(agent_name), register(s, f))[1]
    )
    own = {"load_fnc": never_full, "port": 0, "host": "127.0.0.1", "num_idle_processes": 3, "drain_timeout": 60}
    create_server(WORKER, agent_name="desk", prewarm=note_prewarm, **own)
    assert {name: captured.options[name] for name in own} == own
    assert names == ["desk"]
    process = type("Process", (), {"userdata": {}})()
    pickle.loads(pickle.dumps(captured.options["setup_fnc"]))(process)
    assert process.userdata["mine"] is True
    with pytest.raises(BuildError, match="Write prewarm="):
        create_server(WORKER, setup_fnc=note_prewarm)


def test_the_graph_is_found_from_another_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    captured = Captured(monkeypatch)
    monkeypatch.chdir(SUPPORT)
    create_server("worker_agent.py:graph")
    monkeypatch.chdir(tmp_path)
    process = type("Process", (), {"userdata": {}})()
    pickle.loads(pickle.dumps(captured.options["setup_fnc"]))(process)
    prepared = process.userdata["graph_voice"]
    assert prepared.error is None
    assert "host" in prepared.graph.nodes
    assert isinstance(prepared.graph, Pregel)  # compiled before the call comes
    assert prepared.plugins == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ttss": "a/voice"}, r"create_server\(ttss=\.\.\.\): there is no such argument; did you mean tts\?"),
        ({"num_idle_process": 1}, "did you mean num_idle_processes"),
        ({"zzz": 1}, "The arguments are .*active_agent_attribute"),
        ({"session": {"max_tool_stepz": 3}}, r'session={"max_tool_stepz": \.\.\.}.*did you mean max_tool_steps\?'),
        ({"session": 5}, "write a dict of AgentSession's arguments"),
    ],
)
def test_an_argument_that_livekit_does_not_have_is_refused_with_the_one_that_is_meant(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(BuildError, match=told):
        create_server(WORKER, **options)


def test_each_argument_that_livekit_has_is_taken() -> None:
    session = {"max_tool_steps": 3, "user_away_timeout": None, "turn_handling": {"turn_detection": "manual"}}
    assert isinstance(create_server(WORKER, session=session, max_retry=3, prometheus_port=0), AgentServer)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (None, "write what create_voice_graph"),
        ("my_agent.py:graph", r"GraphAgent\(graph\)"),
        (Path("my_agent.py"), r"from my_agent import graph"),
        (RemoteGraph("x", url="http://127.0.0.1:9"), r"Name the nodes that do, speak=\[.model.\]"),
        ([], r"GraphAgent\(create_voice_graph\(\[\.\.\.\]\)\)"),
    ],
)
def test_what_is_no_graph_is_refused_with_what_to_give(graph: Any, told: str) -> None:
    with pytest.raises(BuildError, match=told):
        GraphAgent(graph)


def test_a_graph_that_runs_on_a_server_is_prepared_without_models_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "my_agent.py"
    file.write_text(
        "from langgraph.pregel.remote import RemoteGraph\ngraph = RemoteGraph('x', url='http://127.0.0.1:9')\n"
    )
    plan = Plan(f"{file}:graph", {"tts": None, "stt": None, "vad": None}, None)
    prepared = prepare(SimpleNamespace(userdata={}), plan)  # type: ignore[arg-type]
    assert (prepared.error, prepared.model_error) == (None, None)
    assert isinstance(prepared.graph, RemoteGraph)
