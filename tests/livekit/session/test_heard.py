"""What was heard, given back to the messages that were spoken."""

import random
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_voice_livekit.session.heard import split_heard

WORD = st.sampled_from(
    [
        "no",
        "yes",
        "I",
        "see.",
        "well,",
        "forty",
        "euros",
        "-",
        "you're",
        "No",
        "Cafe\u0301",
        "👍🏽",
        "(and)",
        "שלום",
        "مَرحبًا",
    ]
)
UNSPACED = st.text(st.sampled_from("你好请稍等。，"), min_size=1, max_size=12)
MESSAGE = st.one_of(st.lists(WORD, min_size=1, max_size=8).map(" ".join), UNSPACED)
MESSAGES = st.lists(MESSAGE, min_size=1, max_size=4).map(lambda texts: [(f"m{i}", t) for i, t in enumerate(texts)])
Said = list[tuple[str, str]]


def plain(text: str) -> str:
    """Without white space."""
    return re.sub(r"\s", "", text)


def whole(said: Said) -> str:
    return " ".join(text for _, text in said)


@given(MESSAGES, st.booleans())
def test_all_that_was_said_and_heard_is_each_message_as_it_was(said: Said, interrupted: bool) -> None:
    assert split_heard(said, whole(said), interrupted=interrupted) == dict(said)


@given(MESSAGES, st.data())
def test_a_beginning_that_was_heard_is_the_beginning_of_the_messages(said: Said, data: st.DataObject) -> None:
    words = whole(said).split()
    count = data.draw(st.integers(0, len(words)))
    parts = split_heard(said, " ".join(words[:count]))
    assert list(parts) == [message_id for message_id, _ in said]
    left = count
    for message_id, text in said:
        expected = text.split()[:left]
        assert parts[message_id].split() == expected
        left -= len(expected)


@given(st.lists(UNSPACED, min_size=1, max_size=4), st.data())
def test_a_script_without_spaces_is_cut_between_any_two_characters(texts: list[str], data: st.DataObject) -> None:
    said = [(f"m{i}", text) for i, text in enumerate(texts)]
    count = data.draw(st.integers(0, len(whole(said))))
    parts = split_heard(said, whole(said)[:count])
    start = 0
    for message_id, text in said:
        expected = text[: max(0, count - start)]
        if re.search("[^。，]", expected):  # a comma that is heard alone belongs to nobody in particular
            assert parts[message_id] == expected
        start += len(text) + 1


@given(MESSAGES, st.lists(st.one_of(WORD, st.text(min_size=1, max_size=4)), max_size=12).map(" ".join), st.booleans())
def test_no_word_that_was_heard_is_lost_or_moved(said: Said, heard: str, interrupted: bool) -> None:
    assert plain("".join(split_heard(said, heard, interrupted=interrupted).values())) == plain(heard)


EDITS = {
    "upper case": str.upper,
    "no punctuation": lambda text: re.sub(r"[^\w\s]", "", text),
    "other white space": lambda text: re.sub(r"\s+", "\n ", text),
    "a word replaced": lambda text: text.replace("w7 ", "seven "),
    "a word more": lambda text: text.replace("w7 ", "w7 indeed "),
    "a word less": lambda text: text.replace("w7 ", ""),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), interrupted=st.booleans(), data=st.data())
def test_an_edit_does_not_move_the_words_around_it(
    edit: "object", sizes: list[int], interrupted: bool, data: st.DataObject
) -> None:
    """The words are numbered through, so that each shows to which message it belongs."""
    assert callable(edit)
    numbers = iter(range(sum(sizes)))
    words = [[f"w{next(numbers)}" for _ in range(size)] for size in sizes]
    said = [(f"m{i}", " ".join(part) + ".") for i, part in enumerate(words)]
    heard = whole(said)
    if interrupted:
        heard = " ".join(heard.split()[: data.draw(st.integers(0, sum(sizes)))])
    parts = split_heard(said, edit(heard), interrupted=interrupted)
    for (message_id, _), own in zip(said, words, strict=True):
        found = re.findall(r"w\d+", parts[message_id].lower())
        assert found == [word for word in own if word in found]
    assert plain("".join(parts.values())) == plain(edit(heard))


