"""The task that gets an email address."""

import functools
import re
from collections.abc import Callable

from pydantic import BaseModel, EmailStr, TypeAdapter
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["Email", "get_email"]

_PLAUSIBLE = re.compile(r"[^@\s<>,;:\"()\[\]]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,63}")


class Email(BaseModel):
    """The result of `get_email`."""

    address: str


class Draft(Recorded):
    address: str = ""


def get_email(name: str = "get_email", *, confirm: bool | None = None, **options: Unpack[TaskOptions]) -> Task[Email]:
    """A task that gets the caller's email address.

    The address is checked for its form, and by pydantic's `EmailStr` if the package `email-validator` is installed.

    Args:
        name: the task's name.
        confirm: whether the address is read back, and the caller confirms it. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.
    """

    @function_tool
    async def record_email(ctx: RunContext[object, Draft], address: str) -> Done | str:
        """Record the email address.

        Args:
            address: the whole address, as it is written: "ada.lovelace@example.org".
        """
        ctx.draft.address = checked_email(address)
        spelled = " ".join(ctx.draft.address.partition("@")[0])
        read_back = f"Read {ctx.draft.address} back, and spell out what is hard to hear: {spelled}."
        return recorded(ctx, confirm, Email(address=ctx.draft.address), read_back)

    return ready_made(
        name,
        result=Email,
        draft=Draft,
        tools=[
            record_email,
            confirm_tool("confirm_email", "the email address", lambda draft: Email(address=draft.address)),
        ],
        what="the caller's email address",
        record="record_email",
        confirm_by="confirm_email",
        confirm=confirm,
        spoken=(
            'Write words as symbols: "at" is @, "dot" is ., "dash" is -, "underscore" is _, "plus" is +. Join what was '
            "spelled letter by letter. If only a part was given, ask for the rest."
        ),
        typed="If the address has an obvious typing error, ask about it.",
        options=options,
    )


def checked_email(text: str) -> str:
    """The address in its usual form. Raises `ToolError` for what is none."""
    try:
        return _validator()(_plausible(_written(text)))
    except ValueError:
        raise ToolError(f"Not an email address: {text}. Ask the caller to say it again, in parts.") from None


def _written(text: str) -> str:
    """The text without spaces, and words that stand for symbols as symbols: "ada at example dot org"."""
    text = re.sub(r"\s+at\s+", "@", text, flags=re.IGNORECASE)
    return "".join(re.sub(r"\s+dot\s+", ".", text, flags=re.IGNORECASE).split())


@functools.cache
def _validator() -> Callable[[str], str]:
    try:
        adapter: TypeAdapter[str] = TypeAdapter(EmailStr)
    except ImportError:
        return str
    return adapter.validate_python


def _plausible(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if not _PLAUSIBLE.fullmatch(text) or len(text) > 254 or ".." in local or local[0] == "." or local[-1] == ".":
        raise ValueError(text)
    return f"{local}@{domain.lower()}"
