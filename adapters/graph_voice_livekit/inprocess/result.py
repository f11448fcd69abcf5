"""How a call ended: what is left of it, or what went wrong beyond what LiveKit itself raises."""

from dataclasses import dataclass
from pathlib import Path

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.inprocess.entries import CallLog
from graph_voice_livekit.inprocess.recorder import CallRecorder

__all__ = ["AudioFileError", "CallError", "CallResult", "CallerError"]


@dataclass(frozen=True, slots=True)
class CallResult:
    """What is left of a call when it is over."""

    log: CallLog
    recorder: CallRecorder
    wav: Path | None = None
    """Caller left, agents right. This and the next are None if no folder was given."""
    transcript: Path | None = None
    timeline: Path | None = None
    json: Path | None = None
    """The log, for programs."""

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end."""
        return self.log.duration


class CallError(GraphVoiceError, RuntimeError):
    """A call could not be held, or broke off."""

    result: CallResult | None = None
    """The log and the files of the call, if it had begun; else None."""


class CallerError(CallError):
    """The simulated caller can't go on: no answer came, or its script has no line for the active agent."""


class AudioFileError(CallError, ValueError):
    """An audio file can't be played: missing, empty, or not audio. Raised before the call starts."""
