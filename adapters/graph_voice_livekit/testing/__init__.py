"""Public. The test kit for calls: a real `AgentSession`, with a fake caller, fake voices and a fake loudspeaker.

Models and networks are faked, nothing else: turn taking, interruptions, preemptive generation, handoffs and
history are LiveKit's own. See `voice_rig`, and `graph_voice.testing.Call(graph, front_end="livekit")`.
"""

from graph_voice_livekit.testing.caller import FakeAudioInput, FakeSTT, FakeVAD
from graph_voice_livekit.testing.front_end import LiveKitFrontEnd
from graph_voice_livekit.testing.rig import CallStuck, VoiceRig, voice_rig
from graph_voice_livekit.testing.voice import FakeAudioOutput, FakeCaptions, FakeTTS, Spoken, Synthesis

__all__ = [
    "CallStuck",
    "FakeAudioInput",
    "FakeAudioOutput",
    "FakeCaptions",
    "FakeSTT",
    "FakeTTS",
    "FakeVAD",
    "LiveKitFrontEnd",
    "Spoken",
    "Synthesis",
    "VoiceRig",
    "voice_rig",
]
