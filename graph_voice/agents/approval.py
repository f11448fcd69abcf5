"""Approval of a tool call by the caller: `@function_tool(approve="Shall I book it for {slot}?")`."""

import inspect
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any

from langchain_core.tools import BaseTool
from langgraph.types import interrupt

from graph_voice.agents.run_context import RunContext, running
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.yes_no import Answer, plain_answer
from graph_voice.errors import BuildError

__all__ = ["Approve", "Declined", "approval_of", "approved", "asked_arguments", "check_approval", "require_approval"]

Approve = str | Callable[..., str | None]
"""The question: a text with the tool's parameters in braces, or a function of some of them, by name. A function may
return None when this call needs no approval."""


APPROVE = "approve"
"""The key of the question in a LangChain tool's `metadata`."""


class Declined(ToolError):
    """The caller has not approved the tool call, so it has not run. The model is told why."""


def check_approval(tool: str, approve: Any, parameters: Collection[str]) -> None:
    """Raise `BuildError` for a question that can't be asked. `parameters`: the names that it may use."""
    if approve is None:
        return
    known = ", ".join(sorted(parameters)) or "none"
    if isinstance(approve, str):
        try:
            used = [name for _, name, _, _ in string.Formatter().parse(approve) if name is not None]
        except ValueError as error:
            raise BuildError(f"tool {tool!r}: approve={approve!r:.80}: {error}.") from error
        if not approve.strip():
            raise BuildError(f'tool {tool!r}: approve={approve!r}: write the question, approve="Shall I?".')
    elif callable(approve) and not inspect.iscoroutinefunction(approve):
        used = list(inspect.signature(approve).parameters)
    else:
        raise BuildError(
            f"tool {tool!r}: approve={approve!r:.80}: write the question, or a function of the tool's parameters that "
            "returns it."
        )
    for name in used:
        if (field := name.partition(".")[0].partition("[")[0]) not in parameters:
            raise BuildError(f'tool {tool!r}: approve asks about "{field}", which is no parameter of it ({known}).')


def approved(tool: Any, question: Approve) -> BaseTool:
    """A LangChain tool that the caller has to approve before it runs: `approved(tool, "Shall I send it to {to}?")`.

    The same as `metadata={"approve": ...}` of the tool. Of arguments that the model has left out, the question has the
    defaults, or nothing.

    Args:
        tool: any LangChain tool that is not made of a `@function_tool`, which declares it itself. It is not changed.
        question: see `function_tool(approve=)`.

    Raises `BuildError` for another kind of tool, and for a question that can't be asked.
    """
    if not isinstance(tool, BaseTool):
        raise BuildError(
            f"approved({tool!r:.60}, ...): this is for LangChain tools. Write @function_tool(approve=...) above a "
            'function, and McpServer(..., approve={"send_mail": "..."}) for tools of a server.'
        )
    made = tool.model_copy(update={"metadata": {**(tool.metadata or {}), APPROVE: question}})
    approval_of(made)
    return made


def approval_of(tool: BaseTool) -> Approve | None:
    """The question that a LangChain tool declares in its `metadata`; None if it asks nothing.

    Raises `BuildError` for a question that can't be asked.
    """
    found: Approve | None = (tool.metadata or {}).get(APPROVE)
    if found is not None:
        check_approval(tool.name, found, set(_parameters(tool)))
    return found


def asked_arguments(tool: BaseTool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the question of a LangChain tool may use: its arguments, and the defaults of those that are left out."""
    defaults = {name: about.get("default", "") for name, about in _parameters(tool).items()}
    return {**defaults, **arguments}


def _parameters(tool: BaseTool) -> dict[str, Any]:
    """Parameter -> its JSON schema."""
    schema: Any = tool.tool_call_schema
    found: dict[str, Any] = schema if isinstance(schema, dict) else schema.model_json_schema()
    return dict(found.get("properties") or {})


async def require_approval(tool: str, approve: Approve, arguments: Mapping[str, Any]) -> None:
    """Ask the caller, unless this tool call was approved already.

    The answer comes in a later turn: the tool call then runs again from its start, up to here. Raises `Declined` when
    the answer is not a yes.
    """
    ctx = running.get()
    if ctx is not None and ctx.approved:
        return
    question = _question(approve, arguments)
    if not question:
        return
    words = interrupt(question)
    answer = await _read(question, words, ctx)
    if answer == "yes":
        if ctx is not None:
            await ctx.note_approval()
        return
    raise Declined(_told(tool, question, words, answer))


def _question(approve: Approve, arguments: Mapping[str, Any]) -> str | None:
    if isinstance(approve, str):
        return approve.format(**arguments)
    return approve(**{name: arguments[name] for name in inspect.signature(approve).parameters})


async def _read(question: str, words: Any, ctx: RunContext[Any] | None) -> Answer:
    if isinstance(words, bool):
        return "yes" if words else "no"
    if (plain := plain_answer(str(words))) is not None:
        return plain
    return "other" if ctx is None or ctx.read_answer is None else await ctx.read_answer(question, str(words))


def _told(tool: str, question: str, words: Any, answer: Answer) -> str:
    asked = f'Not done. The caller was asked "{question}" and said: "{words}".'
    if answer == "no":
        return f"{asked} That is a no."
    return f"{asked} That is no clear yes. If they want it otherwise, call {tool} again with what they want changed."
