"""`graph-voice talk` without a file: LiveKit's own console, with this machine's microphone and speakers."""

import copy
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

from livekit.agents import JobContext, cli
from rich.console import Console

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.console.setup import CallParts, Choices, prepare
from graph_voice_livekit.worker.server import create_server

__all__ = ["MicrophoneError", "talk_with_microphone"]


class MicrophoneError(GraphVoiceError, OSError):
    """There is no microphone, or there are no speakers."""


def talk_with_microphone(choices: Choices) -> None:
    """Hold a call with the person at this machine, until Ctrl-C.

    Raises `MicrophoneError` when there is no microphone or no speaker.
    """
    _check_devices()
    options = asdict(choices)
    server = create_server(
        choices.graph,
        stt=partial(_stt, options),
        tts=partial(_tts, options),
        vad=partial(_vad, options),
        call=partial(_describe, options),
    )
    # LiveKit's console is a command of LiveKit's command line, which reads the arguments itself.
    before, sys.argv = sys.argv, ["graph-voice talk", "console"]
    try:
        cli.run_app(server)
    finally:
        sys.argv = before


def _check_devices() -> None:
    try:
        import sounddevice

        for kind in ("input", "output"):
            sounddevice.query_devices(kind=kind)
    except (ImportError, OSError) as error:  # OSError: the PortAudio library is missing
        raise MicrophoneError(
            f"The sound devices can't be used ({error}). On Debian: apt-get install libportaudio2. Without sound: "
            "graph-voice talk GRAPH --input caller.wav --output call.wav"
        ) from error
    except ValueError as error:  # sounddevice raises it if there is none
        raise MicrophoneError(
            f"No microphone or no speaker was found ({error}). Plug one in, or let a recording call: "
            "graph-voice talk GRAPH --input caller.wav --output call.wav"
        ) from error


_parts: dict[str, CallParts] = {}


def _load(options: dict[str, Any]) -> CallParts:
    """The console runs the job in this process, so everything is loaded once."""
    key = repr(sorted(options.items()))
    if key not in _parts:
        _parts[key] = prepare(Choices(**options), Console(stderr=True))
    return _parts[key]


def _stt(options: dict[str, Any]) -> Any:
    return _load(options).recognition


def _tts(options: dict[str, Any]) -> Any:
    return _load(options).speech.tts(0)


def _vad(options: dict[str, Any]) -> Any:
    return _load(options).speech.vad


def _describe(options: dict[str, Any], job: JobContext) -> dict[str, Any]:
    parts = _load(options)
    known = copy.deepcopy(parts.userdata)
    return {"voices": parts.voices(), "config": parts.config, "speak": parts.speak, "userdata": known}
