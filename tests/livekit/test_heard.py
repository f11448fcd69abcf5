"""What was heard, given back to the messages that were spoken."""

from hypothesis import given
from hypothesis import strategies as st

from graph_voice_livekit.heard import split_heard

WORD = st.sampled_from(["no", "yes", "I", "see.", "well,", "forty", "euros", "-", "you're", "No"])
MESSAGE = st.lists(WORD, min_size=1, max_size=8).map(" ".join)
MESSAGES = st.lists(MESSAGE, min_size=1, max_size=4).map(lambda texts: [(f"m{i}", t) for i, t in enumerate(texts)])


def all_words(parts: dict[str, str]) -> list[str]:
    return [word for text in parts.values() for word in text.split()]


@given(MESSAGES)
def test_all_that_was_said_and_heard_is_each_message_as_it_was(said: list[tuple[str, str]]) -> None:
    assert split_heard(said, " ".join(text for _, text in said)) == dict(said)


@given(MESSAGES, st.data())
def test_a_beginning_that_was_heard_is_the_beginning_of_the_messages(
    said: list[tuple[str, str]], data: st.DataObject
) -> None:
    words = " ".join(text for _, text in said).split()
    count = data.draw(st.integers(0, len(words)))
    parts = split_heard(said, " ".join(words[:count]))
    assert list(parts) == [message_id for message_id, _ in said]
    left = count
    for message_id, text in said:
        expected = text.split()[:left]
        assert parts[message_id].split() == expected
        left -= len(expected)


@given(MESSAGES, st.lists(st.one_of(WORD, st.text(min_size=1, max_size=4)), max_size=12).map(" ".join))
def test_no_word_that_was_heard_is_lost_or_moved(said: list[tuple[str, str]], heard: str) -> None:
    assert all_words(split_heard(said, heard)) == heard.split()


def test_nothing_heard_is_nothing_of_any_message() -> None:
    assert split_heard([("a", "One moment."), ("b", "Found it.")], "") == {"a": "", "b": ""}


def test_a_transcript_without_punctuation_finds_its_messages() -> None:
    said = [("a", "One moment, please."), ("b", "It's found!")]
    assert split_heard(said, "one moment please its found") == {"a": "one moment please", "b": "its found"}


def test_an_edited_word_stays_with_the_words_before_it() -> None:
    said = [("a", "You owe 40 euros."), ("b", "Goodbye.")]
    assert split_heard(said, "You owe forty euros. Goodbye.") == {"a": "You owe forty euros.", "b": "Goodbye."}


def test_a_single_message_is_what_was_heard_to_the_letter() -> None:
    assert split_heard([("a", "Hello  there.")], "Hello  th") == {"a": "Hello  th"}
