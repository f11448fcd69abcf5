"""The task that gets a date of birth."""

import datetime
from datetime import date

from pydantic import BaseModel
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["DateOfBirth", "get_date_of_birth"]

OLDEST = 130
"""Years. Nobody has been older."""


class DateOfBirth(BaseModel):
    """The result of `get_date_of_birth`."""

    date: datetime.date

    def age(self, on: datetime.date | None = None) -> int:
        """The age in full years, on this day. Default: today."""
        day = on or today()
        return day.year - self.date.year - ((day.month, day.day) < (self.date.month, self.date.day))


class Draft(Recorded):
    born: date | None = None


def get_date_of_birth(
    name: str = "get_date_of_birth", *, confirm: bool | None = None, **options: Unpack[TaskOptions]
) -> Task[DateOfBirth]:
    """A task that gets the caller's date of birth, which is in the past.

    Args:
        name: the task's name.
        confirm: whether the date is read back, and the caller confirms it. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.
    """

    @function_tool
    async def record_date_of_birth(ctx: RunContext[object, Draft], year: int, month: int, day: int) -> Done | str:
        """Record the date of birth.

        Args:
            year: with all four digits.
            month: 1 to 12.
            day: 1 to 31.
        """
        ctx.draft.born = born = checked_date(year, month, day)
        read_back = f"Say the date with the month's name: {born:%B} {born.day}, {born.year}."
        return recorded(ctx, confirm, DateOfBirth(date=born), read_back)

    return ready_made(
        name,
        result=DateOfBirth,
        draft=Draft,
        tools=[
            record_date_of_birth,
            confirm_tool("confirm_date_of_birth", "the date of birth", lambda draft: DateOfBirth(date=draft.born)),
        ],
        what="the caller's date of birth",
        record="record_date_of_birth",
        confirm_by="confirm_date_of_birth",
        confirm=confirm,
        spoken='"Ninety one" is the year 1991. If day and month could be exchanged, ask for the month by its name.',
        typed="If day and month could be exchanged (03/04/1991), ask which is the month.",
        options=options,
    )


def today() -> date:
    return date.today()


def checked_date(year: int, month: int, day: int) -> date:
    """The date. Raises `ToolError` if there is no such day, and if nobody was born then who can call."""
    try:
        born = date(year, month, day)
    except (ValueError, OverflowError):
        raise ToolError(f"There is no day {year}-{month}-{day}. Ask the caller for the date again.") from None
    if born > today():
        raise ToolError(f"{born} is in the future. Ask the caller for the date again.")
    if today().year - born.year > OLDEST:
        raise ToolError(f"{born} is too long ago. Ask the caller for the year, with all four digits.")
    return born
