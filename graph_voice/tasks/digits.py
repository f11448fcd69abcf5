"""The task that gets a row of digits: a PIN, a customer number, a code."""

from collections.abc import Callable

from pydantic import BaseModel, SecretStr
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.errors import BuildError
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["Digits", "SecretDigits", "get_digits", "get_secret_digits"]


class Digits(BaseModel):
    """The result of `get_digits`."""

    digits: str


class SecretDigits(BaseModel):
    """The result of `get_secret_digits`."""

    digits: SecretStr


class Draft(Recorded):
    digits: str = ""


class SecretDraft(Recorded):
    digits: SecretStr = SecretStr("")


def get_digits(
    name: str = "get_digits",
    *,
    what: str = "the number",
    length: int | tuple[int, int] = (1, 32),
    confirm: bool | None = None,
    **options: Unpack[TaskOptions],
) -> Task[Digits]:
    """A task that gets a row of digits.

    Args:
        name: the task's name.
        what: what the digits are, such as "the caller's customer number".
        length: the number of digits; or the smallest and the largest number.
        confirm: whether the digits are read back, and the caller confirms them. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.

    Raises `BuildError` for a length that no digits have.
    """
    check = _checker(name, length)

    @function_tool
    async def record_digits(ctx: RunContext[object, Draft], digits: str) -> Done | str:
        """Record the digits, when all of them were given.

        Args:
            digits: digits only.
        """
        ctx.draft.digits = check(digits)
        read_back = f"Read the digits back one by one: {' '.join(ctx.draft.digits)}."
        return recorded(ctx, confirm, Digits(digits=ctx.draft.digits), read_back)

    return ready_made(
        name,
        result=Digits,
        draft=Draft,
        tools=[record_digits, confirm_tool("confirm_digits", what, lambda draft: Digits(digits=draft.digits))],
        what=what,
        record="record_digits",
        confirm_by="confirm_digits",
        confirm=confirm,
        spoken=_SAID,
        typed=_TYPED,
        options=options,
    )


def get_secret_digits(
    name: str = "get_secret_digits",
    *,
    what: str = "the caller's PIN",
    length: int | tuple[int, int] = (3, 32),
    **options: Unpack[TaskOptions],
) -> Task[SecretDigits]:
    """A task that gets a row of digits that is secret, such as a PIN. It is not read back, and so not confirmed.

    Args:
        name: the task's name.
        what: what the digits are.
        length: the number of digits; or the smallest and the largest number.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.

    Raises `BuildError` for a length that no digits have.
    """
    check = _checker(name, length)

    @function_tool
    async def record_digits(ctx: RunContext[object, SecretDraft], digits: SecretStr) -> Done:
        """Record the digits, when all of them were given.

        Args:
            digits: digits only.
        """
        ctx.draft.digits = SecretStr(check(digits.get_secret_value(), secret=True))
        return ctx.complete(SecretDigits(digits=ctx.draft.digits))

    return ready_made(
        name,
        result=SecretDigits,
        draft=SecretDraft,
        tools=[record_digits],
        what=what,
        record="record_digits",
        confirm_by="",
        confirm=False,
        spoken=f"{_SAID} It is secret: never repeat it.",
        typed=f"{_TYPED} It is secret: never repeat it.",
        options=options,
    )


_SAID = 'Write the digits that were said: "oh" is 0, "double five" is 55. Wait until all of them were said.'
_TYPED = "They may have been typed with spaces or dashes."


def _checker(name: str, length: int | tuple[int, int]) -> Callable[..., str]:
    least, most = length if isinstance(length, tuple) else (length, length)
    if not 1 <= least <= most:
        raise BuildError(
            f'"{name}", length={length!r}: write a number of digits, 6, or the smallest and largest, (4, 8).'
        )
    many = f"{least}" if least == most else f"{least} to {most}"

    def check(text: str, secret: bool = False) -> str:
        digits = "".join(text.split()).replace("-", "")
        shown = "" if secret else f": {text}"
        if not (digits.isascii() and digits.isdigit()):
            raise ToolError(f"Not only digits{shown}. Ask the caller again.")
        if not least <= len(digits) <= most:
            raise ToolError(f"These are {len(digits)} digits, and {many} are needed{shown}. Ask for all of them again.")
        return digits

    return check
