"""What is frozen is what it would be if nothing ever were, also where many things have the same time.

Other examples each time, unlike elsewhere: what has the same time must not be in order by luck.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.channels import BinaryOperatorAggregate

from graph_voice.call.live_state import LiveState
from graph_voice.call.past import END, Past
from graph_voice.turn.record import ChannelUpdate, Group, ModelStep, Rewrite, Spoken, ToolCallRecord, TurnRecord, Write
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
    made = ModelStep("a", Spoken(f"words-{name}", "hello", "hello", at=at), at=at, lines=spoken)
    if lines:
        call_id = f"call-{name}"
        made.message = AIMessage("hello", id=f"words-{name}", tool_calls=[{"name": "look", "args": {}, "id": call_id}])
        result = ToolMessage("found", tool_call_id=call_id, id=f"result-{call_id}")
        made.calls = {call_id: ToolCallRecord(call_id, "look", "done", result)}
    return made


def aside(number: int, at: float) -> Group:
    return Group(at, [AIMessage("house", id=f"house-{number}")], number)


def told(messages: Sequence[AnyMessage]) -> list[tuple[str | None, str]]:
    return [(m.id, m.text) for m in messages]


def said(messages: Sequence[AnyMessage]) -> list[str]:
    return [m.text for m in messages if not isinstance(m, ToolMessage)]


def groups(items: Sequence[Item]) -> list[Group]:
    return [group for item in items for group in (item.groups() if isinstance(item, TurnRecord) else [item])]


def remembered(items: Sequence[Item]) -> list[AnyMessage]:
    return Past([]).followed_by(groups(items))


def as_defined(items: Sequence[Item]) -> list[tuple[str | None, str]]:
    """The rule, from all that is known at the end: everything stands at its place, in groups.

    A line of a tool is in the message of its step, unless something that is not of its turn stands between the two.
    """
    known = groups(items)
    standing = [group.place for group in known]
    lines = {line.words.id: (line.alone.place, group) for group in known for line in group.lines}
    apart: set[str] = set()
    for name, (heard, group) in sorted(lines.items(), key=lambda line: line[1][0]):
        if any(group.place < place < heard and place[1] != group.order for place in standing):
            apart.add(name)
            standing.append(heard)
    found = list[tuple[tuple[float, int], list[AnyMessage]]]()
    for group in known:
        kept = [line.words for line in group.lines if line.words.id not in apart]
        found.append((group.place, group.messages if group.step is None else group.step.messages(kept)))
        found += [(line.alone.place, line.alone.messages) for line in group.lines if line.words.id in apart]
    return told([message for _, messages in sorted(found, key=lambda placed: placed[0]) for message in messages])


# ---- the order of what has the same time


def test_of_equals_the_turn_that_began_first_is_in_front_whole() -> None:
    first, second = turn(1, 5.0, step("1", 5.0)), turn(2, 5.0, step("2", 5.0))
    for items in ([first, second], [second, first]):
        assert [m.id for m in remembered(items)] == ["user-1", "words-1", "user-2", "words-2"]


@pytest.mark.parametrize(
    ("number", "order"),
    [
        (1, ["house-1", "user-2", "words-2"]),
        (3, ["user-2", "words-2", "house-3"]),
    ],
)
def test_of_equals_words_from_outside_are_where_they_were_added(number: int, order: list[str]) -> None:
    assert [m.id for m in remembered([turn(2, 5.0, step("2", 5.0)), aside(number, 5.0)])] == order


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, ["hello", "house", "one moment"]),  # it stands between the words and the line
        (3, ["hello one moment", "house"]),
    ],
)
def test_a_line_at_the_time_of_something_else_is_behind_it_if_its_turn_is(number: int, text: list[str]) -> None:
    spoken = turn(2, 4.0, step("2", 4.0, 5.0))
    assert said(remembered([spoken, aside(number, 5.0)])) == ["hi", *text]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, ["house", "hi", "hello one moment"]),
        (3, ["hi", "hello", "house", "one moment"]),
    ],
)
def test_what_stands_between_words_and_their_line_may_have_the_time_of_the_words(number: int, text: list[str]) -> None:
    spoken = turn(2, 5.0, step("2", 5.0, 6.0))
    assert said(remembered([spoken, aside(number, 5.0)])) == text


def test_lines_of_two_tools_that_speak_in_turns_are_in_the_order_in_which_they_were_heard() -> None:
    first, second = turn(1, 1.0, step("1", 1.0, 5.0, 7.0)), turn(2, 2.0, step("2", 3.0, 4.0, 6.0, 8.0))
    for items in ([first, second], [second, first]):
        assert [m.id for m in remembered(items) if not isinstance(m, ToolMessage)] == [
            "user-1",
            "words-1",
            "user-2",
            "words-2",  # with its line at 4
            "line-1-0",
            "line-2-1",
            "line-1-1",
            "line-2-2",
        ]


# ---- the past, however it was made


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """Turns whose tools speak, and words from outside, in the order in which they come to be known."""
    made: list[Item] = []
    for number in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 3)) == 0:
            made.append(aside(number, draw(TIMES)))
            continue
        lines = draw(st.lists(st.lists(TIMES, max_size=2), max_size=2))
        steps = [step(f"{number}-{n}", draw(TIMES), *each) for n, each in enumerate(lines)]
        made.append(turn(number, draw(st.none() | TIMES), *steps))
    return draw(st.permutations(made))


SIZES = st.lists(st.integers(1, 4), min_size=12, max_size=12)


@settings(derandomize=False)
@given(items(), SIZES)
def test_what_comes_late_finds_its_place_however_the_past_was_made(made: list[Item], sizes: list[int]) -> None:
    past, done = Past([HumanMessage("before", id="before")]), 0
    for size in sizes:
        new = groups(made[done : done + size])
        done += size
        expected = [("before", "before"), *as_defined(made[:done])]
        assert told(past.followed_by(new)) == expected
        past.add(new)
        past.let_go(END)
        assert told(past.followed_by([])) == expected


class Read(HumanMessage):
    """A message that notes when somebody looks at it."""

    looked: bool = False

    def __getattribute__(self, name: str) -> Any:
        if name == "id":
            self.__dict__["looked"] = True
        return super().__getattribute__(name)


@pytest.mark.parametrize("frozen", [[], [turn(1, 1.0, step("1", 1.0, 2.0))], [turn(1, 1.0), aside(2, 2.0)]])
def test_reading_looks_only_at_what_is_new(frozen: list[Item]) -> None:
    before = [Read("before", id=f"before-{n}") for n in range(20)]
    past = Past(before)
    assert all(message.__dict__["looked"] for message in before)
    past.add(groups([*frozen, aside(9, 9.0)]))
    for message in before:
        message.__dict__["looked"] = False
    new = turn(3, 3.0, step("3", 3.0, 4.0))  # dated back in front of the last words from outside
    assert said(past.followed_by(groups([new])))[-3:] == ["hi", "hello one moment", "house"]
    past.add(groups([new]))
    assert said(past.followed_by([]))[:20] == ["before"] * 20
    assert not any(message.__dict__["looked"] for message in before)


@given(st.lists(st.booleans(), min_size=100, max_size=100), st.integers(0, 4))
def test_only_the_end_of_the_past_is_kept_as_it_was_made(choices: list[bool], back: int) -> None:
    past, made = Past([]), list[Item]()
    for number, outside in enumerate(choices):
        at = 100.0 + number
        made.append(aside(number, at) if outside else turn(number, at - back, step(f"{number}", at, at)))
        past.add(groups(made[-1:]))
        past.let_go(END)
        assert len(past._groups) <= RECENT
    assert told(past.followed_by([])) == as_defined(made)
    first = past._groups[0].messages[0]
    late = told(past.followed_by([aside(1_000, 1.0)]))
    assert late.index(("house-1000", "house")) == late.index((first.id, first.text)) - 1


def test_a_turn_that_goes_on_finds_its_place_in_front_of_all_that_was_said_meanwhile() -> None:
    live = LiveState({}, [])
    running = FakeTurn(turn(1, 1.0), TurnState.COMMITTED)
    live.turns.append(running)  # type: ignore[arg-type]
    for number in range(2, 60):
        live.add(aside(number, float(number)))
        ended = FakeTurn(turn(100 + number, None), TurnState.CLOSED, settled=True)
        live.turns.append(ended)  # type: ignore[arg-type]
        live.freeze()
    assert said(live.values["messages"])[0] == "hi"


# ---- a call: turns that overlap, and are frozen one after the other


@dataclass
class FakeTurn:
    """What a call's state asks of a turn."""

    record: TurnRecord
    state: TurnState = TurnState.SPECULATIVE
    settled: bool = False
    is_past: bool = False


