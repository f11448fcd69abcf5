"""What has become past is what it would be if nothing ever became past, also where many things have the same time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from graph_voice.call.live_state import LiveState
from graph_voice.call.past import Past
from graph_voice.turn.record import Group, ModelStep, Spoken, TurnRecord, in_order
from graph_voice.turn.state import TurnState

Item = TurnRecord | Group
RECENT = 32
"""Groups: what is dated back further than these finds its place in front of them."""
TIMES = st.integers(1, 5).map(float)
"""Few, so that most of what happens happens at the same time as something else."""


def turn(number: int, user_at: float | None, *steps: ModelStep) -> TurnRecord:
    record = TurnRecord(HumanMessage("hi", id=f"user-{number}"), number)
    record.user_at = user_at
    record.items += steps
    return record


def step(name: str, at: float, *lines: float) -> ModelStep:
    """A reply that begins to be heard at a time, and whose tools say lines at others."""
    spoken = [Spoken(f"line-{name}-{n}", "one moment", "one moment", at=line) for n, line in enumerate(lines)]
    return ModelStep("a", Spoken(f"words-{name}", "hello", "hello", at=at), at=at, lines=spoken)


def aside(number: int, at: float) -> Group:
    return Group(at, [AIMessage("house", id=f"house-{number}")], number, unpaired=True)


def told(messages: Sequence[AnyMessage]) -> list[tuple[str | None, str]]:
    return [(m.id, m.text) for m in messages]


def parts(items: Sequence[Item]) -> tuple[list[TurnRecord], list[Group]]:
    return [i for i in items if isinstance(i, TurnRecord)], [i for i in items if isinstance(i, Group)]


def in_their_order(items: Sequence[Item]) -> list[tuple[str | None, str]]:
    return told([message for group in in_order(*parts(items)) for message in group.messages])


# ---- the order of what has the same time


def test_of_equals_the_turn_that_began_first_is_in_front_whole() -> None:
    first, second = turn(1, 5.0, step("1", 5.0, 5.0)), turn(2, 5.0, step("2", 5.0))
    for items in ([first, second], [second, first]):
        assert [name for name, _ in in_their_order(items)] == ["user-1", "words-1", "user-2", "words-2"]


@pytest.mark.parametrize(
    ("number", "order"),
    [
        (1, ["house-1", "user-2", "words-2"]),
        (3, ["user-2", "words-2", "house-3"]),
    ],
)
def test_of_equals_words_from_outside_are_where_they_were_added(number: int, order: list[str]) -> None:
    assert [name for name, _ in in_their_order([turn(2, 5.0, step("2", 5.0)), aside(number, 5.0)])] == order


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, ["hello", "house", "one moment"]),  # it stands between the words and the line
        (3, ["hello one moment", "house"]),
    ],
)
def test_a_line_at_the_time_of_something_else_is_behind_it_if_its_turn_is(number: int, text: list[str]) -> None:
    spoken = turn(2, 4.0, step("2", 4.0, 5.0))
    assert [words for _, words in in_their_order([spoken, aside(number, 5.0)])] == ["hi", *text]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, ["house", "hi", "hello one moment"]),
        (3, ["hi", "hello", "house", "one moment"]),
    ],
)
def test_what_stands_between_words_and_their_line_may_have_the_time_of_the_words(number: int, text: list[str]) -> None:
    spoken = turn(2, 5.0, step("2", 5.0, 6.0))
    assert [words for _, words in in_their_order([spoken, aside(number, 5.0)])] == text


# ---- the past, however it was made


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """Turns whose tools speak, and words from outside, in the order in which they come to be known."""
    made: list[Item] = []
    room = RECENT
    for number in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 3)) == 0:
            made.append(aside(number, draw(TIMES)))
            room -= 1
            continue
        lines = draw(st.lists(st.lists(TIMES, max_size=2), max_size=2))
        room -= 1 + sum(1 + len(each) for each in lines)
        if room < 0:
            break
        steps = [step(f"{number}-{n}", draw(TIMES), *each) for n, each in enumerate(lines)]
        made.append(turn(number, draw(st.none() | TIMES), *steps))
    return draw(st.permutations(made))


SIZES = st.lists(st.integers(1, 4), min_size=120, max_size=120)


@given(items(), SIZES)
def test_what_comes_late_finds_its_place_however_the_past_was_made(made: list[Item], sizes: list[int]) -> None:
    past, done = Past([HumanMessage("before", id="before")]), 0
    for size in sizes:
        records, asides = parts(made[done : done + size])
        done += size
        shown = told(past.followed_by(records, asides))
        assert shown == [("before", "before"), *in_their_order(made[:done])]
        past.add(records, asides)
        assert told(past.messages) == shown
        if done >= len(made):
            break


@st.composite
def long_calls(draw: st.DrawFn) -> list[Item]:
    """At least a second for two of them, so that what is dated back by one is dated back by few groups."""
    made: list[Item] = []
    now = 100.0
    for number in range(draw(st.integers(40, 60))):
        now += number % 2 + draw(st.sampled_from([0.0, 0.0, 1.0]))
        at = now - draw(st.sampled_from([0.0, 0.0, 0.0, 1.0]))
        lines = draw(st.lists(st.sampled_from([0.0, 1.0]).map(lambda later, at=at: at + later), max_size=2))
        made.append(
            aside(number, at) if draw(st.integers(0, 3)) == 0 else turn(number, at, step(f"{number}", at, *lines))
        )
    return made


@settings(max_examples=30)
@given(long_calls(), SIZES)
def test_only_the_end_of_the_past_is_kept_as_it_was_made(made: list[Item], sizes: list[int]) -> None:
    past, done = Past([]), 0
    for size in sizes:
        past.add(*parts(made[done : done + size]))
        done += size
        assert len(past._records) + len(past._asides) < 50
        assert told(past.messages) == in_their_order(made[:done])
        if done >= len(made):
            break
    assert past._records or past._asides


# ---- a call: turns that overlap, and become past one after the other


@dataclass
class FakeTurn:
    """What a call's state asks of a turn."""

    record: TurnRecord
    state: TurnState = TurnState.SPECULATIVE
    settled: bool = False
    is_past: bool = False


