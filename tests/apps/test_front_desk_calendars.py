"""The calendars of the front desk: the one in memory, and cal.com's against a server that answers as cal.com does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from graphs.front_desk import cal_com
from graphs.front_desk.appointments import Calendar, CalendarError, Slot, SlotUnavailable
from graphs.front_desk.cal_com import CalComCalendar
from graphs.front_desk.fake_calendar import FakeCalendar

NOW = datetime(2026, 6, 12, 9, 0, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))


# ---- slots


@given(MOMENTS, st.integers(5, 240), st.integers(-12, 12))
def test_a_slots_id_is_that_of_its_start_and_length_in_any_time_zone(start: datetime, minutes: int, hours: int) -> None:
    slot = Slot(start=start, minutes=minutes)
    elsewhere = start.astimezone(timezone(timedelta(hours=hours)))
    assert slot.id == Slot(start=elsewhere, minutes=minutes).id == Slot(**slot.model_dump(mode="json")).id
    assert slot.id[:3] == "ST_"
    assert len(slot.id) == 11
    assert slot.id[3:].isalnum()
    assert Slot(start=start, minutes=minutes + 5).id != slot.id != Slot(start=start + timedelta(minutes=5)).id


# ---- in memory


@given(st.integers(0, 10_000), MOMENTS)
async def test_made_up_slots_are_on_weekdays_three_to_six_a_day(seed: int, now: datetime) -> None:
    made = FakeCalendar(seed=seed, now=now)
    slots = await made.list_available_slots(now, now + timedelta(days=200))
    days: dict[Any, list[Slot]] = {}
    for slot in slots:
        days.setdefault(slot.start.date(), []).append(slot)
        assert slot.start.weekday() < 5
        assert time(9) <= slot.start.time() < time(17)
        assert slot.start.minute in (0, 30)
        assert slot.start >= now
    assert [slot.start for slot in slots] == sorted({slot.start for slot in slots})
    assert len(slots) > 100
    assert max(days) < (now + timedelta(days=90)).date()
    for day, found in days.items():
        assert 3 <= len(found) <= 6 or day == now.date()
    again = FakeCalendar(seed=seed, now=now - timedelta(days=3))
    assert [s for s in await again.list_available_slots(now, now + timedelta(days=80)) if s.start >= now] == [
        s for s in slots if s.start < now + timedelta(days=80)
    ]


@pytest.mark.asyncio
async def test_what_is_booked_is_gone_and_what_is_not_there_can_not_be_booked() -> None:
    kept = FakeCalendar(seed=3, now=NOW)
    assert isinstance(kept, Calendar)
    first, second, *_ = await kept.list_available_slots(NOW, NOW + timedelta(days=9))
    booked = await kept.schedule_appointment(first.start, "ada@example.org")
    assert (booked.slot, booked.email) == (first, "ada@example.org")
    left = await kept.list_available_slots(NOW, NOW + timedelta(days=9))
    assert left[0] == second
    for start in (first.start, first.start + timedelta(minutes=7), NOW - timedelta(days=1)):
        with pytest.raises(SlotUnavailable):
            await kept.schedule_appointment(start, "bob@example.org")
    assert list(kept.scheduled_appointments) == [booked]


@pytest.mark.asyncio
async def test_fixed_slots_are_sorted_and_those_of_the_past_are_not_listed() -> None:
    zone = ZoneInfo("Europe/Paris")
    naive = [datetime(2026, 6, 16, 9), datetime(2026, 6, 15, 10), datetime(2026, 6, 11, 10)]
    kept = FakeCalendar(slots=naive, now=NOW, timezone=zone)
    slots = await kept.list_available_slots(NOW - timedelta(days=5), NOW + timedelta(days=30))
    assert [slot.start for slot in slots] == [naive[1].replace(tzinfo=zone), naive[0].replace(tzinfo=zone)]
    assert kept.now() == NOW
    assert kept.now().tzinfo is zone
    with pytest.raises(SlotUnavailable):
        await kept.schedule_appointment(naive[2], "ada@example.org")


@pytest.mark.asyncio
async def test_what_somebody_else_takes_is_gone_and_no_appointment_of_this_calendar() -> None:
    kept = FakeCalendar(seed=3, now=NOW)
    first, *_ = await kept.list_available_slots(NOW, NOW + timedelta(days=9))
    kept.take(first.start)
    with pytest.raises(SlotUnavailable):
        await kept.schedule_appointment(first.start, "ada@example.org")
    assert list(kept.scheduled_appointments) == []


# ---- cal.com


class CalCom:
    """A server with cal.com's paths, versions, answers and errors."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        """Method, path, version."""
        self.event_types: list[dict[str, Any]] = []
        self.starts = ["2026-06-16T14:30:00.000-04:00", "2026-06-15T10:00:00.000-04:00"]
        self.bookings: list[dict[str, Any]] = []
        self.refuses: tuple[int, Any] | None = None
        self.delay = 0.0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.guard])
        app.router.add_get("/v2/me", self.me)
        app.router.add_get("/v2/event-types", self.find)
        app.router.add_post("/v2/event-types", self.make)
        app.router.add_get("/v2/slots", self.slots)
        app.router.add_post("/v2/bookings", self.book)
        return app

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path, request.headers.get("cal-api-version", "")))
        await asyncio.sleep(self.delay)
        if request.headers.get("Authorization") != "Bearer cal_key":
            return web.json_response({"status": "error", "error": {"message": "Invalid API Key"}}, status=401)
        if self.refuses is not None:
            status, body = self.refuses
            return web.json_response(body, status=status) if body is not None else web.Response(status=status)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def me(self, request: web.Request) -> web.Response:
        return ok({"username": "juniper", "timeZone": "America/New_York", "email": "desk@example.org"})

    async def find(self, request: web.Request) -> web.Response:
        assert request.query["username"] == "juniper"
        return ok([found for found in self.event_types if found["slug"] == request.query["eventSlug"]])

    async def make(self, request: web.Request) -> web.Response:
        self.event_types.append({**await request.json(), "id": 41 + len(self.event_types)})
        return ok(self.event_types[-1], status=201)

    async def slots(self, request: web.Request) -> web.Response:
        assert request.query["eventTypeId"] == str(self.event_types[0]["id"])
        assert request.query["start"].endswith("Z")
        days: dict[str, list[dict[str, str]]] = {}
        for start in self.starts:
            days.setdefault(start[:10], []).append({"start": start})
        return ok(days)

    async def book(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if any(known["start"] == asked["start"] for known in self.bookings):
            told = "User either already has booking at this time or is not available"
            return web.json_response(
                {"status": "error", "error": {"code": "BadRequestException", "message": told}}, status=400
            )
        self.bookings.append(asked)
        return ok({"uid": "b1", **asked}, status=201)


def ok(data: Any, status: int = 200) -> web.Response:
    return web.json_response({"status": "success", "data": data}, status=status)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[CalCom, CalComCalendar]]:
    stand_in = CalCom()
    async with TestServer(stand_in.app()) as running:
        yield stand_in, CalComCalendar("cal_key", base_url=f"{running.make_url('/v2')}")


