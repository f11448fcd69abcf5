"""The task that gets a phone number."""

import re

from pydantic import BaseModel
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["PhoneNumber", "get_phone_number"]

_SEPARATORS = re.compile(r"[\s().\-/]+")
_NUMBER = re.compile(r"\+?\d{7,15}")


class PhoneNumber(BaseModel):
    """The result of `get_phone_number`."""

    number: str
    """Digits, with a + in front if the caller gave the country code."""


class Draft(Recorded):
    number: str = ""


def get_phone_number(
    name: str = "get_phone_number", *, confirm: bool | None = None, **options: Unpack[TaskOptions]
) -> Task[PhoneNumber]:
    """A task that gets the caller's phone number: 7 to 15 digits, with or without a country code.

    Args:
        name: the task's name.
        confirm: whether the number is read back, and the caller confirms it. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.
    """

    @function_tool
    async def record_phone_number(ctx: RunContext[object, Draft], number: str) -> Done | str:
        """Record the phone number.

        Args:
            number: the whole number in digits, with a + in front if the caller gave the country code.
        """
        ctx.draft.number = checked_number(number)
        read_back = f"Read the number back in small groups of digits: {' '.join(ctx.draft.number)}."
        return recorded(ctx, confirm, PhoneNumber(number=ctx.draft.number), read_back)

    return ready_made(
        name,
        result=PhoneNumber,
        draft=Draft,
        tools=[
            record_phone_number,
            confirm_tool("confirm_phone_number", "the phone number", lambda draft: PhoneNumber(number=draft.number)),
        ],
        what="the caller's phone number",
        record="record_phone_number",
        confirm_by="confirm_phone_number",
        confirm=confirm,
        spoken='Write the digits that were said: "oh" is 0, "double five" is 55, "plus" is +. Wait for all of it.',
        typed="The number may have spaces, dashes and parentheses.",
        options=options,
    )


def checked_number(text: str) -> str:
    """The number without separators. Raises `ToolError` for what is none."""
    number = _SEPARATORS.sub("", text)
    if not _NUMBER.fullmatch(number) or not number.isascii():
        raise ToolError(f"Not a phone number, which has 7 to 15 digits: {text}. Ask for the whole number again.")
    return number
