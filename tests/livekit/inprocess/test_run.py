"""Whole calls with fake models, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from call_support import (
    SECONDS_PER_CHARACTER,
    Answer,
    Call,
    FakeLLM,
    FakeSTT,
    FakeTTS,
    FakeVAD,
    Tones,
    closing_message,
    loud,
    pitch,
)
from livekit import rtc
from livekit.agents import Agent, APIError, ToolError, function_tool, llm

from graph_voice import Agent as VoiceAgent
from graph_voice import create_voice_graph
from graph_voice.testing import ScriptedModel
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.inprocess import (
    CALLER,
    CallerError,
    CallError,
    CallResult,
    SimulatedCaller,
    Utterance,
    make_session,
    run_call,
)
from graph_voice_livekit.inprocess.caller import ScriptLines
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE

pytestmark = pytest.mark.virtual_clock(limit=120)


@dataclass
class Step:
    say: list[str]
    interrupts: bool = False
    expect_handoff: str | None = None
    end: bool = False


@dataclass
class Script:
    steps: dict[str, list[Step]] = field(default_factory=dict)


@pytest.fixture
def tones() -> Tones:
    return Tones()


class Echo(Agent):
    def __init__(self, **options: Any) -> None:
        super().__init__(instructions="Repeat.", id="echo", **options)


class Greeter(Echo):
    async def on_enter(self) -> None:
        self.session.say("Good morning, what can I do?")


def echo(context: llm.ChatContext) -> Answer:
    return f"You said {closing_message(context)}"


def record(tones: Tones, path: Path, *texts: str, gap: float = 2.0) -> Path:
    silence = np.zeros(round(gap * SAMPLE_RATE), dtype=np.int16)
    parts = [silence[: SAMPLE_RATE // 2]]
    for text in texts:
        parts += [tones.samples(text), silence]
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE)
    return path


def session(tones: Tones, answer: Any = echo, **options: Any) -> Any:
    return make_session(llm=FakeLLM(answer), stt=FakeSTT(tones), tts=FakeTTS(tones), vad=FakeVAD(), **options)


def left(result: CallResult) -> Any:
    return result.recorder.samples(result.duration)[:, 0]


def right(result: CallResult) -> Any:
    return result.recorder.samples(result.duration)[:, 1]


def part(samples: Any, utterance: Utterance) -> Any:
    return samples[round(utterance.started * SAMPLE_RATE) : round(utterance.ended * SAMPLE_RATE)]


async def test_what_a_file_asks_is_answered_and_both_sides_are_recorded(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "what is the time")
    result = await run_call(Echo(), session(tones), audio=audio, folder=tmp_path / "out")

    caller, agent = result.log.utterances
    assert (caller.speaker, caller.text) == (CALLER, "what is the time")
    assert (agent.speaker, agent.text) == ("echo", "You said what is the time")
    assert not agent.interrupted
    assert agent.started > caller.ended
    # the right words on the right channel, where the log says
    assert tones.text(part(left(result), caller)) == "what is the time"
    assert tones.text(part(right(result), agent)) == "You said what is the time"
    assert loud(right(result)) == pytest.approx((agent.started, agent.ended), abs=0.02)
    assert loud(left(result))[1] == pytest.approx(caller.ended, abs=0.05)


async def test_the_wav_is_as_long_as_the_call(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "hello")
    result = await run_call(Echo(), session(tones), audio=audio, folder=tmp_path)

    assert result.wav is not None
    info = soundfile.info(result.wav)
    assert info.channels == 2
    assert info.subtype == "PCM_16"
    assert info.frames / info.samplerate == pytest.approx(result.duration, abs=0.001)
    assert result.duration == result.log.duration


async def test_a_greeting_is_not_talked_over_by_the_file(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "what is the time")
    result = await run_call(Greeter(), session(tones), audio=audio)

    greeting, caller, answer = result.log.utterances
    assert greeting.text == "Good morning, what can I do?"
    assert not greeting.interrupted
    assert caller.started > greeting.ended
    assert answer.text == "You said what is the time"


async def test_every_utterance_of_a_file_is_answered(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "one", "two again", gap=4.0)
    result = await run_call(Echo(), session(tones), audio=audio)

    assert [entry.text for entry in result.log.utterances] == [
        "one",
        "You said one",
        "two again",
        "You said two again",
    ]


async def test_a_file_without_speech_gives_an_honest_empty_result(tones: Tones, tmp_path: Path) -> None:
    silent = tmp_path / "silence.wav"
    soundfile.write(silent, np.zeros(8000, dtype=np.int16), 8000)
    result = await run_call(Echo(), session(tones), audio=silent, folder=tmp_path / "out")

    assert result.log.utterances == []
    assert result.transcript is not None
    assert "no speech was recognized" in result.transcript.read_text()
    assert result.timeline is not None
    assert result.timeline.stat().st_size > 1000
    assert not np.any(right(result))


async def test_sound_that_is_no_speech_ends_the_call_without_an_answer(tones: Tones, tmp_path: Path) -> None:
    # the detector hears something, the recogniser finds no words in it
    noise = tmp_path / "noise.wav"
    rate = 16000
    soundfile.write(noise, np.random.default_rng(1).normal(0, 0.1, rate), rate)
    result = await run_call(Echo(), session(Tones()), audio=noise)

    assert result.log.utterances == []
    assert [note.text for note in result.log.notes] == ["no speech was recognized"]


async def test_a_slow_recogniser_is_waited_for(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "what is the time", gap=0.2)
    slow = make_session(llm=FakeLLM(echo), stt=FakeSTT(tones, delay=3.0), tts=FakeTTS(tones), vad=FakeVAD())
    result = await run_call(Echo(), slow, audio=audio)

    assert [entry.text for entry in result.log.utterances] == ["what is the time", "You said what is the time"]
    assert result.log.latencies[0].recognition == pytest.approx(3.0, abs=0.05)


async def test_latency_is_split_into_stages_that_sum_up(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "what is the time")
    result = await run_call(Echo(), session(tones), audio=audio)

    (latency,) = result.log.latencies
    caller, agent = result.log.utterances
    assert latency.speaker == "echo"
    assert latency.end_of_speech == caller.ended
    assert latency.first_audio == agent.started
    assert sum(latency.stages.values()) == pytest.approx(latency.total)
    # the fakes: 0.3 s of silence, 0.2 s of recognition; the turn ends 0.5 s after the end of speech
    assert latency.silence == pytest.approx(0.3, abs=0.04)
    assert latency.recognition == pytest.approx(0.2, abs=0.04)
    assert latency.end_of_turn == pytest.approx(0.0, abs=0.04)
    assert latency.synthesis == pytest.approx(0.1, abs=0.03)
    assert latency.llm_ttft == pytest.approx(0.3, abs=0.03)
    assert latency.total < 1.2


def slow_graph() -> Any:
    agent = VoiceAgent("echo", instructions="Repeat.")
    return create_voice_graph([agent], llm=ScriptedModel(lambda *_: "You said it.", per_token=3.0))


@pytest.mark.parametrize("kind", ["livekit", "graph"])
async def test_a_reply_that_is_dropped_before_its_first_sound_leaves_a_mark(
    tones: Tones, tmp_path: Path, kind: str
) -> None:
    audio = record(tones, tmp_path / "in.wav", "what is the time", "and the day of the week please", gap=1.5)
    phone = make_session(llm=FakeLLM(echo, delay=4.0), stt=FakeSTT(tones), tts=FakeTTS(tones), vad=FakeVAD())
    agent = Echo() if kind == "livekit" else GraphAgent(slow_graph())
    result = await run_call(agent, phone, audio=audio, folder=tmp_path, patience=40.0)

    first, dropped, second, answer = result.log.utterances
    assert [first.speaker, dropped.speaker, second.speaker, answer.speaker] == [CALLER, "echo", CALLER, "echo"]
    assert (dropped.dropped, dropped.text, dropped.interrupted) == (True, "", True)
    assert first.ended < dropped.at < answer.started
    assert not answer.dropped
    page = (tmp_path / "transcript.md").read_text()
    assert "dropped before its first sound" in page
    assert "- 1 dropped before their first sound" in page
    assert "- 1 of echo" in page


async def test_an_interrupted_agent_ends_where_it_was_cut(tones: Tones, tmp_path: Path) -> None:
    story = "and so it went on and on and on, for ever and ever, without any end in sight at all, really"

    def answer(context: llm.ChatContext) -> Answer:
        return story if closing_message(context) == "tell me a story" else "fine"

    script = Script({"echo": [Step(["tell me a story"]), Step(["stop it now please"], interrupts=True, end=True)]})
    caller = SimulatedCaller(script, voice=FakeTTS(tones), interrupt_after=(1.5, 1.5))
    result = await run_call(Echo(), session(tones, answer), caller=caller, folder=tmp_path)

    asked, told, stopped, fine = result.log.utterances
    assert (asked.said, asked.text) == ("tell me a story", "tell me a story")
    assert told.interrupted
    assert told.generated == story
    assert story.startswith(told.text)
    assert 0 < len(told.text) < len(story) * 0.8
    assert told.unheard
    assert stopped.text == "stop it now please"
    assert stopped.started == pytest.approx(told.started + 1.5, abs=0.05)
    assert stopped.started < told.ended < stopped.ended
    assert fine.text == "fine"
    # the channel is silent from the cut on, to within a millisecond
    channel = right(result)
    assert pitch(part(channel, told)) == pytest.approx(pitch(tones.samples(story)), abs=5)
    assert np.any(channel[round((told.ended - 0.01) * SAMPLE_RATE) : round(told.ended * SAMPLE_RATE)])
    gap = channel[round((told.ended + 0.001) * SAMPLE_RATE) : round((fine.started - 0.001) * SAMPLE_RATE)]
    assert not np.any(gap)
    assert result.transcript is not None
    assert "**[interrupted at" in result.transcript.read_text()


class Intake(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Learn the name.", id="intake")

    async def on_enter(self) -> None:
        self.session.say("Hello, who is there?")

    @function_tool
    async def record_name(self, name: str) -> tuple[Agent, str]:
        """Record the name."""
        return Billing(), f"Transferring {name}."


class Billing(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Bill.", id="billing")

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="greet")


def desk(context: llm.ChatContext) -> Answer:
    """The two agents of a desk: the first calls a tool, says so, hands off; the second greets and answers."""
    system = context.items[0]
    assert isinstance(system, llm.ChatMessage)
    if system.text_content == "Learn the name.":
        if isinstance(context.items[-1], llm.FunctionCallOutput):
            return "One moment please, Sam."
        return Call("record_name", {"name": "Sam"})
    return "Your bill is paid." if closing_message(context) == "is my bill paid" else "This is billing."


async def test_a_handoff_shows_in_log_transcript_and_timeline(tones: Tones, tmp_path: Path) -> None:
    script = Script(
        {
            "intake": [Step(["my name is Sam"], expect_handoff="billing")],
            "billing": [Step(["is my bill paid"], end=True)],
        }
    )
    seen: list[Any] = []
    result = await run_call(
        Intake(),
        session(tones, desk),
        caller=SimulatedCaller(script, voice=FakeTTS(tones)),
        folder=tmp_path,
        on_entry=seen.append,
    )

    log = result.log
    assert [(entry.speaker, entry.text) for entry in log.utterances] == [
        ("intake", "Hello, who is there?"),
        (CALLER, "my name is Sam"),
        (
            "intake",
            "One moment please, Sam.",
        ),  # the tool has returned the next agent; the old one still speaks
        ("billing", "This is billing."),
        (CALLER, "is my bill paid"),
        ("billing", "Your bill is paid."),
    ]
    assert [(each.old_agent, each.new_agent) for each in log.handoffs] == [("intake", "billing")]
    (tool,) = log.tool_calls
    assert (tool.agent, tool.name, tool.arguments) == ("intake", "record_name", {"name": "Sam"})
    assert tool.output == "Transferring Sam."
    assert not tool.is_error
    moments = {entry.text: entry.started for entry in log.utterances}
    assert moments["One moment please, Sam."] < log.handoffs[0].at < moments["This is billing."]
    assert log.agents == ["intake", "billing"]
    assert log.notes == []
    assert set(map(type, seen)) == set(map(type, log.entries))
    assert result.transcript is not None
    text = result.transcript.read_text()
    assert "handoff from intake to billing" in text
    assert "record_name(name='Sam')" in text
    assert result.json is not None
    kinds = [entry["type"] for entry in json.loads(result.json.read_text())["entries"]]
    assert kinds.count("handoff") == 1


async def test_the_seed_chooses_among_the_ways_to_say_a_line(tones: Tones) -> None:
    async def words(seed: int) -> str | None:
        script = Script({"echo": [Step(["good day", "hello there", "hi you", "greetings to all"], end=True)]})
        caller = SimulatedCaller(script, voice=FakeTTS(tones), seed=seed)
        result = await run_call(Echo(), session(tones), caller=caller)
        return result.log.utterances[0].said

    said = [await words(seed) for seed in range(6)]
    assert len(set(said)) > 1
    assert [await words(seed) for seed in range(6)] == said


async def test_lines_are_said_in_order_whoever_has_the_floor(tones: Tones) -> None:
    caller = SimulatedCaller(ScriptLines.of(["good day", "and good bye"]), voice=FakeTTS(tones))
    result = await run_call(Echo(), session(tones), caller=caller)
    assert [entry.said for entry in result.log.utterances if entry.said] == ["good day", "and good bye"]


async def test_an_expected_handoff_that_does_not_come_is_noted(tones: Tones) -> None:
    script = Script({"echo": [Step(["hand me over"], expect_handoff="billing", end=True)]})
    result = await run_call(Echo(), session(tones), caller=SimulatedCaller(script, voice=FakeTTS(tones)))

    (note,) = result.log.notes
    assert note.kind == "caller"
    assert "'billing'" in note.text
    assert "'echo'" in note.text


async def test_an_agent_that_never_answers_is_an_error_with_the_files_of_the_call(tones: Tones, tmp_path: Path) -> None:
    model = FakeLLM(echo, delay=1000.0)
    hung = make_session(llm=model, stt=FakeSTT(tones), tts=FakeTTS(tones), vad=FakeVAD())
    script = Script({"echo": [Step(["anybody there"], end=True)]})
    with pytest.raises(CallerError, match="'anybody there' within 15 s") as caught:
        await run_call(Echo(), hung, caller=SimulatedCaller(script, voice=FakeTTS(tones)), folder=tmp_path)

    result = caught.value.result
    assert result is not None
    assert [entry.text for entry in result.log.utterances] == ["anybody there"]
    assert result.wav is not None
    assert result.wav.exists()
    assert 16 < result.duration < 19
    assert "has not answered" in (tmp_path / "transcript.md").read_text()


async def test_a_script_without_a_line_for_the_agent_says_which(tones: Tones) -> None:
    script = Script({"billing": [Step(["hello"], end=True)]})
    with pytest.raises(CallerError, match=r"no line .left. for the agent 'echo'"):
        await run_call(Echo(), session(tones), caller=SimulatedCaller(script, voice=FakeTTS(tones)))


async def test_the_limit_ends_a_call_whatever_goes_on(tones: Tones) -> None:
    script = Script({"echo": [Step(["once more"])] * 50})
    with pytest.raises(CallError, match="limit of 20 s") as caught:
        await run_call(Echo(), session(tones), caller=SimulatedCaller(script, voice=FakeTTS(tones)), limit=20)

    result = caught.value.result
    assert result is not None
    assert result.duration == pytest.approx(20, abs=0.1)
    assert len(result.log.utterances) > 4


async def test_a_sound_without_words_does_not_cut_the_agent(tones: Tones) -> None:
    story = "and so it went on and on and on, for ever and ever, without any end in sight at all, really"
    noise = Tones()  # a voice that the recogniser knows nothing of
    script = Script(
        {"echo": [Step(["tell me a story"]), Step(["a cough, not more"], interrupts=True), Step(["bye"], end=True)]}
    )

    class Voice(FakeTTS):
        def synthesize(self, text: str, **options: Any) -> Any:
            self.tones = noise if text == "a cough, not more" else tones
            return super().synthesize(text, **options)

    class Deaf(FakeSTT):
        async def _recognize_impl(self, buffer: Any, **options: Any) -> Any:
            event = await super()._recognize_impl(buffer, **options)
            heard = np.frombuffer(rtc.combine_audio_frames(buffer).data, dtype=np.int16)
            if abs(pitch(heard) - 205) < 8:
                event.alternatives[0].text = ""
            return event

    noise._hertz["a cough, not more"] = 205.0
    model = FakeLLM(lambda context: story if closing_message(context) == "tell me a story" else "bye now")
    cough = make_session(llm=model, stt=Deaf(tones), tts=FakeTTS(tones), vad=FakeVAD())
    result = await run_call(Echo(), cough, caller=SimulatedCaller(script, voice=Voice(tones)))

    told = next(entry for entry in result.log.utterances if entry.text == story)
    assert not told.interrupted
    # it fell silent for the cough, and then said all the rest
    assert told.ended - told.started > SECONDS_PER_CHARACTER * len(story) + 1.0
    played = np.count_nonzero(part(right(result), told)) / SAMPLE_RATE
    assert played == pytest.approx(SECONDS_PER_CHARACTER * len(story), rel=0.05)
    assert [note.kind for note in result.log.notes] == ["false interruption", "caller"]
    (lost,) = [entry for entry in result.log.utterances if entry.lost]
    assert (lost.said, lost.text) == ("a cough, not more", "")


async def test_a_tool_that_fails_shows_as_failed(tones: Tones) -> None:
    class Clumsy(Echo):
        @function_tool
        async def lift(self, weight: int) -> str:
            """Lift."""
            raise ToolError(f"{weight} kg are too heavy")

    def answer(context: llm.ChatContext) -> Answer:
        failed = isinstance(context.items[-1], llm.FunctionCallOutput)
        return "That did not work." if failed else Call("lift", {"weight": 90})

    script = Script({"echo": [Step(["lift it up"], end=True)]})
    caller = SimulatedCaller(script, voice=FakeTTS(tones))
    result = await run_call(Clumsy(), session(tones, answer), caller=caller)

    (tool,) = result.log.tool_calls
    assert (tool.name, tool.arguments, tool.is_error) == ("lift", {"weight": 90}, True)
    assert tool.output == "90 kg are too heavy"
    assert result.log.utterances[-1].text == "That did not work."


async def test_errors_of_the_models_are_on_the_log_and_in_the_error(tones: Tones) -> None:
    def answer(context: llm.ChatContext) -> Answer:
        raise APIError("the model is on strike", retryable=False)

    script = Script({"echo": [Step(["anybody there"], end=True)]})
    with pytest.raises(CallerError, match="the model is on strike") as caught:
        await run_call(
            Echo(),
            session(tones, answer),
            caller=SimulatedCaller(script, voice=FakeTTS(tones)),
        )
    assert caught.value.result is not None
    assert "error" in [note.kind for note in caught.value.result.log.notes]


async def test_a_caller_who_hangs_up_leaves_the_files_of_the_call(tones: Tones, tmp_path: Path) -> None:
    script = Script({"echo": [Step(["once more"])] * 50})
    call = asyncio.create_task(
        run_call(Echo(), session(tones), caller=SimulatedCaller(script, voice=FakeTTS(tones)), folder=tmp_path)
    )
    await asyncio.sleep(8.0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert 7.5 < soundfile.info(tmp_path / "call.wav").duration < 8.5
    assert "once more" in (tmp_path / "transcript.md").read_text()


@pytest.mark.parametrize("how", ["an error", "Ctrl-C", "Ctrl-C twice", "does not close", "no picture"])
async def test_a_recording_is_never_lost(
    tones: Tones, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the call ends. The recording may also be a file of its own, as `talk --output` wants it."""
    phone, script = session(tones), Script({"echo": [Step(["once more"])] * 50})
    close = phone.aclose

    async def closes_late_or_never() -> None:
        await close()
        if how == "Ctrl-C twice":
            await asyncio.sleep(5.0)
        if how == "does not close":
            raise RuntimeError("closed before")

    def no_picture(*_: Any, **__: Any) -> Path:
        raise OSError("no font")

    def breaks(entry: Any) -> None:
        if how == "an error" and loop.time() - began > 6.0:
            raise ZeroDivisionError("a printer that breaks")

    monkeypatch.setattr(phone, "aclose", closes_late_or_never)
    if how == "no picture":
        monkeypatch.setattr("graph_voice_livekit.inprocess.run.draw_timeline", no_picture)
    loop = asyncio.get_running_loop()
    began = loop.time()
    caller, folder, wav = SimulatedCaller(script, voice=FakeTTS(tones)), tmp_path / "all", tmp_path / "mine.wav"
    call = asyncio.create_task(
        run_call(Echo(), phone, caller=caller, folder=folder, wav=wav, on_entry=breaks, limit=8.0)
    )
    if how.startswith("Ctrl-C"):
        loop.call_later(7.0, call.cancel)
        loop.call_later(7.5, call.cancel)
    with pytest.raises((CallError, OSError, asyncio.CancelledError)):
        await call
    recorded, _ = soundfile.read(wav)
    assert recorded[:, 0].any()
    assert recorded[:, 1].any()
    assert "once more" in (folder / "transcript.md").read_text()
    assert json.loads((folder / "call.json").read_text())["entries"]


