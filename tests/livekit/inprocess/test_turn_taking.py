"""When it is whose turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit import rtc
from livekit.agents.llm import AgentHandoff, FunctionCall
from livekit.agents.voice import (
    AgentStateChangedEvent,
    CloseEvent,
    CloseReason,
    ConversationItemAddedEvent,
    ToolCallEnded,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
    UserStateChangedEvent,
)
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent

from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.turn_taking import TurnTaking

pytestmark = pytest.mark.virtual_clock(limit=60)


class FakeSession(rtc.EventEmitter[Any]):
    current_speech: object | None = None

    def agent_state(self, new: Any) -> None:
        event = AgentStateChangedEvent(old_state="initializing", new_state=new)
        self.emit("agent_state_changed", event)

    def user_state(self, new: Any) -> None:
        self.emit("user_state_changed", UserStateChangedEvent(old_state="listening", new_state=new))

    def tool(self, update: Any) -> None:
        self.emit("tool_execution_updated", ToolExecutionUpdatedEvent(update=update))


@pytest.fixture
async def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
async def output() -> rtc.EventEmitter[Any]:
    return rtc.EventEmitter()


@pytest.fixture
async def floor(session: FakeSession, output: rtc.EventEmitter[Any]) -> TurnTaking:
    clock = CallClock()
    clock.start()
    floor = TurnTaking(session, output, clock)  # type: ignore[arg-type]
    session.agent_state("listening")
    return floor


async def test_the_floor_is_free_when_nobody_speaks_thinks_or_works(
    floor: TurnTaking, session: FakeSession, output: rtc.EventEmitter[Any]
) -> None:
    assert floor.idle
    session.agent_state("thinking")
    assert not floor.idle
    session.agent_state("listening")
    session.user_state("speaking")
    assert not floor.idle
    session.user_state("listening")
    output.emit("playback_started", PlaybackStartedEvent(created_at=0.0))
    assert not floor.idle
    output.emit("playback_finished", PlaybackFinishedEvent(1.0, False))
    session.tool(ToolCallStarted(function_call=FunctionCall(call_id="1", name="look", arguments="{}")))
    assert not floor.idle
    session.tool(ToolCallEnded(id="1", call_id="1", status="done"))
    session.current_speech = object()  # a paused speech, or one that is about to begin
    assert not floor.idle
    session.current_speech = None
    assert floor.idle


async def test_the_agent_on_the_floor_is_that_of_the_last_handoff(floor: TurnTaking, session: FakeSession) -> None:
    assert floor.agent is None
    for old, new in ((None, "intake"), ("intake", "billing")):
        item = AgentHandoff(old_agent_id=old, new_agent_id=new)
        session.emit("conversation_item_added", ConversationItemAddedEvent(item=item))
    assert floor.agent == "billing"


async def test_a_state_must_hold(floor: TurnTaking, session: FakeSession) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, session.agent_state, "thinking")
    loop.call_later(0.6, session.agent_state, "listening")
    assert await floor.until(lambda: floor.idle, hold=0.5)
    assert loop.time() == pytest.approx(1.1, abs=0.01)


async def test_the_end_of_a_speech_is_noticed_without_an_event(floor: TurnTaking, session: FakeSession) -> None:
    loop = asyncio.get_running_loop()
    session.current_speech = object()
    loop.call_later(1.0, setattr, session, "current_speech", None)
    assert await floor.until(lambda: floor.idle)
    assert loop.time() == pytest.approx(1.0, abs=0.11)


async def test_waiting_ends_at_its_limit(floor: TurnTaking) -> None:
    assert not await floor.until(lambda: False, timeout=2.0)
    assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.01)


async def test_waiting_ends_when_something_else_comes_first(floor: TurnTaking, session: FakeSession) -> None:
    asyncio.get_running_loop().call_later(0.5, session.agent_state, "thinking")
    assert not await floor.until(lambda: floor.idle, hold=1.0, unless=lambda: not floor.idle)
    assert asyncio.get_running_loop().time() == pytest.approx(0.5, abs=0.01)


async def test_waiting_ends_with_the_session(floor: TurnTaking, session: FakeSession) -> None:
    event = CloseEvent(reason=CloseReason.ERROR)
    asyncio.get_running_loop().call_later(0.5, session.emit, "close", event)
    assert not await floor.until(lambda: False)
    assert floor.closed is event
