"""The task that gets a name."""

from pydantic import BaseModel
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.errors import BuildError
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["Name", "get_name"]


class Name(BaseModel):
    """The result of `get_name`. What was not asked for is empty."""

    first: str = ""
    middle: str = ""
    last: str = ""

    @property
    def full(self) -> str:
        """The whole name: "Ada Lovelace"."""
        return " ".join(part for part in (self.first, self.middle, self.last) if part)


class Draft(Recorded):
    name: Name = Name()


def get_name(
    name: str = "get_name",
    *,
    first: bool = True,
    middle: bool = False,
    last: bool = True,
    confirm: bool | None = None,
    **options: Unpack[TaskOptions],
) -> Task[Name]:
    """A task that gets the caller's name.

    Args:
        name: the task's name.
        first: whether the first name is needed.
        middle: whether the middle name is needed.
        last: whether the last name is needed.
        confirm: whether the name is read back, and the caller confirms it. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.

    Raises `BuildError` if no part of the name is needed.
    """
    needed = [part for part, wanted in (("first", first), ("middle", middle), ("last", last)) if wanted]
    if not needed:
        raise BuildError(f'get_name("{name}", first=False, last=False): at least one part of the name is needed.')
    what = f"the caller's {' and '.join(needed)} name"

    @function_tool
    async def record_name(
        ctx: RunContext[object, Draft], first: str = "", middle: str = "", last: str = ""
    ) -> Done | str:
        """Record the name. Parts that were recorded before can be left out.

        Args:
            first: the first name, in its usual spelling.
            middle: the middle name.
            last: the last name.
        """
        given = {"first": first.strip(), "middle": middle.strip(), "last": last.strip()}
        if wrong := [part for part in given.values() if part and not any(map(str.isalpha, part))]:
            raise ToolError(f"Not a name: {', '.join(wrong)}.")
        ctx.draft.name = ctx.draft.name.model_copy(update={part: text for part, text in given.items() if text})
        if missing := [part for part in needed if not getattr(ctx.draft.name, part)]:
            ctx.draft.recorded_after = None
            return f"Recorded. Ask for the {' and the '.join(missing)} name."
        read_back = f'Say the name, "{ctx.draft.name.full}", and spell out what can be written in several ways.'
        return recorded(ctx, confirm, ctx.draft.name, read_back)

    return ready_made(
        name,
        result=Name,
        draft=Draft,
        tools=[record_name, confirm_tool("confirm_name", "the name", lambda draft: draft.name)],
        what=what,
        record="record_name",
        confirm_by="confirm_name",
        confirm=confirm,
        spoken="Write the name as it is usually spelled. If the caller spells it, that counts.",
        typed="Take the name as it was typed.",
        options=options,
    )
