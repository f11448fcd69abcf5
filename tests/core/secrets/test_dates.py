"""Dates that a caller says, in words and in digits; and text that is too long to be read word by word."""

import pytest
from history_support import thorough
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from graph_voice.secrets.dates import dates_in, ways_to_write
from graph_voice.secrets.numbers import head_of
from graph_voice.secrets.spoken import close, open_words, redact
from graph_voice.secrets.values import MASK

TILL = frozenset({"till"})
BIRTHDAY = [
    "May 3rd, 1980",
    "the third of May, nineteen eighty",
    "May the third, nineteen hundred and eighty",
    "the third of the fifth, nineteen eighty",
    "the third of the fifth eighty",
    "03.05.1980",
    "5/3/80",
    "1980-05-03",
    "May three eighty",
    "3 May '80",
    "nineteen eighty, May the third",
    "the 3rd of May",
    "third of May eighty",
    "zero three zero five nineteen eighty",
    "the 3rd day of the month of May in the year 1980",
]
EXPIRY = [
    "12/27",
    "twelve twenty seven",
    "twelve, two thousand twenty seven",
    "December twenty seven",
    "December twenty twenty seven",
    "December of two thousand and twenty-seven",
    "Dec 2027",
    "one two two seven",
]
LOOSE = ["I was born {}.", "{}", "Um, {} it is", "It's {}, and the name is Ann"]


@pytest.mark.parametrize("frame", LOOSE)
@pytest.mark.parametrize("said", BIRTHDAY)
def test_a_date_of_birth_is_redacted_and_closed_however_it_is_said(said: str, frame: str) -> None:
    held = redact(HumanMessage(frame.format(said), id="1"), TILL)
    assert held.text == frame.format(MASK if not said.startswith("the ") else f"the {MASK}")
    for secret in ("1980-05-03", "05/03/1980", "03.05.1980", "May 3, 1980", "3 May 1980"):
        (closed,) = close([held], [secret])
        assert open_words([closed], "till")[0].text == held.text, secret


@pytest.mark.parametrize("said", EXPIRY)
def test_an_expiry_is_redacted_and_closed_in_words_too(said: str) -> None:
    held = redact(HumanMessage(f"It expires {said}.", id="1"), TILL)
    assert not any(word in held.text.lower() for word in ("12", "27", "twelve", "twelfth", "dec", "seven"))
    for secret in ("12/27", "12/2027"):
        (closed,) = close([held], [secret])
        shown = open_words([closed], "till")[0].text.lower()
        assert not any(word in shown for word in ("27", "twelve", "dec", "seven")), secret


@pytest.mark.parametrize(
    "text",
    [
        "May I have two pizzas?",
        "One second, please.",
        "March on.",
        "The first pizza, and the second one.",
        "In May, please.",
        "A second time in August?",
        "The third of them.",
    ],
)
def test_what_is_no_date_stays(text: str) -> None:
    assert dates_in(text) == []
    message = HumanMessage(text, id="1")
    assert redact(message, TILL) is message


def test_a_delivery_date_is_a_word_like_any_other_for_an_agent_that_takes_no_secret() -> None:
    message = HumanMessage("Deliver it on May 3rd, 2026.", id="1")
    assert redact(message, frozenset()) is message


def test_another_date_than_the_one_that_was_taken_stays_readable() -> None:
    held = redact(HumanMessage("Born May 3rd, 1980, delivery June 4th", id="1"), TILL)
    (closed,) = close([held], ["1980-05-03"])
    assert open_words([closed], "till")[0].text == f"Born {MASK}, delivery June 4th"


@given(st.dates())
@thorough
def test_a_date_may_be_said_as_it_is_written(date: object) -> None:
    ways = ways_to_write(str(date))
    digits = str(date).replace("-", "")
    assert (None, digits) in ways
    assert (int(digits[4:6]), str(int(digits[6:])) + digits[:4]) in ways


# ---- very long texts


NUMBERS = [
    "4111 2222 3333 4444",
    "4111-2222-3333-4444",
    "four one one one two two two two three three three three four",
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("agents", [TILL, frozenset()], ids=["takes", "takes none"])
def test_a_number_far_behind_in_a_long_text_is_redacted_as_well(number: str, agents: frozenset[str]) -> None:
    before = "The quick brown fox. " * 3000
    held = redact(HumanMessage(before + number + " is it.", id="1"), agents)
    assert held.text == before + MASK + " is it."
    if agents:
        (closed,) = close([held], ["4111222233334444"])
        assert open_words([closed], "till")[0].text == held.text


@given(st.lists(st.sampled_from(["4111", "22223333", "seven", "pizza,", "double", "12", "and", "May"]), min_size=50))
@thorough
def test_of_a_long_text_nothing_is_shown_that_a_short_one_hides(words: list[str]) -> None:
    tail = " ".join(words)
    padding = "x " * 10_000
    assert head_of(padding + tail) < len(padding + tail)
    long = redact(HumanMessage(padding + tail, id="1"), TILL).text[len(padding) - 2 :]
    assert "4111" not in long
    assert "22223333" not in long