Server = tuple[CalCom, CalComCalendar]
SPAN = (NOW, NOW + timedelta(days=14))


@pytest.mark.asyncio
async def test_the_event_type_is_made_once_even_by_two_tools_at_once(server: Server) -> None:
    there, kept = server
    assert isinstance(kept, Calendar)
    await asyncio.gather(kept.initialize(), kept.list_available_slots(*SPAN), kept.initialize())
    made = [found for found in there.requests if found[:2] == ("POST", "/v2/event-types")]
    assert made == [("POST", "/v2/event-types", "2024-06-14")]
    assert there.event_types[0]["lengthInMinutes"] == 30
    assert str(kept.now().tzinfo) == "America/New_York"


@pytest.mark.asyncio
async def test_an_event_type_that_is_there_is_used_with_its_length(server: Server) -> None:
    there, kept = server
    there.event_types.append({"id": 7, "slug": cal_com.SLUG, "lengthInMinutes": 45})
    assert {slot.minutes for slot in await kept.list_available_slots(*SPAN)} == {45}
    assert len(there.event_types) == 1


@pytest.mark.asyncio
async def test_slots_are_sorted_and_in_the_accounts_time_zone(server: Server) -> None:
    there, kept = server
    slots = await kept.list_available_slots(*SPAN)
    zone = ZoneInfo("America/New_York")
    assert [slot.start for slot in slots] == [
        datetime(2026, 6, 15, 10, tzinfo=zone),
        datetime(2026, 6, 16, 14, 30, tzinfo=zone),
    ]
    assert all(slot.start.tzinfo == zone for slot in slots)
    assert await kept.list_available_slots(NOW, NOW + timedelta(days=4)) == slots[:1]
    assert ("GET", "/v2/slots", "2024-09-04") in there.requests


@pytest.mark.asyncio
async def test_a_booking_is_in_utc_for_the_attendee_and_a_second_one_of_the_slot_is_unavailable(server: Server) -> None:
    there, kept = server
    slot, *_ = await kept.list_available_slots(*SPAN)
    booked = await kept.schedule_appointment(slot.start, "ada@example.org")
    assert (booked.slot, list(kept.scheduled_appointments)) == (slot, [booked])
    assert there.bookings == [
        {
            "start": "2026-06-15T14:00:00Z",
            "eventTypeId": 41,
            "attendee": {"name": "ada", "email": "ada@example.org", "timeZone": "America/New_York"},
        }
    ]
    with pytest.raises(SlotUnavailable):
        await kept.schedule_appointment(slot.start, "bob@example.org")
    assert list(kept.scheduled_appointments) == [booked]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "refusal",
    [
        (500, {"status": "error", "error": {"message": "Internal"}}),
        (429, {"message": "ThrottlerException"}),
        (502, None),
        (200, {"status": "error", "error": "odd"}),
        (200, ["odd"]),
    ],
    ids=["500", "429", "no body", "error with 200", "a list"],
)
async def test_whatever_else_goes_wrong_is_an_error_of_the_calendar(server: Server, refusal: Any) -> None:
    there, kept = server
    await kept.initialize()
    there.refuses = refusal
    for asks in (kept.list_available_slots(*SPAN), kept.schedule_appointment(NOW, "ada@example.org")):
        with pytest.raises(CalendarError) as raised:
            await asks
        assert "cal_key" not in str(raised.value)
    assert list(kept.scheduled_appointments) == []


@pytest.mark.asyncio
async def test_a_wrong_key_and_no_server_are_errors_of_the_calendar(server: Server) -> None:
    _, kept = server
    wrong = CalComCalendar("other_key", base_url=kept._base_url)
    nowhere = CalComCalendar("cal_key", base_url="http://127.0.0.1:9/v2")
    for calendar in (wrong, nowhere):
        with pytest.raises(CalendarError):
            await calendar.initialize()


@pytest.mark.asyncio
async def test_a_server_that_does_not_answer_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    there, kept = server
    await kept.initialize()
    there.delay = 30
    monkeypatch.setattr(cal_com, "TIMEOUT", 0.2)
    with pytest.raises(CalendarError, match="TimeoutError"):
        await kept.list_available_slots(*SPAN)
