"""What the log makes of LiveKit's events, where a whole call would hardly produce them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
from graph_voice_livekit.inprocess.log import CallLogger, _covered

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


class Speech:
    """What the log reads of a LiveKit `SpeechHandle`."""

    def __init__(self, desk: Desk, *, scheduled: bool, interrupted: bool = True) -> None:
        self.scheduled, self.interrupted, self.chat_items = scheduled, interrupted, list[Any]()
        self.done: Any = None
        event = SimpleNamespace(speech_handle=self)
        desk.session.emit("speech_created", event)

    def add_done_callback(self, callback: Any) -> None:
        self.done = callback


@pytest.mark.parametrize(
    ("speech", "dropped"),
    [
        ({"scheduled": True}, True),
        ({"scheduled": False}, False),  # only prepared, in case that the caller has finished
        ({"scheduled": True, "interrupted": False}, False),
    ],
)
async def test_a_reply_of_which_nothing_sounded_is_marked_where_it_began(
    desk: Desk, speech: dict[str, bool], dropped: bool
) -> None:
    await desk.until(1.0)
    made = Speech(desk, **speech)
    await desk.until(3.0)
    made.done(made)
    found = desk.logger.finish(desk.clock.stop()).utterances
    assert [(entry.dropped, entry.text, entry.speaker) for entry in found] == [(True, "", "intake")] * dropped
    assert all(entry.at == pytest.approx(1.0, abs=0.001) for entry in found)


async def test_a_reply_that_sounded_or_came_when_the_call_was_over_was_not_dropped(desk: Desk) -> None:
    cut = Speech(desk, scheduled=True)
    await desk.play(1.0, 0.3, interrupted=True)
    cut.done(cut)
    late = Speech(desk, scheduled=True)
    desk.logger.over()
    late.done(late)
    assert [entry.dropped for entry in desk.logger.finish(desk.clock.stop()).utterances] == [False]


async def test_time_that_the_recognizer_an_earlier_reply_or_a_tool_took_is_not_the_models(desk: Desk) -> None:
    """LiveKit tells no delays of a turn that is made of words that it had kept: the words' own times tell."""
    desk.logger.line(CallerUtterance("how much", 1.0, 2.0))
    await desk.until(5.0)
    desk.recognised("how much")
    await desk.until(5.5)
    desk.turn("how much")
    await desk.until(7.0)
    call = FunctionCall(call_id="1", name="look_up", arguments="{}")
    desk.session.emit("tool_execution_updated", ToolExecutionUpdatedEvent(update=ToolCallStarted(function_call=call)))
    await desk.until(9.0)
    output = FunctionCallOutput(call_id="1", name="look_up", output="4", is_error=False)
    event = FunctionToolsExecutedEvent(function_calls=[call], function_call_outputs=[output])
    desk.session.emit("function_tools_executed", event)
    await desk.play(9.5, 1.0)
    desk.reply("Four.", 9.5)
    (latency,) = desk.logger.finish(desk.clock.stop()).latencies
    spent = {name: round(seconds, 2) for name, seconds in latency.stages.items()}
    assert spent == {
        "silence": 0.0,
        "speech to text": 3.0,
        "end of turn": 0.5,
        "earlier reply": 0.0,
        "tools": 2.0,
        "model": 2.0,
        "text to speech": 0.0,
    }
    assert sum(latency.stages.values()) == pytest.approx(latency.total)


async def test_an_earlier_reply_that_is_still_heard_is_not_the_models_time(desk: Desk) -> None:
    await desk.play(0.5, 0.25)
    desk.reply("Hello.", 0.5)
    desk.logger.line(CallerUtterance("how much", 1.0, 2.0))
    await desk.until(2.5)
    desk.recognised("how much")
    desk.turn("how much")
    await desk.play(2.5, 4.0, interrupted=True)  # begun for a turn before: cut off before a word of it counted
    await desk.play(7.0, 1.0)
    desk.reply("Four.", 7.0)
    (latency,) = desk.logger.finish(desk.clock.stop()).latencies
    assert latency.waiting == pytest.approx(4.0, abs=0.01)
    assert latency.model == pytest.approx(0.5, abs=0.01)


@given(st.lists(st.tuples(st.floats(-5, 15), st.floats(-5, 15))))
def test_time_is_covered_once_however_intervals_overlap(intervals: list[tuple[float, float]]) -> None:
    points = [(step + 0.5) / 100 for step in range(1000)]
    inside = sum(any(begin <= point < stop for begin, stop in intervals) for point in points) / 100
    assert _covered(intervals, 0.0, 10.0) == pytest.approx(inside, abs=0.02 * len(intervals) + 1e-9)
