"""A tool call that is made again while it runs: `@function_tool(on_duplicate="reject")`, in LiveKit's words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, create_model

from graph_voice.errors import BuildError

__all__ = [
    "CONFIRM",
    "CONFIRM_DUPLICATE",
    "REJECT_DUPLICATE",
    "DuplicateMode",
    "DuplicateScope",
    "check_duplicates",
    "duplicate_key",
    "may_confirm",
    "told_of_duplicate",
]

DuplicateMode = Literal["allow", "reject", "replace", "confirm"]
"""What happens to a tool call while another one like it runs."""
DuplicateScope = Literal["name", "name_and_args"]
"""Which tool calls are alike: those of the same tool, or those of the same tool with the same arguments."""

CONFIRM = "lk_agents_confirm_duplicate"
"""The parameter of a tool with `on_duplicate="confirm"`. LiveKit's name."""
_CONFIRM_DESCRIPTION = (
    "Set this to True to confirm you want to run a duplicate. "
    "Only do this when user confirms the duplication is needed."
)
REJECT_DUPLICATE = """Same tool `{function_name}` is already running:
{fnc_calls_text}
If you want to cancel the existing one, call `lk_agents_cancel_task` with call_id.
Only do this when user explicitly requests it."""
CONFIRM_DUPLICATE = """Same tool `{function_name}` is already running:
{fnc_calls_text}
Re-call with confirm duplicate True to run a duplicate if needed,
or if you want to cancel the existing one, call `lk_agents_cancel_task` with call_id.
Only run duplicate or cancel the existing one when user explicitly requests it."""


def check_duplicates(mode: Any, scope: Any, *, cancellable: bool) -> None:
    """Raise `BuildError` for what can't work."""
    for name, given, known in (
        ("on_duplicate", mode, get_args(DuplicateMode)),
        ("duplicate_scope", scope, get_args(DuplicateScope)),
    ):
        if given not in known:
            choices = " or ".join(f'"{value}"' for value in known)
            raise BuildError(f"@function_tool({name}={given!r:.60}): write {choices}.")
    if mode == "replace" and not cancellable:
        raise BuildError(
            '@function_tool(on_duplicate="replace") cancels the tool call that runs: add cancellable=True, or write '
            '"reject".'
        )


def may_confirm(schema: Any) -> type[BaseModel]:
    """The schema with the parameter that confirms a duplicate."""
    confirm: Any = (bool | None, Field(default=None, description=_CONFIRM_DESCRIPTION))
    return create_model(schema.__name__, __base__=schema, **{CONFIRM: confirm})


def duplicate_key(tool: str, args: Mapping[str, Any], scope: DuplicateScope, schema: Any) -> tuple[str, str | None]:
    """What a tool call is a duplicate by. Arguments are compared after validation, with their defaults; if they don't
    fit, as they came."""
    if scope == "name":
        return tool, None
    given = {name: value for name, value in args.items() if name != CONFIRM}
    try:
        valid = schema.model_validate(given).model_dump(mode="json", exclude={CONFIRM})
        return tool, json.dumps(valid, sort_keys=True, default=str)
    except Exception:  # the tool itself refuses them
        return tool, json.dumps(given, sort_keys=True, default=str)


def told_of_duplicate(mode: DuplicateMode, tool: str, running: Sequence[Mapping[str, Any]]) -> str:
    """What the model is told of the tool calls that run."""
    template = REJECT_DUPLICATE if mode == "reject" else CONFIRM_DUPLICATE
    return template.format(function_name=tool, fnc_calls_text="\n".join(map(json.dumps, running)))