@pytest.mark.parametrize("missing", ["llm", "stt", "tts"])
async def test_a_call_that_could_not_be_held_is_refused_before_it_starts(tones: Tones, missing: str) -> None:
    parts: dict[str, Any] = {"llm": FakeLLM(echo), "stt": FakeSTT(tones), "tts": FakeTTS(tones)}
    del parts[missing]
    script = Script({"echo": [Step(["hello"], end=True)]})
    with pytest.raises(CallError, match=f"`{missing}`") as caught:
        await run_call(
            Echo(),
            make_session(vad=FakeVAD(), **parts),
            caller=SimulatedCaller(script, voice=FakeTTS(tones)),
        )
    assert caught.value.result is None


async def test_a_call_has_one_caller(tones: Tones) -> None:
    with pytest.raises(CallError, match="either `audio`"):
        await run_call(Echo(), session(tones))


async def test_a_reply_lasts_as_long_as_its_audio(tones: Tones, tmp_path: Path) -> None:
    audio = record(tones, tmp_path / "in.wav", "hello")
    result = await run_call(Echo(), session(tones), audio=audio)

    agent = result.log.utterances[-1]
    assert agent.ended - agent.started == pytest.approx(SECONDS_PER_CHARACTER * len("You said hello"), abs=0.025)
