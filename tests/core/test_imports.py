"""What importing graph_voice costs, and that all its names are there."""

import subprocess
import sys

import graph_voice


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_and_its_errors_and_events_imports_no_heavy_library() -> None:
    loaded = loaded_by("import graph_voice\nfrom graph_voice import GraphVoiceError, events")
    assert "graph_voice.events" in loaded
    assert not loaded & {"langgraph", "langchain_core", "langsmith", "pydantic"}


def test_the_core_imports_no_audio_framework_and_no_provider() -> None:
    loaded = loaded_by("from graph_voice import *")
    assert "graph_voice.call.conversation" in loaded
    assert not loaded & {"livekit", "langchain_openai", "langchain", "graph_voice_livekit"}


def test_every_public_name_is_there_and_no_other() -> None:
    for name in graph_voice.__all__:
        assert getattr(graph_voice, name) is not None
        assert name in dir(graph_voice)
    assert not hasattr(graph_voice, "Nobody")