def test_nothing_heard_is_nothing_of_any_message() -> None:
    assert split_heard([("a", "One moment."), ("b", "Found it.")], "") == {"a": "", "b": ""}
    assert split_heard([], "") == {}


def test_a_transcript_without_punctuation_finds_its_messages() -> None:
    said = [("a", "One moment, please."), ("b", "It's found!")]
    assert split_heard(said, "one moment please its found") == {"a": "one moment please", "b": "its found"}


def test_an_edited_word_stays_with_the_words_before_it() -> None:
    said = [("a", "You owe 40 euros."), ("b", "Goodbye.")]
    assert split_heard(said, "You owe forty euros. Goodbye.") == {"a": "You owe forty euros.", "b": "Goodbye."}


def test_what_was_cut_off_is_as_early_as_its_words_allow() -> None:
    said = [("a", "I see no bill here."), ("b", "There is no bill.")]
    assert split_heard(said, "I found no bill") == {"a": "I found no bill", "b": ""}
    assert split_heard(said, "I found no bill", interrupted=False) == {"a": "I found", "b": "no bill"}


def test_an_edit_at_the_seam_is_shared_out_word_by_word() -> None:
    said = [("a", "One moment."), ("b", "Found it.")]
    assert split_heard(said, "One second. Got it.") == {"a": "One second.", "b": "Got it."}
    assert split_heard(said, "Un instant. Trouvé donc.", interrupted=False) == {"a": "Un instant.", "b": "Trouvé donc."}


def test_an_opening_bracket_goes_with_the_word_behind_it() -> None:
    said = [("a", "One moment."), ("b", "(Found) it.")]
    assert split_heard(said, "one moment. (found) it.") == {"a": "one moment.", "b": "(found) it."}


def test_a_single_message_is_what_was_heard_to_the_letter() -> None:
    assert split_heard([("a", "Hello  there.")], "Hello  th") == {"a": "Hello  th"}


def test_a_part_that_was_heard_has_the_line_breaks_of_its_message() -> None:
    said = [("a", "With these:\n\n- one\n- two\n- three")]
    assert split_heard(said, "With these: - one - two") == {"a": "With these:\n\n- one\n- two"}


def steps(said: Said, heard: str, interrupted: bool) -> int:
    """Lines of Python that the alignment runs: its work, whatever the machine."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        split_heard(said, heard, interrupted=interrupted)
    finally:
        sys.settrace(before)
    return count


CORRUPTIONS = {
    "the same": lambda words: words,
    "the first word another": lambda words: ["x", *words[1:]],
    "all others": lambda words: [f"x{word}" for word in words],
    "backwards": lambda words: words[::-1],
    "every third gone": lambda words: [w for i, w in enumerate(words) if i % 3],
    "shuffled": lambda words: random.Random(1).sample(words, len(words)),
}


@pytest.mark.parametrize("vocabulary", [1, 10, 5000])
@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
@pytest.mark.parametrize("interrupted", [True, False])
def test_the_work_grows_with_the_length_and_not_with_its_square(
    vocabulary: int, corrupt: "object", interrupted: bool
) -> None:
    assert callable(corrupt)

    def work(count: int) -> int:
        chosen = random.Random(count)
        words = [f"w{chosen.randrange(vocabulary)}" for _ in range(count)]
        said = [(f"m{i}", " ".join(words[i * count // 3 : (i + 1) * count // 3])) for i in range(3)]
        return steps(said, " ".join(corrupt(words)), interrupted)

    # The windows cost the same for each word, so that four times the words are at most some six times the work.
    assert work(2000) < 6 * work(500) + 50_000
