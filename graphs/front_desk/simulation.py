"""What a simulated call of the front desk begins with, and what must be booked at its end: see `scenarios.yaml`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from graph_voice.testing.simulation import Scenario, Setup

from .appointments import Appointment, SlotUnavailable
from .fake_calendar import FakeCalendar

__all__ = ["NOW", "ContestedCalendar", "calendar_of", "setup", "what_is_wrong"]

NOW = datetime(2026, 6, 12, 9, tzinfo=UTC)
"""A Friday."""


class ContestedCalendar(FakeCalendar):
    """A calendar in which somebody else is quicker: these slots are listed, and gone when they are to be booked."""

    def __init__(self, *, contested: Sequence[datetime] = (), **options: Any) -> None:
        super().__init__(**options)
        self._contested = set(contested)

    async def schedule_appointment(self, start: datetime, email: str) -> Appointment:
        if start in self._contested:
            self._contested.discard(start)
            self.take(start)
            raise SlotUnavailable(start.isoformat())
        return await super().schedule_appointment(start, email)


def moment(text: str) -> datetime:
    """A time of a scenario; without a time zone it is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def calendar_of(userdata: dict[str, Any]) -> ContestedCalendar:
    """The calendar of a scenario."""
    return ContestedCalendar(
        slots=[moment(text) for text in userdata.get("available_slots", ())],
        contested=[moment(text) for text in userdata.get("contested_slots", ())],
        now=moment(userdata["now"]) if "now" in userdata else NOW,
    )


def what_is_wrong(userdata: dict[str, Any], booked: Sequence[Appointment]) -> str | None:
    """How what is booked differs from what the scenario expects; None if it does not."""
    made = sorted(one.slot.start for one in booked)
    if "expected_bookings" in userdata or "expected_booking" in userdata:
        single = userdata.get("expected_booking")
        wanted = userdata.get("expected_bookings", [] if single is None else [single])
        if made != sorted(map(moment, wanted)):
            return f"booked is {_told(made)}, not {_told(sorted(map(moment, wanted)))}"
    elif len(made) > 1:
        return f"booked is {_told(made)}, and one visit was wanted"
    address = userdata.get("expected_email")
    if address is not None and (others := sorted({one.email for one in booked} - {address})):
        return f"the visit is booked for {', '.join(others)}, not {address}"
    return None


def setup(scenario: Scenario) -> Setup:
    """A calendar for each call, which is looked at when the call is over."""
    calendar = calendar_of(scenario.userdata)
    return Setup(context=calendar, check=lambda call: what_is_wrong(scenario.userdata, calendar.scheduled_appointments))


def _told(moments: Sequence[datetime]) -> str:
    return ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in moments) or "nothing"
