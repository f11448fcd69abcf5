"""Finds when each word of a text is heard, from the phonemes that a voice spoke and their lengths."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

__all__ = ["SpokenPhoneme", "WordSpan", "align_words"]

# With a smaller share of phonemes in common, text and sound are not the same words.
_MIN_AGREEMENT = 0.5

_STRESS = "ˈˌ"
_LENGTH = "ːˑ"


@dataclass(frozen=True)
class SpokenPhoneme:
    """One phoneme as it was spoken, with the samples in which it sounds."""

    symbol: str
    start: int
    end: int


@dataclass(frozen=True)
class WordSpan:
    """The samples in which a word sounds; `start == end` for what has no sound of its own, such as a dash."""

    start: int
    end: int


def is_sound(symbol: str) -> bool:
    """Whether a phoneme symbol stands for a sound of its own (IPA letters are letters to Unicode)."""
    return any(character.isalpha() and character not in _STRESS + _LENGTH for character in symbol)


def align_words(words: Sequence[Sequence[str]], spoken: Sequence[SpokenPhoneme]) -> list[WordSpan] | None:
    """Find each word's samples.

    The phonemizer turns "42" into two spoken words and "of the" into one, so words can't be counted by their
    spaces. Each word is phonemized alone instead, and the two sequences of sounds are aligned.

    Args:
        words: For each word of the text, the phonemes it has when spoken alone.
        spoken: What was spoken, in order, with sample positions.

    Returns:
        One span per word, in order and without overlap; None when text and sound don't match.
    """
    sounds = _sounds(spoken)
    expected = [symbol for word in words for symbol in word if is_sound(symbol)]
    if not sounds or not expected:
        return None
    matcher = SequenceMatcher(None, expected, [sound.symbol for sound in sounds], autojunk=False)
    if matcher.ratio() < _MIN_AGREEMENT:
        return None
    position = _positions(matcher, len(expected))

    spans: list[WordSpan] = []
    first = 0
    for word in words:
        last = first + sum(is_sound(symbol) for symbol in word)
        begin, end = position[first], position[last]
        previous = spans[-1].end if spans else 0
        if begin < end:
            spans.append(WordSpan(max(sounds[begin].start, previous), max(sounds[end - 1].end, previous)))
        else:
            spans.append(WordSpan(previous, previous))
        first = last
    return spans


def _sounds(spoken: Sequence[SpokenPhoneme]) -> list[SpokenPhoneme]:
    """The sounds, each with the samples of the stress mark before it and the length mark after it."""
    sounds: list[SpokenPhoneme] = []
    stress: SpokenPhoneme | None = None
    for phoneme in spoken:
        if is_sound(phoneme.symbol):
            sounds.append(replace(phoneme, start=stress.start) if stress else phoneme)
            stress = None
        elif phoneme.symbol in _STRESS:
            stress = stress or phoneme
        elif phoneme.symbol in _LENGTH and sounds and sounds[-1].end == phoneme.start:
            sounds[-1] = replace(sounds[-1], end=phoneme.end)
        else:
            stress = None
    return sounds


def _positions(matcher: "SequenceMatcher[str]", count: int) -> list[int]:
    """For each expected sound, and for the end, the index of the spoken sound at which it begins."""
    position = [0] * (count + 1)
    end = 0
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        for i in range(i1, i2):
            # Equal runs map one to one; where the sounds differ, the shorter run is stretched.
            position[i] = j1 + (i - i1) * (j2 - j1) // (i2 - i1)
        end = j2
    position[count] = end
    return position
