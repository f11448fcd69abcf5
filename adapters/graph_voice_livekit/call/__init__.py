"""A call in one process, without a server: audio in, audio out, a recording, and what is to be seen of it."""

from .audio_in import FileAudioInput, Line, LineAudioInput
from .audio_out import RecordingAudioOutput
from .caller import SimulatedCaller
from .entries import CALLER, CallLog, Handoff, Latency, Note, ToolCall, Utterance
from .errors import AudioFileError, CallerError, CallError
from .recorder import CallRecorder
from .run import CallResult, make_session, run_call
from .timeline import draw_timeline
from .transcript import LivePrinter, transcript, write_transcript

__all__ = [
    "CALLER",
    "AudioFileError",
    "CallError",
    "CallLog",
    "CallRecorder",
    "CallResult",
    "CallerError",
    "FileAudioInput",
    "Handoff",
    "Latency",
    "Line",
    "LineAudioInput",
    "LivePrinter",
    "Note",
    "RecordingAudioOutput",
    "SimulatedCaller",
    "ToolCall",
    "Utterance",
    "draw_timeline",
    "make_session",
    "run_call",
    "transcript",
    "write_transcript",
]