class Calls:
    """The same call twice: of one, what is over is frozen at once; of the other, nothing ever is."""

    def __init__(self) -> None:
        log = BinaryOperatorAggregate(list, operator.add)
        self.freezing, self.whole = LiveState({"log": log}, []), LiveState({"log": log}, [])
        self.turns: list[FakeTurn] = []
        self.numbers: Iterator[int] = iter(range(1, 1_000))

    def _each(self, do: Callable[[Any], None]) -> None:
        for live in (self.freezing, self.whole):
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
            for item in list(speaking.record.steps())[-1:]:
                item.lines += step(f"{item.words.id}-{len(item.lines)}", at, at).lines

    def remove(self, at: float) -> None:
        self._write([RemoveMessage(id=m.id or "") for m in self.messages[-3:-1]], at)

    def replace(self, at: float) -> None:
        self._write([HumanMessage("other words", id=m.id) for m in self.messages[:1]], at)

    def overwrite(self, at: float) -> None:
        before = [str(m.id) for m in self.messages]
        self._write(Rewrite(frozenset(before), [HumanMessage("in short", id=f"short-{at}"), *before[-2:]]), at)

    def answer(self, at: float) -> None:
        """The result of an earlier tool call, as the reply to a question of LangGraph's `interrupt()` brings it."""
        asked = [m for m in self.messages if isinstance(m, ToolMessage)][:1]
        self._write([m.model_copy(update={"content": "found later"}) for m in asked], at)

    def _write(self, update: Any, at: float) -> None:
        for writing in self._open()[-1:] if update else []:
            writing.record.raw(update, at)

    @property
    def messages(self) -> list[AnyMessage]:
        found: list[AnyMessage] = self.whole.values["messages"]
        return found

    def settle(self, at: float) -> None:
        for ended in self._open()[:1]:
            ended.settled = True

    def write(self, at: float) -> None:
        """A node of a turn that may not even be committed yet writes to a channel."""
        for writing in [t for t in self.turns if not t.settled][:1]:
            order = next(self.numbers)
            writing.record.write(Write("node", {"log": [f"turn {writing.record.order}"]}, order=order))

    def write_outside(self, at: float) -> None:
        number = next(self.numbers)
        self._each(lambda live: live.write(ChannelUpdate(number, {"log": ["outside"]})))

    def add(self, at: float) -> None:
        number = next(self.numbers)
        self._each(lambda live: live.add(aside(number, at)))

    def _open(self) -> list[FakeTurn]:
        return [t for t in self.turns if t.state.happened and not t.settled]

    def check(self) -> None:
        self._each(lambda live: live.changed())
        self.freezing.freeze()
        assert told(self.freezing.values["messages"]) == told(self.whole.values["messages"])
        assert self.freezing.others == self.whole.others


