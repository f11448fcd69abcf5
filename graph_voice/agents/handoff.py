"""Handoffs: how one agent hands the call over to another, and what the other one is told.

Follows LiveKit's agent handoffs (a tool that returns an agent) and its `AgentHandoff` chat item.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NotRequired, cast, get_args

from langchain_core.tools import BaseTool
from pydantic import BaseModel, PydanticUserError
from typing_extensions import TypedDict

from graph_voice import history as _history
from graph_voice.errors import BuildError
from graph_voice.events import OnInterruption
from graph_voice.messages.pairs import transfer_answer
from graph_voice.secrets.values import revealed_in

__all__ = ["AgentHandoff", "Handoff", "Reply", "TransferTool", "handoff_record"]


class AgentHandoff(TypedDict):
    """A handoff that happened, as the state's `handoffs` and the transfer's `ToolMessage.artifact` keep it."""

    old_agent_id: str | None
    new_agent_id: str
    tool_call_id: str | None
    created_at: float
    """Seconds since the epoch."""
    arguments: NotRequired[dict[str, Any]]
    """What the handoff took along (`Handoff(arguments=...)`), as JSON data with its secrets redacted."""
    arguments_type: NotRequired[str]
    """The name of its class."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A line that the model writes from these instructions."""

    instructions: str


Utterance = str | Reply | Callable[[Any], str]
"""What may be said at a handoff: fixed text, generated text, or a function of the userdata."""


@dataclass(frozen=True)
class Handoff:
    """A handoff that an agent may make. It becomes the tool `transfer_to_<to>` and an edge of the graph.

    With `tool=False` there is no such tool: the agent's own tools return `ctx.handoff("<to>")`, and this declares what
    the handoff does (`history`, `say`, `result`).

    Raises `BuildError` for a target that is no name, and for texts that can't be said or shown.
    """

    to: str
    """The target: an agent's name, or any node of the graph."""
    description: str | None = None
    """What the model reads to decide. Default: "Transfer the caller to <to>."."""
    history: _history.Operation = field(default_factory=_history.fresh, kw_only=True)
    """What the target's model is shown of the conversation. Default: nothing, as in LiveKit."""
    say: Utterance | None = field(default=None, kw_only=True)
    """Spoken by the old agent before the new one becomes active."""
    result: str | None = field(default=None, kw_only=True)
    """What the transfer tool answers. Default: "Transferring to <to>."."""
    name: str | None = field(default=None, kw_only=True)
    """The tool's name. Default: `transfer_to_<to>`."""
    on_interruption: OnInterruption = field(default="cancel", kw_only=True)
    """What happens to the handoff when the caller interrupts its announcement. "cancel", as in LiveKit: the old agent
    stays active and answers. "complete": the announcement is cut off, the new agent becomes active, and it answers what
    the caller says."""
    tool: bool = field(default=True, kw_only=True)
    """Whether the agent's model gets a tool for this handoff. False: only the agent's own tools can make it."""
    arguments: type[BaseModel] | None = field(default=None, kw_only=True)
    """A pydantic model that the agent's model fills in when it hands off: the parameters of the transfer tool. The
    target finds it as `ctx.arguments`, as the second argument of its `on_enter` function, and behind its
    instructions."""
    given: BaseModel | None = field(default=None, kw_only=True, repr=False)
    """What this one handoff takes along. `ctx.handoff(to, arguments=...)` sets it."""

    def __post_init__(self) -> None:
        if getattr(type(self.to), "is_graph_agent", False):
            object.__setattr__(self, "to", self.to.name)  # type: ignore[attr-defined]  # an agent itself was given
        if not self.to:
            raise BuildError("Handoff(to=...) needs the name of the agent to hand off to.")
        if not isinstance(self.to, str):
            raise BuildError(f'Handoff({self.to!r:.60}): write the name of the target, Handoff("billing").')
        for name in ("description", "result", "name"):
            if not isinstance(value := getattr(self, name), str | None):
                raise BuildError(f'Handoff("{self.to}", {name}={value!r:.60}): write a text, {name}="...".')
        if not isinstance(self.say, str | Reply | None) and not callable(self.say):
            raise BuildError(
                f'Handoff("{self.to}", say={self.say!r:.60}): write a text, a function of the userdata, or '
                'Reply("instructions for the line").'
            )
        if self.on_interruption not in get_args(OnInterruption):
            raise BuildError(
                f'Handoff("{self.to}", on_interruption={self.on_interruption!r}): write "cancel" or "complete".'
            )
        if not isinstance(self.history, _history.Operation):
            name = getattr(self.history, "__name__", "full")
            raise BuildError(
                f'Handoff("{self.to}", history={self.history!r}): write an operation, history=history.{name}(), or '
                "several of them, history.exclude_tool_calls() | history.truncate(max_items=6)."
            )
        if not self.tool and (self.name or self.description):
            raise BuildError(
                f'Handoff("{self.to}", tool=False) has no tool, so it takes neither a name nor a description: leave '
                "them out, or leave out tool=False."
            )

        self._check_arguments()

    def _check_arguments(self) -> None:
        kind = self.arguments
        if kind is None:
            return
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            raise BuildError(
                f'Handoff("{self.to}", arguments={kind!r:.60}): write a pydantic model class, whose fields the model '
                "fills in: class Reason(BaseModel): topic: str."
            )
        try:
            kind.model_json_schema()
        except PydanticUserError as error:
            raise BuildError(
                f'Handoff("{self.to}", arguments={kind.__name__}): a field of it has no JSON schema, so no model can '
                f"fill it in: {error.message}"
            ) from error

    @property
    def tool_name(self) -> str:
        return self.name or f"transfer_to_{self.to}"

    def transfer_tool(self) -> "TransferTool":
        """The tool that an agent's model calls to hand off."""
        text = self.description or f"Transfer the caller to {self.to.replace('_', ' ')}."
        return TransferTool(
            name=self.tool_name, description=text, handoff=self, args_schema=self.arguments or _NoArguments
        )

    @property
    def answer(self) -> str:
        """What the transfer tool answers."""
        return self.result or transfer_answer(self.to)


class _NoArguments(BaseModel):
    """The transfer tool of a handoff that takes nothing along."""


class TransferTool(BaseTool):
    """The tool that a `Handoff` becomes. Running it does nothing: the tool node reads its `handoff`."""

    handoff: Handoff
    args_schema: type[BaseModel] = _NoArguments

    def filled_in(self, args: Mapping[str, Any]) -> Handoff:
        """The handoff with what the model has filled in. Raises pydantic's `ValidationError` if that does not fit."""
        kind = self.handoff.arguments
        return self.handoff if kind is None else replace(self.handoff, given=kind.model_validate(revealed_in(args)))

    def _run(self, *args: Any, **kwargs: Any) -> str:
        return self.handoff.answer


def handoff_record(
    old: str | None, new: str, call_id: str | None, arguments: Mapping[str, Any] | None = None
) -> AgentHandoff:
    """A handoff that happens now. `arguments`: the record's `arguments` and `arguments_type`, if it takes any along."""
    made: dict[str, Any] = {"old_agent_id": old, "new_agent_id": new, "tool_call_id": call_id, **(arguments or {})}
    return cast(AgentHandoff, {**made, "created_at": time.time()})
