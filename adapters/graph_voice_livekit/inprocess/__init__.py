"""Public. A call in this process, without a server: its audio, its recording, its log, and a picture of it."""

from graph_voice_livekit.inprocess.audio_in import CallerUtterance, FileAudioInput, LineAudioInput
from graph_voice_livekit.inprocess.audio_out import RecordingAudioOutput
from graph_voice_livekit.inprocess.caller import SimulatedCaller
from graph_voice_livekit.inprocess.entries import CALLER, CallLog, Handoff, Latency, Note, ToolCall, Utterance
from graph_voice_livekit.inprocess.recorder import CallRecorder
from graph_voice_livekit.inprocess.result import AudioFileError, CallerError, CallError, CallResult
from graph_voice_livekit.inprocess.run import make_session, run_call
from graph_voice_livekit.inprocess.timeline import draw_timeline
from graph_voice_livekit.inprocess.transcript import LivePrinter, transcript, write_transcript

__all__ = [
    "CALLER",
    "AudioFileError",
    "CallError",
    "CallLog",
    "CallRecorder",
    "CallResult",
    "CallerError",
    "CallerUtterance",
    "FileAudioInput",
    "Handoff",
    "Latency",
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