WHAT = ["begin", "commit", "commit_last", "speak", "say_a_line", "settle", "add", "write", "write_outside"]


@settings(derandomize=False)
@given(st.lists(st.tuples(st.sampled_from(WHAT), TIMES), max_size=40))
def test_a_call_is_remembered_as_if_nothing_were_frozen(happened: list[tuple[str, float]]) -> None:
    calls = Calls()
    for what, at in happened:
        getattr(calls, what)(at)
        calls.check()


WRITES = ["remove", "replace", "overwrite", "answer"]


@settings(derandomize=False)
@given(st.lists(st.sampled_from([*WHAT, *WRITES]), max_size=60))
def test_what_custom_nodes_write_counts_as_if_nothing_were_frozen(happened: list[str]) -> None:
    calls = Calls()
    for now, what in enumerate(happened, start=1):
        getattr(calls, what)(float(now))
        calls.check()


def test_what_a_turn_wrote_while_it_was_a_guess_counts_from_when_it_was_written() -> None:
    calls = Calls()
    calls.begin(1.0)
    calls.write(1.0)
    for _ in range(4):
        for what in ("begin", "commit_last", "write_outside", "settle"):
            getattr(calls, what)(2.0)
            calls.check()
    assert [t.is_past for t in calls.turns] == [False, True, True, False, False]
    calls.commit(3.0)
    calls.check()
    assert calls.freezing.others["log"] == ["turn 1", *["outside"] * 4]


def test_words_that_a_rewrite_did_not_know_of_are_not_lost() -> None:
    calls = Calls()
    for what in ("begin", "commit", "overwrite", "settle", *("begin", "commit", "settle") * 2):
        getattr(calls, what)(10.0)
        calls._each(lambda live: live.changed())
        calls.freezing.freeze()
    calls.add(9.0)
    assert said(calls.freezing.values["messages"]) == ["in short", "hi", "house", "hi", "hi"]
    assert said(calls.messages) == ["in short", "house", "hi", "hi", "hi"]


def test_turns_that_are_over_are_frozen() -> None:
    calls = Calls()
    for _ in range(5):
        for what in ("begin", "commit", "speak", "say_a_line", "add", "settle"):
            getattr(calls, what)(1.0)
        calls._each(lambda live: live.changed())
        calls.freezing.freeze()
    assert [t.is_past for t in calls.turns] == [True, True, True, False, False]
    assert told(calls.freezing.values["messages"]) == told(calls.whole.values["messages"])
