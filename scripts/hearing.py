"""How alike two texts sound: what speech recognition wrote, and what was said.

Whisper may write "a corn broadbent" for "Acorn Broadband" or "730" for "seven thirty", depending on the processor that
it runs on. So this compares sounds, not spellings. The phonemizer of the offline voice turns both texts into phonemes,
and the phonemes that they have in common, in order, are counted.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher

from graph_voice_livekit.offline.alignment import is_sound
from graph_voice_livekit.offline.piper_voice import VOICES, voice_file

__all__ = ["likeness", "nearest"]


def likeness(heard: str, said: str) -> float:
    """0 for two texts without a sound in common, 1 for two that sound the same."""
    return SequenceMatcher(None, _sounds(heard), _sounds(said), autojunk=False).ratio()


def nearest(heard: str, candidates: Sequence[str]) -> str:
    """The candidate that sounds most like what was heard."""
    return max(candidates, key=lambda candidate: likeness(heard, candidate))


def _sounds(text: str) -> list[str]:
    return [phoneme for phoneme in VOICES.get(voice_file(None)).phonemes(text) if is_sound(phoneme)]
