"""What the log makes of LiveKit's events, where a whole call would hardly produce them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from livekit import rtc
from livekit.agents.llm import AgentHandoff, ChatMessage, FunctionCall, FunctionCallOutput
from livekit.agents.voice import (
    ConversationItemAddedEvent,
    FunctionToolsExecutedEvent,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
)
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackProgressedEvent, PlaybackStartedEvent

from graph_voice_livekit.inprocess import CALLER, CallerUtterance, Utterance
from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.log import CallLogger

pytestmark = pytest.mark.virtual_clock(limit=60)


class Desk:
    """A logger whose events a test makes up. Times are call seconds."""

    def __init__(self) -> None:
        self.session: rtc.EventEmitter[Any] = rtc.EventEmitter()
        self.output: rtc.EventEmitter[Any] = rtc.EventEmitter()
        self.clock = CallClock()
        self.clock.start()
        self.logger = CallLogger(self.session, self.output, self.clock)  # type: ignore[arg-type]
        self.handoff(None, "intake")

    async def until(self, at: float) -> None:
        await self.clock.sleep_until(at)

    def item(self, item: ChatMessage | AgentHandoff) -> None:
        self.session.emit("conversation_item_added", ConversationItemAddedEvent(item=item))

    def handoff(self, old: str | None, new: str) -> None:
        self.item(AgentHandoff(old_agent_id=old, new_agent_id=new))

    def recognised(self, text: str) -> None:
        event = UserInputTranscribedEvent(transcript=text, is_final=True)
        self.session.emit("user_input_transcribed", event)

    def turn(self, text: str) -> None:
        self.item(ChatMessage(role="user", content=[text]))

    def reply(self, text: str, started: float, *, interrupted: bool = False) -> None:
        metrics: Any = {
            "started_speaking_at": self.clock.wall(started),
            "stopped_speaking_at": time.time(),
        }
        self.item(ChatMessage(role="assistant", content=[text], interrupted=interrupted, metrics=metrics))

    async def play(self, started: float, length: float, *, interrupted: bool = False) -> None:
        await self.until(started)
        self.output.emit("playback_started", PlaybackStartedEvent(created_at=time.time()))
        await self.until(started + length)
        at = self.clock.wall(started)
        self.output.emit("playback_progressed", PlaybackProgressedEvent(at, 0.0, length))
        self.output.emit("playback_finished", PlaybackFinishedEvent(length, interrupted))


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def words(desk: Desk) -> list[tuple[str, str, bool]]:
    log = desk.logger.finish(desk.clock.stop())
    return [(entry.speaker, entry.text, entry.lost) for entry in log.utterances]


async def test_words_that_became_no_turn_are_lost(desk: Desk) -> None:
    desk.recognised("hello")
    desk.turn("hello")
    desk.recognised("is anybody there")
    assert words(desk) == [(CALLER, "hello", False), (CALLER, "is anybody there", True)]


async def test_words_that_become_a_turn_later_are_not_lost(desk: Desk) -> None:
    desk.recognised("first")
    desk.recognised("second")
    desk.turn("second")
    desk.turn("first")
    assert words(desk) == [(CALLER, "second", False), (CALLER, "first", False)]


async def test_several_utterances_may_make_one_turn(desk: Desk) -> None:
    desk.recognised("my name")
    desk.recognised("is Sam")
    desk.turn("my name is Sam")
    assert words(desk) == [(CALLER, "my name is Sam", False)]


async def test_the_empty_turn_of_a_closing_session_is_nothing(desk: Desk) -> None:
    desk.turn("")
    assert words(desk) == []


async def test_a_line_that_was_not_recognised_is_lost(desk: Desk) -> None:
    desk.logger.line(CallerUtterance("hello?", 1.0, 2.0))
    await desk.until(5.0)
    (entry,) = desk.logger.finish(desk.clock.stop()).utterances
    assert entry == Utterance(CALLER, "", 1.0, 2.0, said="hello?", lost=True)


async def test_a_reply_cut_before_its_first_word_counted_is_on_the_log(desk: Desk) -> None:
    await desk.play(1.0, 0.3, interrupted=True)  # no message: LiveKit counts no word as heard
    await desk.play(3.0, 1.0)
    desk.reply("fine", 3.0)
    log = desk.logger.finish(desk.clock.stop())
    assert [(entry.text, entry.interrupted) for entry in log.utterances] == [("", True), ("fine", False)]
    cut = log.utterances[0]
    assert (cut.started, cut.ended) == (pytest.approx(1.0, abs=0.001), pytest.approx(1.3, abs=0.001))


async def test_a_reply_of_several_stretches_is_one_utterance(desk: Desk) -> None:
    await desk.play(1.0, 0.5)
    await desk.play(2.0, 0.5)
    desk.reply("one moment, there it is", 1.0)
    (entry,) = desk.logger.finish(desk.clock.stop()).utterances
    assert (entry.started, entry.ended) == (pytest.approx(1.0, abs=0.001), pytest.approx(2.5, abs=0.001))


async def test_who_speaks_is_who_has_the_floor_when_the_sound_begins(desk: Desk) -> None:
    await desk.play(1.0, 0.5)
    desk.reply("transferring you", 1.0)
    desk.handoff("intake", "billing")
    await desk.play(2.0, 0.5)
    desk.reply("this is billing", 2.0)
    log = desk.logger.finish(desk.clock.stop())
    assert [entry.speaker for entry in log.utterances] == ["intake", "billing"]
    assert log.first_agent == "intake"


async def test_a_call_of_an_unknown_tool_is_on_the_log(desk: Desk) -> None:
    call = FunctionCall(call_id="1", name="fly", arguments="not json")
    output = FunctionCallOutput(call_id="1", name="fly", output="Unknown function", is_error=True)
    event = FunctionToolsExecutedEvent(function_calls=[call], function_call_outputs=[output])
    desk.session.emit("function_tools_executed", event)
    (tool,) = desk.logger.finish(desk.clock.stop()).tool_calls
    assert (tool.name, tool.arguments, tool.is_error) == ("fly", {"": "not json"}, True)


async def test_a_tool_that_outlives_the_call_has_no_end(desk: Desk) -> None:
    await desk.until(1.0)
    call = FunctionCall(call_id="1", name="wait", arguments="{}")
    update = ToolCallStarted(function_call=call)
    desk.session.emit("tool_execution_updated", ToolExecutionUpdatedEvent(update=update))
    (tool,) = desk.logger.finish(desk.clock.stop()).tool_calls
    assert (tool.started, tool.ended) == (pytest.approx(1.0, abs=0.001), None)


async def test_nothing_is_added_after_the_end(desk: Desk) -> None:
    desk.logger.finish(desk.clock.stop())
    desk.turn("too late")
    assert words(desk) == []