class Calls:
    """The same call twice: of one, what is over becomes past at once; of the other, nothing ever does."""

    def __init__(self) -> None:
        self.folding, self.whole = LiveState({}, []), LiveState({}, [])
        self.turns: list[FakeTurn] = []
        self.numbers: Iterator[int] = iter(range(1, 1_000))

    def _each(self, do: Callable[[Any], None]) -> None:
        for live in (self.folding, self.whole):
            do(live)

    def begin(self, at: float) -> None:
        begun = FakeTurn(turn(next(self.numbers), None))
        self.turns.append(begun)
        self._each(lambda live: live.turns.append(begun))

    def commit(self, at: float) -> None:
        for begun in [t for t in self.turns if not t.state.happened][:1]:
            begun.state, begun.record.user_at = TurnState.COMMITTED, at

    def commit_last(self, at: float) -> None:
        for begun in [t for t in self.turns if not t.state.happened][-1:]:
            begun.state, begun.record.user_at = TurnState.COMMITTED, at

    def speak(self, at: float) -> None:
        for speaking in self._open()[-1:]:
            record = speaking.record
            record.items.append(step(f"{record.order}-{len(record.items)}", at))

    def say_a_line(self, at: float) -> None:
        for speaking in self._open()[:1]:
            for item in speaking.record.items[-1:]:
                assert isinstance(item, ModelStep)
                item.lines += step(f"{item.words.id}-{len(item.lines)}", at, at).lines

    def settle(self, at: float) -> None:
        for ended in self._open()[:1]:
            ended.settled = True

    def add(self, at: float) -> None:
        number = next(self.numbers)
        self._each(lambda live: live.add(aside(number, at)))

    def _open(self) -> list[FakeTurn]:
        return [t for t in self.turns if t.state.happened and not t.settled]


WHAT = ["begin", "commit", "commit_last", "speak", "say_a_line", "settle", "add"]


@given(st.lists(st.tuples(st.sampled_from(WHAT), TIMES), max_size=RECENT))
def test_a_call_is_remembered_as_if_nothing_had_become_past(happened: list[tuple[str, float]]) -> None:
    calls = Calls()
    for what, at in happened:
        getattr(calls, what)(at)
        calls._each(lambda live: live.changed())
        calls.folding.fold()
        assert told(calls.folding.values["messages"]) == told(calls.whole.values["messages"])


def test_turns_that_are_over_do_become_past() -> None:
    calls = Calls()
    for _ in range(5):
        for what in ("begin", "commit", "speak", "say_a_line", "add", "settle"):
            getattr(calls, what)(1.0)
        calls._each(lambda live: live.changed())
        calls.folding.fold()
    assert [t.is_past for t in calls.turns] == [True, True, True, False, False]
    assert told(calls.folding.values["messages"]) == told(calls.whole.values["messages"])
