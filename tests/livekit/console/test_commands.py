"""`graph-voice talk` and `demo`: what is checked before the call, and what the call begins with."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import BaseModel

from graph_voice import Agent, create_voice_graph
from graph_voice.cli import main
from graph_voice.launch.model_choice import ModelChoice
from graph_voice.testing import ScriptedModel
from graph_voice_livekit.console import commands, microphone, setup
from graph_voice_livekit.console.setup import CallParts, Choices

GRAPH = """
from pydantic import BaseModel
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

class Caller(BaseModel):
    name: str
    age: int = 0

graph = create_voice_graph([Agent("desk", instructions="Help.")], userdata=Caller, llm=ScriptedModel([]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_agent.py").write_text(GRAPH, encoding="utf-8")
    soundfile.write(tmp_path / "caller.wav", np.zeros(1600, np.int16), 16000)
    return tmp_path


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Choices]:
    """The calls for which models and voices would have been loaded. They go no further."""
    asked: list[Choices] = []

    def prepare(choices: Choices, console: Any) -> Any:
        asked.append(choices)
        raise ConnectionAbortedError("here the call would begin")

    monkeypatch.setattr(commands, "prepare", prepare)
    return asked


def talk(folder: Path, *options: str) -> list[str]:
    return ["talk", str(folder / "my_agent.py"), "--input", str(folder / "caller.wav"), *options]


def demo(folder: Path, *options: str) -> list[str]:
    return ["demo", str(folder / "my_agent.py"), "--say", "Hello.", *options]


ANN = ["--userdata", '{"name": "Ann"}']
BAD_OUTPUTS: list[tuple[Callable[..., list[str]], Callable[[Path], Path], str]] = [
    (talk, lambda f: f / "no" / "such" / "dir" / "x.wav", "the folder"),
    (talk, lambda f: f, "Is a directory"),
    (talk, lambda f: f / "caller.wav" / "x.wav", "Not a directory"),
    (talk, lambda f: f / ("x" * 300), "File name too long"),
    (demo, lambda f: f / "caller.wav", "is a file: name a folder"),
    (demo, lambda f: f / "caller.wav" / "inside", "a part of its path is a file"),
    (demo, lambda f: f / ("x" * 300), "File name too long"),
]


@pytest.mark.parametrize(("command", "output", "told"), BAD_OUTPUTS)
def test_an_output_that_can_not_be_written_is_told_before_anything_is_loaded(
    command: Any, output: Any, told: str, folder: Path, prepared: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *ANN, "--output", str(output(folder)))) == 1
    err = capsys.readouterr().err
    assert told in err
    assert "--output" in err
    assert "Traceback" not in err
    assert not prepared


@pytest.mark.parametrize("command", [talk, demo])
def test_an_output_that_can_be_written_is_left_as_it_is_until_the_call_is_over(
    command: Any, folder: Path, prepared: list[Choices]
) -> None:
    there = folder / "there"
    there.write_text("kept") if command is talk else there.mkdir()
    for output in (there, folder / "new"):
        with pytest.raises(ConnectionAbortedError):
            main(command(folder, *ANN, "--output", str(output), "--debug"))
    assert (there.read_text() == "kept") if command is talk else not list(there.iterdir())
    assert (folder / "new").exists() == (command is demo)
    assert len(prepared) == 2


@pytest.mark.parametrize("command", [talk, demo])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--userdata is needed, Caller: name"),
        (["--userdata", "Ann"], "--userdata is not JSON"),
        (["--userdata", '{"name": "Ann", "age": "old"}'], "--userdata does not fit, Caller: age"),
    ],
)
def test_userdata_that_does_not_fit_is_told_before_anything_is_loaded(
    command: Any, options: list[str], told: str, folder: Path, prepared: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *options)) == 1
    assert told in capsys.readouterr().err
    assert not prepared


@pytest.mark.parametrize("command", [talk, demo])
def test_the_userdata_is_what_the_call_begins_with(command: Any, folder: Path, prepared: list[Choices]) -> None:
    with pytest.raises(ConnectionAbortedError):
        main(command(folder, *ANN, "--debug"))
    assert prepared[0].userdata == '{"name": "Ann"}'


class Caller(BaseModel):
    name: str


def test_each_call_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel([])
    graph = create_voice_graph([Agent("desk", instructions="Help.")], userdata=Caller, llm=model)
    speech: Any = SimpleNamespace(voices={"low": None}, tts=lambda name: None)
    monkeypatch.setattr(setup, "load_graph", lambda spec: graph)
    monkeypatch.setattr(setup, "load_all", lambda *args, **options: speech)
    monkeypatch.setattr(setup, "choose_model", lambda *args, **options: ModelChoice(model, "scripted"))
    console: Any = SimpleNamespace(status=lambda text: _Status())
    parts = setup.prepare(Choices("my_agent.py", userdata='{"name": "Ann"}'), console)
    first, second = parts.agent().conversation, parts.agent().conversation
    assert first.userdata == second.userdata == Caller(name="Ann")
    assert first.userdata is not second.userdata
    monkeypatch.setattr(microphone, "_load", lambda options: parts)
    described = microphone._describe({}, SimpleNamespace())  # type: ignore[arg-type]
    assert described["userdata"] == Caller(name="Ann")
    assert set(described) == {"voices", "config", "speak", "userdata"}
    assert isinstance(parts, CallParts)


class _Status:
    def __enter__(self) -> "_Status":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, text: str) -> None:
        pass
