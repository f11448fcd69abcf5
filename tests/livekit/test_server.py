"""`create_server`: what is handed to LiveKit's job processes survives the pickling; what can't is refused at once."""

import asyncio
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import AgentServer

from graph_voice.errors import BuildError
from graph_voice_livekit import create_server

HERE = Path(__file__).parent
WORKER = f"{HERE / 'worker_agent.py'}:graph"


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
    from livekit.agents import AgentSession
    from livekit.agents.testing import fake_job_context

    started: list[Any] = []

    async def start(session: AgentSession[Any], *, agent: Any, room: Any = None, **options: Any) -> Any:
        started.append(agent)
        result = await really_start(session, agent=agent)
        run = await session.run(user_input="hello")
        answer.put([getattr(event.item, "text_content", None) for event in run.events])
        answer.put((agent.conversation.thread_id, agent.conversation.config.get("tags")))
        session.shutdown(drain=False)
        return result

    really_start = AgentSession.start
    AgentSession.start = start  # type: ignore[method-assign,assignment]  # there is no room to start in

    async def job() -> None:
        with fake_job_context() as context:
            pickle.loads(setup)(context.proc)
            await asyncio.wait_for(pickle.loads(entrypoint)(context), 30)

    asyncio.run(job())


def test_a_fresh_process_holds_a_call_with_what_was_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    import worker_agent

    captured = Captured(monkeypatch)
    create_server(WORKER, tts=worker_agent.make_tts, call=worker_agent.describe_call, session={"vad": None})
    setup, entrypoint = pickle.dumps(captured.options["setup_fnc"]), pickle.dumps(captured.entrypoint)
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    process = spawn.Process(target=hold_a_call, args=(setup, entrypoint, answer))
    process.start()
    try:
        assert answer.get(timeout=120) == ["Hello there."]
        assert answer.get(timeout=10) == ("thread of nobody", ["worker"])
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_a_compiled_graph_is_refused_with_the_fix() -> None:
    import sys

    sys.path.insert(0, str(HERE))
    try:
        import worker_agent
    finally:
        sys.path.remove(str(HERE))
    with pytest.raises(BuildError, match=r'create_server\("my_agent.py:graph"\)'):
        create_server(worker_agent.graph.compile())  # type: ignore[arg-type]


def test_a_closure_is_refused_by_the_name_of_its_argument() -> None:
    with pytest.raises(BuildError, match=r"create_server\(stt=.*def make_stt\(\)"):
        create_server(WORKER, stt=lambda: None)
    with pytest.raises(BuildError, match=r"create_server\(call="):
        create_server(WORKER, call=lambda job: {})


def test_the_graph_is_found_from_another_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    captured = Captured(monkeypatch)
    monkeypatch.chdir(HERE)
    create_server("worker_agent.py:graph")
    monkeypatch.chdir(tmp_path)
    process = type("Process", (), {"userdata": {}})()
    pickle.loads(pickle.dumps(captured.options["setup_fnc"]))(process)
    (graph, plugins) = process.userdata["graph_voice"]
    assert "host" in graph.nodes
    assert plugins == {}
