"""A call with the real offline models: what is on each channel is heard by listening to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
from call_support import FakeLLM, closing_message
from hearing import likeness
from livekit import rtc
from livekit.agents import Agent
from speech_support import ALIKE, SEED

from graph_voice_livekit.inprocess import CALLER, SimulatedCaller, make_session, run_call
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples, synthesize

pytest.importorskip("piper")
pytest.importorskip("faster_whisper")

from graph_voice_livekit.offline import OfflineParts, load_all

# On the virtual clock, recognition and synthesis take no time of the call, so it goes the same way on any machine.
pytestmark = [pytest.mark.speech, pytest.mark.virtual_clock(limit=120)]


@dataclass
class Step:
    say: list[str]
    interrupts: bool = False
    expect_handoff: str | None = None
    end: bool = False


@dataclass
class Script:
    steps: dict[str, list[Step]] = field(default_factory=dict)


class Clerk(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Answer.", id="clerk")


@pytest.fixture
def parts() -> OfflineParts:
    return load_all(seed=SEED)


async def heard(parts: OfflineParts, samples: Samples) -> str:
    padded = np.pad(samples, SAMPLE_RATE // 4)
    frame = rtc.AudioFrame(padded.tobytes(), SAMPLE_RATE, 1, len(padded))
    event = await parts.stt.recognize([frame])
    return event.alternatives[0].text if event.alternatives else ""


async def test_a_file_is_answered_and_each_channel_holds_its_words(parts: OfflineParts, tmp_path: Path) -> None:
    question = "Can you tell me where the station is?"
    file = tmp_path / "question.wav"
    soundfile.write(file, await synthesize(parts.tts("low"), question), SAMPLE_RATE)
    answer = "The station is behind the old town hall."
    session = make_session(llm=FakeLLM(lambda _: answer), stt=parts.stt, tts=parts.tts("high"), vad=parts.vad)
    result = await run_call(Clerk(), session, audio=file, folder=tmp_path / "out", limit=30)

    caller, clerk = result.log.utterances
    assert likeness(caller.text, question) > ALIKE
    assert clerk.text == answer
    samples = result.recorder.samples(result.duration)
    assert likeness(await heard(parts, samples[:, 0]), question) > ALIKE
    assert likeness(await heard(parts, samples[:, 1]), answer) > ALIKE
    assert soundfile.info(str(result.wav)).duration == pytest.approx(result.duration, abs=0.001)


async def test_an_interrupted_answer_is_on_the_channel_as_far_as_the_log_says(
    parts: OfflineParts, tmp_path: Path
) -> None:
    story = (
        "The first train leaves at seven in the morning, the second at nine, the third at eleven,"
        " and after that there is one every hour until late in the evening."
    )
    script = Script(
        {"clerk": [Step(["When do the trains leave?"]), Step(["Stop, that is enough."], interrupts=True, end=True)]}
    )
    model = FakeLLM(lambda context: "All right." if "enough" in closing_message(context) else story)
    session = make_session(llm=model, stt=parts.stt, tts=parts.tts("high"), vad=parts.vad)
    caller = SimulatedCaller(script, voice=parts.tts("low"), interrupt_after=(1.5, 1.5))
    result = await run_call(Clerk(), session, caller=caller, limit=40)

    told = next(entry for entry in result.log.utterances if entry.speaker != CALLER)
    assert told.interrupted
    assert story.startswith(told.text)
    assert len(told.text) < len(story) / 2
    channel = result.recorder.samples(result.duration)[:, 1]
    first, last = round(told.started * SAMPLE_RATE), round(told.ended * SAMPLE_RATE)
    assert likeness(await heard(parts, channel[first:last]), told.text) > 0.6  # cut inside a word
    assert not np.any(channel[last + SAMPLE_RATE // 100 :][: SAMPLE_RATE // 2])
