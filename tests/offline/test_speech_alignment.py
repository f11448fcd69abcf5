"""Which samples belong to which word."""

from hypothesis import given
from hypothesis import strategies as st

from graph_voice_livekit.offline.alignment import SpokenPhoneme, WordSpan, align_words


def spoken(symbols: str, length: int = 10) -> list[SpokenPhoneme]:
    return [SpokenPhoneme(symbol, index * length, (index + 1) * length) for index, symbol in enumerate(symbols)]


def test_each_word_has_the_samples_of_its_sounds() -> None:
    #                                      0123456
    assert align_words(["hˈaɪ", "bˈɒb"], spoken("^hˈaɪ bˈɒb.$")) == [WordSpan(10, 50), WordSpan(60, 100)]


def test_words_that_the_voice_joins_are_told_apart() -> None:
    assert align_words(["ʌv", "ðə"], spoken("ʌvðə")) == [WordSpan(0, 20), WordSpan(20, 40)]


def test_a_number_that_becomes_two_words_stays_one() -> None:
    assert align_words(["fɔːɹti tuː", "kats"], spoken("fɔːɹti tuː kats")) == [
        WordSpan(0, 100),
        WordSpan(110, 150),
    ]


def test_a_word_is_found_although_it_sounds_different_in_its_sentence() -> None:
    # "the" sounds otherwise alone than before a consonant.
    assert align_words(["ðiː", "tiːm"], spoken("ðə tiːm")) == [WordSpan(0, 20), WordSpan(30, 70)]


def test_a_dash_takes_no_time() -> None:
    assert align_words(["haɪ", "", "bɒb"], spoken("haɪ bɒb")) == [
        WordSpan(0, 30),
        WordSpan(30, 30),
        WordSpan(40, 70),
    ]


def test_a_pause_belongs_to_no_word() -> None:
    first, second = align_words(["wel", "jes"], spoken("wel,   jes")) or []
    assert (first.end, second.start) == (30, 70)


def test_no_times_are_invented_for_a_text_that_was_not_spoken() -> None:
    assert align_words(["zzz", "ʒʒʒ"], spoken("haɪ bɒb")) is None
    assert align_words(["haɪ"], []) is None
    assert align_words([""], spoken("haɪ")) is None


@given(st.lists(st.text("abcdeˈ", max_size=5), min_size=1, max_size=8), st.text("abcde ˈ.", max_size=30))
def test_the_words_are_in_order_and_inside_the_sound(words: list[str], sound: str) -> None:
    spans = align_words(words, spoken(sound))
    if spans is None:
        return
    assert len(spans) == len(words)
    edges = [edge for span in spans for edge in (span.start, span.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= 10 * len(sound)


@given(st.lists(st.text("abcde", min_size=1, max_size=5), min_size=1, max_size=8))
def test_a_text_spoken_as_written_is_aligned_exactly(words: list[str]) -> None:
    spans = align_words(words, spoken(" ".join(words)))
    start = 0
    for word, span in zip(words, spans or [], strict=True):
        assert span == WordSpan(10 * start, 10 * (start + len(word)))
        start += len(word) + 1
