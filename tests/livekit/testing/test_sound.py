"""Audio that carries its words."""

import numpy as np
import pytest
from livekit import rtc

from graph_voice_livekit.testing.sound import (
    SAMPLE_RATE,
    decode,
    encode,
    frame_of,
    is_silent,
    samples_of,
    split_words,
)


@pytest.mark.parametrize("text", ["hello", "  Hello there,  friend. ", "Ünïcödé ✓\nnext line", "a b c d e f g"])
def test_words_survive_the_way_through_audio(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == text
    found = decode(encode(words, 0.25, voice="änna"))
    assert [(word.voice, word.text) for word in found] == [("änna", word) for word in words]
    assert [word.stop - word.start for word in found] == [0.25 * SAMPLE_RATE] * len(words)


def test_a_word_with_a_hole_or_without_its_beginning_is_lost() -> None:
    audio = encode(["one", " two", " three"], 0.25, voice="v")
    hole = audio.copy()
    hole[3000:3200] = 0
    assert [word.text for word in decode(hole)] == ["one", " three"]
    assert [word.text for word in decode(audio[10:])] == [" two", " three"]


def test_a_word_that_goes_on_behind_the_end_says_so() -> None:
    audio = encode(["one", " two"], 0.25, voice="v")[:-10]
    assert [word.stop <= len(audio) for word in decode(audio)] == [True, False]


def test_long_words_keep_their_length() -> None:
    (word,) = decode(encode(["looong"], 12.5, voice="v"))
    assert word.stop == 12.5 * SAMPLE_RATE


def test_silence_is_silent_and_speech_is_not() -> None:
    assert is_silent(np.zeros(400, np.int16))
    assert not is_silent(encode(["one"], 0.25, voice="v"))


def test_a_word_needs_time_for_its_letters() -> None:
    with pytest.raises(ValueError, match=r"can't be said in 0\.001 s"):
        encode(["antidisestablishmentarianism"], 0.001, voice="v")


def test_frames_hold_the_samples_and_other_audio_is_refused() -> None:
    audio = encode(["one"], 0.25, voice="v")
    assert (samples_of(frame_of(audio)) == audio).all()
    with pytest.raises(ValueError, match="24000 Hz"):
        samples_of(rtc.AudioFrame.create(24000, 1, 480))
