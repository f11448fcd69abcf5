"""What the ready-made tasks share: their texts, and how the caller confirms what was recorded."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from graph_voice.agents.agent import Spoken, Text
from graph_voice.agents.handoff import Handoff
from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.agents.voice import Voice
from graph_voice.history import Operation

__all__ = ["Recorded", "TaskOptions", "confirm_tool", "ready_made", "recorded"]

R = TypeVar("R")
GIVE_UP = "The caller does not want to give it, or wants something else."

_PURPOSE = "You are one step of a longer call. Your only purpose is to get {what} from the caller."
_SPOKEN = "A speech recognizer wrote down what the caller said, so expect errors in it. {how}"
_TYPED = "The caller types. {how}"
_RECORD = "Call {record} as soon as the caller has given it, and again when they correct it."
_CONFIRM = "Then do what the tool says, and call {confirm} once the caller has said that it is right."
_MANNERS = (
    "Ask in short sentences, without lists or formatting. Use only what the caller has said, and never make it up."
)
_REFUSED = "If the caller does not want to give it, or wants something else, call give_up."


class TaskOptions(TypedDict, total=False):
    """What each ready-made task passes on to `Task`. What is given replaces the text of the task's own."""

    instructions: Text
    on_enter: str | Spoken | Callable[[Any], Any]
    description: str
    give_up: str | None
    """None: the model can't give the task up."""
    tools: Sequence[Any]
    """Tools besides the task's own."""
    handoffs: Sequence[Handoff | str]
    tasks: Sequence[Any]
    history: Operation
    returns: Operation
    on_exit: Callable[[Any], Any]
    llm: BaseChatModel | str
    fallback: BaseChatModel | str
    voice: Voice


class Recorded(BaseModel):
    """A draft that the caller may have to confirm."""

    recorded_after: str | None = None
    """The id of the caller's words after which it was recorded; "" if the caller had said nothing. None: it was not."""


def ready_made(
    name: str,
    *,
    result: type[R],
    draft: type[Recorded],
    tools: Sequence[Any],
    what: str,
    record: str,
    confirm_by: str,
    confirm: bool | None,
    spoken: str,
    typed: str,
    options: TaskOptions,
) -> Task[R]:
    """A task that records something, and has it confirmed.

    Args:
        name: the task's name.
        result: the class of its result.
        draft: the class of its draft.
        tools: its own tools.
        what: what it gets, such as "the caller's email address".
        record: the names of the tools that record it, as in a sentence.
        confirm_by: the name of the tool that confirms it.
        confirm: whether the caller confirms. None: when they speak.
        spoken: how to read what was spoken.
        typed: how to read what was typed.
        options: the program's own.
    """
    given: dict[str, Any] = {**options}
    given.setdefault("give_up", GIVE_UP)

    def text(how: str, confirms: bool) -> str:
        lines = [_PURPOSE.format(what=what), how, _RECORD.format(record=record)]
        if confirms:
            lines.append(_CONFIRM.format(confirm=confirm_by))
        lines.append(_MANNERS)
        if given["give_up"] is not None:
            lines.append(_REFUSED)
        return "\n".join(lines)

    given.setdefault(
        "instructions",
        Spoken(
            audio=text(_SPOKEN.format(how=spoken), confirm is not False),
            text=text(_TYPED.format(how=typed), confirm is True),
        ),
    )
    given.setdefault("on_enter", f"Ask for {what}. If the caller has given it already, record it instead of asking.")
    given.setdefault("description", f"Ask the caller for {what}, and get it.")
    return Task(name, result=result, draft=draft, **{**given, "tools": [*tools, *given.get("tools", ())]})


def recorded(ctx: RunContext[Any, Any], confirm: bool | None, result: Any, read_back: str) -> Done | str:
    """What a tool returns that has recorded all that the task gets.

    Args:
        ctx: the tool's context.
        confirm: whether the caller confirms. None: when they speak.
        result: the task's result, if the caller need not confirm it.
        read_back: what the model does so that the caller can confirm it.
    """
    if not (ctx.modality == "audio" if confirm is None else confirm):
        return ctx.complete(result)
    ctx.draft.recorded_after = _last_words(ctx)
    return f"Recorded, but not confirmed. {read_back} Ask whether it is right, and wait for the caller's answer."


def confirm_tool(name: str, what: str, result: Callable[[Any], Any]) -> Any:
    """The tool with which the model says that the caller has confirmed. The model has it only when the caller has
    spoken since the value was recorded.

    Args:
        name: the tool's name.
        what: what is confirmed.
        result: the task's result, of its draft.
    """

    @function_tool(
        name=name, description=f"The caller has confirmed {what}, which was read back.", available=_may_confirm
    )
    async def confirm(ctx: RunContext[Any, Any]) -> Done:
        if not _may_confirm(ctx):
            raise ToolError(f"{what.capitalize()} has just changed: read it back, and wait for the caller's answer.")
        return ctx.complete(result(ctx.draft))

    return confirm


def _may_confirm(ctx: RunContext[Any, Any]) -> bool:
    return ctx.draft.recorded_after not in (None, _last_words(ctx))


def _last_words(ctx: RunContext[Any, Any]) -> str:
    """The id of the caller's last words; "" if there are none."""
    said = (m.id for m in reversed(ctx.state.get("messages") or []) if isinstance(m, HumanMessage))
    return next(said, None) or ""
