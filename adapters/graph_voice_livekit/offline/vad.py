"""Voice activity detection on this machine."""

from typing import Any, Literal

from livekit.agents import vad

from graph_voice_livekit.offline.errors import SpeechOptionError
from graph_voice_livekit.offline.packages import check, require

__all__ = ["load_vad"]


def load_vad(
    engine: Literal["livekit", "silero"] = "livekit",
    *,
    min_silence: float = 0.4,
    min_speech: float = 0.05,
    threshold: float = 0.5,
    **options: Any,
) -> vad.VAD:
    """Load a voice activity detector for `AgentSession(vad=...)`.

    Both engines run the Silero model. Measured on 33 synthetic utterances ("Yes.", "My number is five, five,
    ..."), clean and at 10 dB over noise. Neither missed one; both report the start within 0.1 s:

    ============  ===========  =====================  ======================  =================
    engine        min_silence  utterances cut apart   end reported after (s)  CPU per second
    ============  ===========  =====================  ======================  =================
    livekit       0.25         8 of 66                0.35-0.47               0.010
    livekit       0.40         none                   0.52-0.63               0.010
    livekit       0.55         none                   0.68-0.79               0.009
    silero        0.25         4 of 66                0.37-0.49               0.016
    silero        0.40         none                   0.53-0.65               0.016
    silero        0.55         none                   0.69-0.81               0.014
    ============  ===========  =====================  ======================  =================

    So the default is LiveKit's own engine with 0.4 s. A cut utterance is not lost (LiveKit joins the pieces of a
    turn), but each piece costs a recognition of its own, and Whisper needs context. People pause longer than
    synthetic voices, so they need LiveKit's turn detection as well.

    Args:
        engine: "livekit" is livekit-local-inference, which livekit-agents depends on; its model may be used
            with LiveKit Agents only. "silero" is livekit-plugins-silero, with the MIT model on ONNX Runtime.
        min_silence: Seconds of silence that end an utterance.
        min_speech: Seconds of speech that begin one.
        threshold: Probability of speech from which a window counts as speech, 0-1.
        options: Further options of LiveKit's `inference.VAD` or `silero.VAD.load`.

    Raises:
        MissingDependencyError: The engine's package is not installed.
        SpeechOptionError: There is no such engine.
    """
    settings = {
        "min_silence_duration": min_silence,
        "min_speech_duration": min_speech,
        "activation_threshold": threshold,
        **options,
    }
    role = "load_vad"
    loaded: vad.VAD
    if engine == "livekit":
        check("livekit.local_inference", "livekit-local-inference", role)
        inference = require("livekit.agents.inference", "livekit-agents", role)
        loaded = inference.VAD(**settings)
    elif engine == "silero":
        silero = require("livekit.plugins.silero", "livekit-plugins-silero", role)
        loaded = silero.VAD.load(**settings)
    else:
        raise SpeechOptionError(f'There is no VAD engine {engine!r}: use "livekit" or "silero".')
    return loaded
