"""Loading all offline speech parts together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livekit.agents import vad

from graph_voice_livekit.offline.errors import SpeechOptionError
from graph_voice_livekit.offline.piper_voice import VOICES
from graph_voice_livekit.offline.stt import WhisperSTT
from graph_voice_livekit.offline.tts import PiperTTS, voices
from graph_voice_livekit.offline.vad import load_vad

__all__ = ["OfflineParts", "load_all"]


@dataclass(frozen=True)
class OfflineParts:
    """Loaded speech parts of one call.

    The instances may serve all agents of a call. A second call in the same process should have its own
    `OfflineParts`, because LiveKit reports metrics through them: that is cheap, the models are shared.
    """

    stt: WhisperSTT
    """One for the whole call: another STT object per agent makes LiveKit rebuild the STT pipeline."""

    vad: vad.VAD
    """It also cuts the sound into utterances for `stt`."""

    voices: tuple[str, ...]
    """The names of the voices, from the lowest to the highest."""

    voice: Path
    """The piper voice's file."""

    seed: int | None = None
    """The seed of the voices; see `PiperTTS`."""

    def tts(self, name: str | int = "medium") -> PiperTTS:
        """A voice by its name or its index in `voices`; an index beyond the last starts again at the first.

        Raises:
            SpeechOptionError: There is no voice of that name.
        """
        if isinstance(name, int):
            name = self.voices[name % len(self.voices)]
        elif name not in self.voices:
            raise SpeechOptionError(f"There is no voice {name!r}. The voices are {', '.join(self.voices)}.")
        return PiperTTS(self.voice, pitch=name, seed=self.seed)


def load_all(
    progress: Callable[[str, float], None] | None = None,
    *,
    stt_model: str | Path | None = None,
    voice: str | Path | None = None,
    language: str | None = "en",
    seed: int | None = None,
) -> OfflineParts:
    """Load recognition, synthesis and voice activity detection (2-4 s the first time in a process).

    Blocks: call it before the event loop runs, in the `setup_fnc` of a LiveKit worker, or in a thread.

    Args:
        progress: Called in the same thread before each step, with its name and the share already done, 0-1, and
            at the end with ("ready", 1.0).
        stt_model: Folder of a Whisper model; see `WhisperSTT`.
        voice: File of a piper voice; see `PiperTTS`.
        language: Language code of what callers say; see `WhisperSTT`.
        seed: With a seed, a voice says the same words the same way each time; see `PiperTTS`.

    Raises:
        MissingDependencyError: A package is not installed. Checked for all parts before any is loaded.
        ModelFileError: There is no model at a given path.
    """
    report = progress or (lambda step, done: None)
    recognition = WhisperSTT(stt_model, language=language)
    file = PiperTTS(voice, seed=seed).file
    report("voice activity detection", 0.0)
    detector = load_vad()
    report("speech recognition", 0.1)
    recognition.load()
    report("speech synthesis", 0.5)
    VOICES.get(file)
    report("ready", 1.0)
    return OfflineParts(stt=recognition, vad=detector, voices=voices(), voice=file, seed=seed)
