"""What has become past is what it would be if nothing ever became past."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from graph_voice.call.past import Past
from graph_voice.turn.record import Group, ModelStep, Spoken, TurnRecord, in_order

LATER = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 9.0])


@st.composite
def turns(draw: st.DrawFn, least: int, most: int, back: float) -> list[TurnRecord | Group]:
    """Turns, some with a tool that speaks, and words from outside, of which some are dated back by seconds."""
    made: list[TurnRecord | Group] = []
    now = 100.0
    for number in range(draw(st.integers(least, most))):
        now += 1.0 + draw(LATER)
        at = now - draw(st.sampled_from([0.0, 0.0, 0.0, 1.0, back]))
        if draw(st.integers(0, 3)) == 0:
            made.append(Group(at, [AIMessage("house", id=f"house-{number}")], unpaired=True))
            continue
        record = TurnRecord(HumanMessage("hi", id=f"user-{number}"))
        record.user_at = at
        lines = [
            Spoken(f"line-{number}-{n}", "one moment", "one moment", at=at + 0.5 + draw(LATER))
            for n in range(draw(st.integers(0, 2)))
        ]
        words = Spoken(f"words-{number}", "hello", "hello", at=at + 0.25)
        record.items.append(ModelStep("a", words, at=at + 0.25, lines=sorted(lines, key=lambda line: line.at)))
        made.append(record)
    return made


def told(items: Sequence[TurnRecord | Group]) -> list[tuple[str | None, str]]:
    records = [item for item in items if isinstance(item, TurnRecord)]
    groups = in_order(records, [item for item in items if isinstance(item, Group)])
    return [(m.id, m.text) for group in groups for m in group.messages]


SIZES = st.lists(st.integers(1, 4), min_size=40, max_size=40)


@given(turns(1, 12, back=12.0), SIZES)
def test_what_comes_late_finds_its_place_however_the_past_was_made(
    made: list[TurnRecord | Group], sizes: list[int]
) -> None:
    past, done = Past([HumanMessage("before", id="before")]), 0
    for size in sizes:
        part = made[done : done + size]
        done += len(part)
        records = [item for item in part if isinstance(item, TurnRecord)]
        asides = [item for item in part if isinstance(item, Group)]
        shown = [(m.id, m.text) for m in past.followed_by(records, asides)]
        assert shown == [("before", "before"), *told(made[:done])]
        past.add(records, asides)
        assert [(m.id, m.text) for m in past.messages] == shown


@settings(max_examples=30)
@given(turns(40, 60, back=3.0), SIZES)
def test_only_the_end_of_the_past_is_kept_as_it_was_made(made: list[TurnRecord | Group], sizes: list[int]) -> None:
    past, done = Past([]), 0
    for size in sizes:
        part = made[done : done + size]
        done += len(part)
        records = [item for item in part if isinstance(item, TurnRecord)]
        past.add(records, [item for item in part if isinstance(item, Group)])
        assert len(past._records) + len(past._asides) < 50
    assert [(m.id, m.text) for m in past.messages] == told(made[:done])
    assert past._records or past._asides
