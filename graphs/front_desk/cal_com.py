"""A calendar at cal.com, over its API v2."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp

from .appointments import Appointment, CalendarError, Slot, SlotUnavailable

__all__ = ["CalComCalendar"]

BASE_URL = "https://api.cal.com/v2"
SLUG = "juniper-house-visit"
TITLE = "Visit at Juniper House"
MINUTES = 30
TIMEOUT = 10.0
"""Seconds that an answer may take: a caller waits for it."""
VERSIONS = {"event-types": "2024-06-14", "slots": "2024-09-04", "bookings": "2024-08-13"}
"""The version of the API, which cal.com sets for each of its resources."""
TAKEN = ("already has booking", "no_available_users_found")
"""What cal.com says of a slot that is not free."""


class CalComCalendar:
    """The calendar of a cal.com account. Visits are an event type of its own, which is made if there is none.

    Args:
        api_key: of the account.
        base_url: where the API is.
        slug: the name of the event type in URLs.
        minutes: how long a visit takes, if the event type has to be made.
    """

    def __init__(
        self, api_key: str, *, base_url: str = BASE_URL, slug: str = SLUG, title: str = TITLE, minutes: int = MINUTES
    ) -> None:
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._base_url = base_url.rstrip("/")
        self._slug = slug
        self._title = title
        self._minutes = minutes
        self._event_type: int | None = None
        self._timezone: ZoneInfo = ZoneInfo("UTC")
        self._booked: list[Appointment] = []
        self._first = asyncio.Lock()

    def now(self) -> datetime:
        return datetime.now(self._timezone)

    async def initialize(self) -> None:
        await self._event_type_id()

    async def list_available_slots(self, start: datetime, end: datetime) -> list[Slot]:
        event_type = await self._event_type_id()
        found = await self._ask(
            "GET", "slots", params={"eventTypeId": str(event_type), "start": _written(start), "end": _written(end)}
        )
        if not isinstance(found, Mapping):
            raise CalendarError(f"cal.com answered slots with {type(found).__name__}")
        starts = sorted(_read(slot["start"]) for day in found.values() for slot in day)
        local = [moment.astimezone(self._timezone) for moment in starts if start <= moment < end]
        return [Slot(start=moment, minutes=self._minutes) for moment in local]

    async def schedule_appointment(self, start: datetime, email: str) -> Appointment:
        event_type = await self._event_type_id()
        attendee = {"name": email.partition("@")[0], "email": email, "timeZone": self._timezone.key}
        await self._ask(
            "POST", "bookings", json={"start": _written(start), "eventTypeId": event_type, "attendee": attendee}
        )
        slot = Slot(start=start.astimezone(self._timezone), minutes=self._minutes)
        self._booked.append(Appointment(slot=slot, email=email))
        return self._booked[-1]

    @property
    def scheduled_appointments(self) -> Sequence[Appointment]:
        return list(self._booked)

    # ---- the API

    async def _event_type_id(self) -> int:
        """The event type of visits. Two tool calls at once make one."""
        async with self._first:
            if self._event_type is None:
                self._event_type = await self._find_event_type()
            return self._event_type

    async def _find_event_type(self) -> int:
        me = await self._ask("GET", "me")
        try:
            self._timezone = ZoneInfo(me["timeZone"])
            there = await self._ask("GET", "event-types", params={"username": me["username"], "eventSlug": self._slug})
            if not there:
                wanted = {"title": self._title, "slug": self._slug, "lengthInMinutes": self._minutes}
                there = [await self._ask("POST", "event-types", json=wanted)]
            self._minutes = int(there[0].get("lengthInMinutes", self._minutes))
            return int(there[0]["id"])
        except (KeyError, TypeError, ValueError, ZoneInfoNotFoundError) as error:
            raise CalendarError(f"cal.com's account or event type lacks {error}") from error

    async def _ask(self, method: str, resource: str, **options: Any) -> Any:
        """The `data` of an answer. Raises `SlotUnavailable` and `CalendarError`, neither with the key in it."""
        headers = {**self._headers, "cal-api-version": VERSIONS.get(resource, VERSIONS["bookings"])}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.request(method, f"{self._base_url}/{resource}", headers=headers, **options) as response,
            ):
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CalendarError(f"cal.com did not answer {method} {resource}: {type(error).__name__}") from None
        if response.ok and isinstance(answer, Mapping) and answer.get("status") == "success":
            return answer.get("data")
        told = _message(answer)
        if resource == "bookings" and any(taken in told for taken in TAKEN):
            raise SlotUnavailable(told)
        raise CalendarError(f"cal.com answered {method} {resource} with {response.status}: {told}")


def _message(answer: Any) -> str:
    error = answer.get("error") if isinstance(answer, Mapping) else None
    return str(error.get("message", "")) if isinstance(error, Mapping) else str(error or "")


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)
