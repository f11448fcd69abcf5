"""`graph-voice talk` and `graph-voice demo` as a user runs them, with real speech both ways."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hearing import likeness
from livekit import rtc
from numpy.typing import NDArray
from speech_support import ALIKE, SEED

from graph_voice_livekit.offline import PiperTTS, WhisperSTT
from scripts.listen_to_demo import listen

pytestmark = pytest.mark.speech
REPO = Path(__file__).parent.parent.parent
QUESTION = "What are your opening hours?"
COMMAND = "import sys; from graph_voice.cli import main; sys.exit(main(sys.argv[1:]))"
ON_THE_VIRTUAL_CLOCK = "import asyncio, graph_voice.testing as kit; asyncio.run = kit.run; "
"""A call is a conversation in real time: on a machine that can't keep up, the caller hears another one. On the virtual
clock, recognition and synthesis take no time of the call, so it goes the same way on any machine."""


def graph_voice(*arguments: str, before: str = ON_THE_VIRTUAL_CLOCK) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own, as the console script runs it."""
    return subprocess.run(
        [sys.executable, "-c", before + COMMAND, *arguments], cwd=REPO, capture_output=True, text=True, timeout=1800
    )


@pytest.fixture(scope="module")
def stt() -> WhisperSTT:
    made = WhisperSTT()
    made.load()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a demo left."""
    made = tmp_path_factory.mktemp("demo")
    done = graph_voice("demo", "graphs/intake.py:graph", "--seed", "5", "--output", str(made))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_a_demo_leaves_a_recording_and_what_there_is_to_see_of_it(folder: Path) -> None:
    left = {"call.wav", "transcript.md", "timeline.png", "graph.svg", "state.json"}
    assert left <= {file.name for file in folder.iterdir()}


async def test_the_recording_the_transcript_and_the_state_of_a_demo_agree(folder: Path, stt: WhisperSTT) -> None:
    report = await listen(folder, stt)
    assert not report.faults
    assert report.interruptions >= 1
    assert report.handoffs >= 1


async def test_a_recording_with_its_channels_swapped_is_found_out(
    folder: Path, stt: WhisperSTT, tmp_path: Path
) -> None:
    sound, rate = soundfile.read(folder / "call.wav")
    soundfile.write(tmp_path / "call.wav", sound[:, ::-1], rate)
    for name in ("call.json", "state.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    report = await listen(tmp_path, stt)
    assert any("after the cut" in fault or "words are in the recording" in fault for fault in report.faults)


async def test_a_state_that_remembers_unheard_words_is_found_out(folder: Path, stt: WhisperSTT, tmp_path: Path) -> None:
    for name in ("call.wav", "call.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    state = json.loads((folder / "state.json").read_text())
    cut = next(m for m in state["messages"] if m.get("interrupted"))
    cut["text"] += " and more that nobody heard"
    (tmp_path / "state.json").write_text(json.dumps(state))
    report = await listen(tmp_path, stt)
    assert any("was heard" in fault for fault in report.faults)


async def heard(stt: WhisperSTT, samples: NDArray[np.int16], rate: int) -> str:
    event = await stt.recognize(rtc.AudioFrame(samples.tobytes(), rate, 1, len(samples)))
    return event.alternatives[0].text


def closing_message(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """What is said after the last pause of a second."""
    loud = np.flatnonzero(np.abs(samples) > 300)
    pauses = np.flatnonzero(np.diff(loud) > rate)
    first = loud[pauses[-1] + 1] if len(pauses) else loud[0]
    return samples[max(0, first - rate // 4) : loud[-1] + rate // 4].copy()


def lines(printed: str) -> list[tuple[str, str]]:
    """Who said what, of the transcript that the commands print."""
    found = re.findall(r"^ *\d+:\d\d\.\d +(\w+) +(.*(?:\n {20,}\S.*)*)", printed, re.MULTILINE)
    return [(who, " ".join(text.split())) for who, text in found]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording in stereo, at the rate of a telephone."""
    speech = asyncio.run(PiperTTS(pitch="bright", seed=SEED).speak(QUESTION))
    words = soxr.resample(np.frombuffer(speech.pcm, np.int16), 24000, 8000)
    mono = np.concatenate([np.zeros(4000, np.int16), words, np.zeros(8000, np.int16)])
    file = tmp_path_factory.mktemp("caller") / "caller.wav"
    soundfile.write(file, np.stack([mono, mono], axis=1), 8000)
    return file


async def test_a_file_of_eight_kilohertz_in_stereo_is_a_caller_who_is_understood_and_answered(
    caller: Path, tmp_path: Path, stt: WhisperSTT
) -> None:
    out = tmp_path / "call.wav"
    done = graph_voice("talk", "graphs/customer_service.py", "--input", str(caller), "-o", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    printed = lines(done.stdout)
    [asked] = [text for who, text in printed if who == "caller"]
    assert likeness(asked, QUESTION) > ALIKE
    answer = printed[-1][1]
    assert printed[-1][0] == "customer_service"
    assert "ten" in answer
    sound, rate = soundfile.read(out, dtype="int16")
    assert sound.shape[1] == 2
    mine, theirs = (closing_message(channel, rate) for channel in sound.T)
    assert likeness(await heard(stt, mine, rate), QUESTION) > ALIKE
    assert likeness(await heard(stt, theirs, rate), answer) > ALIKE


def test_in_real_time_the_command_ends_and_records_whatever_the_machine(caller: Path, tmp_path: Path) -> None:
    out = tmp_path / "call.wav"
    done = graph_voice("talk", "graphs/customer_service.py", "--input", str(caller), "-o", str(out), before="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(likeness(text, QUESTION) > ALIKE for who, text in lines(done.stdout) if who == "caller")
    sound, _ = soundfile.read(out)
    assert sound[:, 0].any()
    assert sound[:, 1].any()


def test_a_file_without_speech_is_an_honest_empty_result(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000, np.int16), 16000)
    done = graph_voice("talk", "graphs/customer_service.py", "--input", str(tmp_path / "silence.wav"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no speech was recognized" in done.stdout


@pytest.mark.parametrize("content", [b"", b"this is no audio at all"])
def test_a_file_that_is_no_audio_is_refused_before_anything_is_loaded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "caller.wav").write_bytes(content)
    done = graph_voice("talk", "graphs/customer_service.py", "--input", str(tmp_path / "caller.wav"))
    assert done.returncode == 1
    assert "caller.wav" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_microphone_the_command_says_what_to_do_instead() -> None:
    try:
        import sounddevice

        if len(sounddevice.query_devices()):
            pytest.skip("this machine has sound devices: the command would start a call")
    except OSError:
        pass  # without the PortAudio library there are no devices either
    done = graph_voice("talk", "graphs/customer_service.py")
    assert done.returncode == 1
    assert "--input" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_demo_of_a_graph_that_is_not_there_says_so() -> None:
    done = graph_voice("demo", "graphs/nothing.py")
    assert done.returncode == 1
    assert "nothing.py" in done.stderr
    assert "examples" not in done.stderr
