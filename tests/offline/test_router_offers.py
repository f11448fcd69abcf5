"""A caller without a language model chooses among what a tool has listed: by its place, its day, its hour."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import ToolMessage

from graph_voice.testing import Call
from graph_voice_livekit.offline.examples import Examples, ExamplesError
from graph_voice_livekit.offline.offers import chosen, fitting, offers_in, spoken
from graph_voice_livekit.offline.router import IntentRouter
from graphs.front_desk.appointments import Slot
from graphs.front_desk.fake_calendar import FakeCalendar
from graphs.front_desk.graph import Visitor, graph, listed

NOW = datetime(2026, 6, 12, 8, tzinfo=UTC)
PLACES = ["the first one", "the second one", "the third one"]
HOURS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
STARTS = st.lists(
    st.builds(
        lambda day, hour, half: NOW.replace(hour=hour, minute=30 * half) + timedelta(days=day),
        st.integers(0, 30),
        st.integers(9, 16),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


def offers_of(starts: list[datetime]) -> Any:
    slot = Examples.load("graphs/front_desk").slots["visit"]
    listing = "\n".join(listed(Slot(start=start), NOW) for start in starts)
    return offers_in(listing, str(slot.line), str(slot.says))


def clock(start: datetime) -> list[str]:
    hour = HOURS[(start.hour - 1) % 12 + 1]
    return [f"{start:%H:%M}", f"half past {hour}" if start.minute else hour, f"{hour} thirty" if start.minute else hour]


@given(STARTS, st.data())
def test_who_names_the_date_and_the_hour_gets_that_one(starts: list[datetime], data: st.DataObject) -> None:
    offers = offers_of(starts)
    start = data.draw(st.sampled_from(starts))
    words = f"{start:%A}, {start:%B} {start.day} at {data.draw(st.sampled_from(clock(start)))}"
    twelve_hours_apart = [one for one in starts if one.date() == start.date() and one.hour % 12 == start.hour % 12]
    if len(twelve_hours_apart) == 1:
        assert chosen(offers, "", words) == Slot(start=start).id
        assert chosen(offers, spoken(offers), words) == Slot(start=start).id


@given(STARTS, st.data())
def test_what_says_less_gets_one_of_those_that_were_said_or_none(starts: list[datetime], data: st.DataObject) -> None:
    offers = offers_of(starts)
    said, place = offers[:3], data.draw(st.integers(0, 2))
    assert chosen(offers, spoken(offers), PLACES[place]) == (said[place].value if place < len(said) else None)
    assert chosen(offers, spoken(offers), "the last one") == said[-1].value
    assert chosen(offers, "How can I help?", PLACES[place]) is None, "nobody has named any"
    day = data.draw(st.sampled_from(starts))
    there = [offer.value for offer in said if offer.words.startswith(f"{day:%A},")]
    assert chosen(offers, spoken(offers), f"{day:%A}") == (there[0] if len(there) == 1 else None)
    assert set(fitting(offers, f"on {day:%A}")) == {o for o in offers if o.words.startswith(f"{day:%A},")}


@pytest.mark.parametrize(
    ("words", "picked"),
    [
        ("The second one, please.", datetime(2026, 6, 15, 14, 30, tzinfo=UTC)),
        ("um monday at ten works", datetime(2026, 6, 15, 10, tzinfo=UTC)),
        ("Let's do the last one.", datetime(2026, 6, 16, 9, tzinfo=UTC)),
        ("Tuesday.", datetime(2026, 6, 16, 9, tzinfo=UTC)),
        ("half past two", datetime(2026, 6, 15, 14, 30, tzinfo=UTC)),
        ("I'll take the first one. No wait, the second one.", datetime(2026, 6, 15, 14, 30, tzinfo=UTC)),
        ("Not the first one, the second one.", datetime(2026, 6, 15, 14, 30, tzinfo=UTC)),
        ("Wednesday at eleven is good.", datetime(2026, 6, 17, 11, tzinfo=UTC)),
        ("Monday.", None),
        ("Monday at eleven.", None),
        ("Not the second one.", None),
        ("Is the second one on Monday?", None),
        ("The first or the second one.", None),
        ("The fifth one.", None),
        ("My wife has the second one.", None),
        ("The second one. Actually, no.", None),
        ("Yes, please.", None),
    ],
)
@pytest.mark.virtual_clock
async def test_the_one_that_was_meant_is_booked(words: str, picked: datetime | None) -> None:
    await choose(words, picked, "core")


@pytest.mark.virtual_clock
async def test_also_in_a_room() -> None:
    await choose("The second one, please.", datetime(2026, 6, 15, 14, 30, tzinfo=UTC), "livekit")


async def choose(words: str, picked: datetime | None, front_end: Any) -> None:
    starts = [(15, 10, 0), (15, 14, 30), (16, 9, 0), (17, 11, 0)]
    there = FakeCalendar(slots=[datetime(2026, 6, d, h, m, tzinfo=UTC) for d, h, m in starts], now=NOW)
    router = IntentRouter("graphs/front_desk")
    async with Call(graph, llm=router, front_end=front_end, context=there, userdata=Visitor()) as phone:
        offered = await phone.says("When can I come in?")
        assert "Monday, June 15 at 10:00; Monday, June 15 at 14:30 or Tuesday, June 16 at 09:00" in offered.heard
        await phone.says(words)
        if picked is None:
            assert phone.active_agent == "front_desk"
            assert [m.name for m in phone.messages if isinstance(m, ToolMessage)] == ["list_available_slots"]
            return
        await phone.says("It's ada@example.org.")
        await phone.says("Yes, that's right.")
    assert [one.slot.start for one in there.scheduled_appointments] == [picked]


def test_a_slot_of_type_listed_says_what_it_lacks() -> None:
    agent = {"enter": ["Hi."], "fallback": ["What?"]}
    for slot in ({"type": "listed"}, {"type": "listed", "tool": "x", "line": "(?P<id>.*)", "says": "{day}"}):
        data = {"slots": {"visit": slot}, "agents": {"desk": agent}}
        with pytest.raises((ExamplesError, ValueError), match=r"listed|lacks a group"):
            Examples.model_validate(yaml.safe_load(yaml.safe_dump(data)))
