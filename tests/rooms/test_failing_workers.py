"""Jobs that fail, and workers that are told to stop, in real rooms."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hearing import likeness

from graph_voice_livekit.worker.failed_call import FAILED
from tests.rooms.caller import Caller, joined
from tests.rooms.conftest import DESK
from tests.rooms.desk import APOLOGY
from tests.rooms.livekit_server import LiveKitServer
from tests.rooms.speech import transcribe
from tests.rooms.worker_process import Worker, run_worker

pytestmark = [pytest.mark.rooms, pytest.mark.speech]
ONCE = """
from pathlib import Path
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

graph = create_voice_graph([Agent("host", instructions="You are the host.")], llm=ScriptedModel([]))
Path(__file__).write_text("grpah = 1", encoding="utf-8")
"""


def failure(caller: Caller) -> Callable[[], str | None]:
    return lambda: next((changed[FAILED] for _, changed in caller.attributes if FAILED in changed), None)


async def test_a_call_that_cannot_be_described_is_told_to_the_caller_and_the_worker_goes_on(
    server: LiveKitServer, desk: Worker, room: str
) -> None:
    async with joined(server, room, fail=True) as caller:
        await caller.until(lambda: caller.captions() and caller.captions()[0].final, "the apology")
        assert await caller.until(failure(caller), "the attribute") == "LookupError"
        await caller.until(lambda: caller.agent is None, "the agent's leaving")
        assert likeness(caller.captions()[0].text, APOLOGY) > 0.9
        assert likeness(await transcribe(caller.sound()), APOLOGY) > 0.6
        assert not caller.chat
    desk.wait_for_calls(0)
    (error,) = desk.errors(room)
    assert "the customer database does not answer" in error["exc_info"]
    async with joined(server, f"{room}-next") as caller:
        await caller.answered()


async def test_a_graph_that_cannot_be_loaded_any_more_is_told_in_the_chat_where_there_is_no_voice(
    server: LiveKitServer, room: str, tmp_path: Path
) -> None:
    # It works when the worker starts; the processes that are made for its calls find another file.
    (tmp_path / "agents.py").write_text(ONCE, encoding="utf-8")
    with run_worker(
        DESK, server, tmp_path, WORKER_GRAPH="agents.py:graph", WORKER_SPEECH="no", WORKER_NAME="broken"
    ) as worker:
        for number in (1, 2):
            async with joined(server, f"{room}-{number}", agent="broken") as caller:
                await caller.until(lambda: caller.chat, "the apology in the chat")
                assert caller.chat == [APOLOGY]
                assert await caller.until(failure(caller), "the attribute") == "LoadError"
                await caller.until(lambda: caller.agent is None, "the agent's leaving")
            worker.wait_for_calls(0)
            errors = worker.errors(f"{room}-{number}")
            assert len(errors) == 1
            assert "has no attribute 'graph'; did you mean 'grpah'?" in errors[0]["exc_info"]


async def test_a_worker_of_every_room_that_is_told_to_stop_ends_the_turn_and_the_call_first(
    server: LiveKitServer, room: str, tmp_path: Path
) -> None:
    with run_worker(DESK, server, tmp_path, WORKER_NAME="") as worker:
        async with joined(server, room, agent=None) as caller:
            await caller.answered()
            await caller.write("something slow")
            await caller.until(lambda: caller.state == "thinking", "the turn")
            worker.stop()
            assert "here is the answer at last" in (await caller.answered(after=1)).text
            await caller.write("and another")
            assert (await caller.answered(after=2)).text.strip() == "I heard: and another"
            assert worker.process.poll() is None
        assert worker.process.wait(60) == 0
        assert not worker.errors()
