"""What the front desk asks a calendar for: free slots, and appointments."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from pydantic import AwareDatetime, BaseModel

__all__ = ["Appointment", "Calendar", "CalendarError", "Slot", "SlotUnavailable"]


class Slot(BaseModel, frozen=True):
    """A time at which a visit may begin."""

    start: AwareDatetime
    minutes: int = 30

    @property
    def id(self) -> str:
        """`ST_` and 8 characters: the same for the same start and length, whatever the time zone."""
        written = f"{self.start.astimezone(UTC).isoformat()}/{self.minutes}"
        digest = hashlib.blake2s(written.encode(), digest_size=5).digest()
        return f"ST_{base64.b32encode(digest).decode()}"

    @property
    def end(self) -> datetime:
        return self.start + timedelta(minutes=self.minutes)


class Appointment(BaseModel, frozen=True):
    """A slot that was booked."""

    slot: Slot
    email: str


class CalendarError(Exception):
    """The calendar did not do what it was asked for. Whether it booked is not known."""


class SlotUnavailable(Exception):
    """The slot was booked by somebody else, or was never there."""


@runtime_checkable
class Calendar(Protocol):
    """Where visits are booked: the only record of them. It lives in the call's context, not in its state."""

    def now(self) -> datetime:
        """The time now, in the time zone in which the practice speaks of its slots."""

    async def initialize(self) -> None:
        """Get ready. It may be called more than once. Raises `CalendarError`."""

    async def list_available_slots(self, start: datetime, end: datetime) -> list[Slot]:
        """The free slots that begin from `start` on and before `end`, the earliest first. Raises `CalendarError`."""

    async def schedule_appointment(self, start: datetime, email: str) -> Appointment:
        """Book the slot that begins at `start`. Raises `SlotUnavailable` if it is not free, and `CalendarError`."""

    @property
    def scheduled_appointments(self) -> Sequence[Appointment]:
        """What this calendar has booked, in that order."""
