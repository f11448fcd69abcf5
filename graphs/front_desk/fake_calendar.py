"""A calendar in memory: for calls without a calendar's server, and for tests."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from .appointments import Appointment, Slot, SlotUnavailable

__all__ = ["FakeCalendar"]

DAYS = 90
OPENS, CLOSES = 9, 17
PER_DAY = (3, 6)
MINUTES = 30


class FakeCalendar:
    """A calendar with made-up slots: on weekdays from 9 to 17, three to six of half an hour a day, for 90 days.

    Args:
        slots: the slots that there are, instead of made-up ones.
        now: the clock: a fixed time, or a function. Default: the real time.
        seed: makes the same slots for a day each time. None: others in each calendar.
        timezone: of the clock and the slots. A time without a time zone is in this one.
    """

    def __init__(
        self,
        *,
        slots: Sequence[datetime] | None = None,
        now: datetime | Callable[[], datetime] | None = None,
        seed: int | None = None,
        timezone: tzinfo = UTC,
    ) -> None:
        self._timezone = timezone
        self._now = now
        self._seed = random.randrange(2**32) if seed is None else seed
        self._fixed = None if slots is None else sorted(self._local(start) for start in slots)
        self._booked: dict[datetime, Appointment] = {}

    def now(self) -> datetime:
        now = self._now() if callable(self._now) else self._now
        return datetime.now(self._timezone) if now is None else self._local(now)

    async def initialize(self) -> None:
        """Nothing to do."""

    async def list_available_slots(self, start: datetime, end: datetime) -> list[Slot]:
        since = max(self._local(start), self.now())
        return [Slot(start=found, minutes=MINUTES) for found in self._free() if since <= found < self._local(end)]

    async def schedule_appointment(self, start: datetime, email: str) -> Appointment:
        start = self._local(start)
        if start not in self._free() or start < self.now():
            raise SlotUnavailable(start.isoformat())
        self._booked[start] = Appointment(slot=Slot(start=start, minutes=MINUTES), email=email)
        return self._booked[start]

    @property
    def scheduled_appointments(self) -> Sequence[Appointment]:
        return list(self._booked.values())

    def take(self, start: datetime) -> None:
        """Somebody else books this slot: it is no longer free, and no appointment of this calendar."""
        if self._fixed is None:
            self._fixed = list(self._made_up())
        self._fixed.remove(self._local(start))

    def _local(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=self._timezone) if moment.tzinfo is None else moment.astimezone(self._timezone)

    def _free(self) -> list[datetime]:
        there = self._made_up() if self._fixed is None else self._fixed
        return [start for start in there if start not in self._booked]

    def _made_up(self) -> Iterator[datetime]:
        today = self.now().date()
        for day in (today + timedelta(days=n) for n in range(DAYS)):
            if day.weekday() < 5:
                yield from self._slots_of(day)

    def _slots_of(self, day: date) -> Iterator[datetime]:
        chance = random.Random(f"{self._seed} {day.isoformat()}")
        times = [time(hour, minute) for hour in range(OPENS, CLOSES) for minute in (0, MINUTES)]
        for chosen in sorted(chance.sample(times, chance.randint(*PER_DAY))):
            yield datetime.combine(day, chosen, self._timezone)
