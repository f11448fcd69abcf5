"""What can go wrong with a call, beyond what LiveKit itself raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graph_voice.errors import GraphVoiceError

if TYPE_CHECKING:
    from graph_voice_livekit.inprocess.run import CallResult

__all__ = ["AudioFileError", "CallError", "CallerError"]


class CallError(GraphVoiceError, RuntimeError):
    """A call could not be held, or did not come to its end."""

    result: CallResult | None = None
    """What there was of the call (log and files), when it had begun. None before that."""


class CallerError(CallError):
    """The simulated caller can't go on: no answer came, or its script has no line for the agent."""


class AudioFileError(CallError, ValueError):
    """An audio file can't be played: missing, empty, or not audio. Raised before the call starts."""
