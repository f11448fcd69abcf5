"""The state of a voice graph: the conversation, the userdata, the active agent."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.serde.base import SerializerProtocol
from pydantic import Field
from typing_extensions import TypedDict, TypeVar

from graph_voice.agents.handoff import AgentHandoff
from graph_voice.errors import BuildError, StateError
from graph_voice.graph.frames import merge_stack
from graph_voice.history.context import merge_chat_ctx
from graph_voice.history.reducers import merge_messages
from graph_voice.userdata.channel import UserdataChannel, check_class
from graph_voice.userdata.pickles import keep_readable

__all__ = ["VoiceState", "merge_messages", "schema_for"]

U = TypeVar("U", default=Any)
_HANDOFF_KEYS = AgentHandoff.__required_keys__
_HANDOFF = '{"old_agent_id": ..., "new_agent_id": ..., "tool_call_id": ..., "created_at": ...}'


def merge_contexts(current: dict[str, Any] | None, update: dict[str, Any] | None) -> dict[str, Any]:
    """The reducer of `contexts`: the newest of each agent wins."""
    if not isinstance(update or {}, Mapping) or not all(isinstance(v, Mapping) for v in (update or {}).values()):
        raise StateError(f"contexts={update!r:.80}: write agent -> its `chat_ctx`, or leave it out.")
    return {**(current or {}), **(update or {})}


def append_handoffs(
    current: list[AgentHandoff] | None, updates: Sequence[list[AgentHandoff] | None]
) -> list[AgentHandoff]:
    """The reducer of `handoffs`: append. A handoff that is there already (same tool call, same time) counts once."""
    known = list(current or [])
    for update in updates:
        if not isinstance(update or [], Sequence) or isinstance(update, str):
            raise StateError(f"handoffs={update!r:.80}: write a list of handoffs, {_HANDOFF}, or leave it out.")
    for handoff in (handoff for update in updates for handoff in update or ()):
        if not isinstance(handoff, Mapping) or not set(handoff) >= _HANDOFF_KEYS:
            raise StateError(f"handoffs=[{handoff!r:.80}]: a handoff is {_HANDOFF}.")
        if handoff not in known:
            known.append(handoff)
    return known


def last_agent(current: str | None, update: str | None) -> str:
    """The reducer of `active_agent`: the last one of a step wins, so that only one agent is active."""
    return update or current or ""


def _one_of(agents: Sequence[str]) -> Any:
    """The type of `active_agent` in a graph of these agents: a choice in Studio's form, and nothing else is taken."""

    def known(current: str | None, update: str | None) -> str:
        if update and update not in agents:
            close = difflib.get_close_matches(str(update).lower().removesuffix("_tools"), agents, 1)
            meant = f'did you mean "{close[0]}"? ' if close else ""
            raise StateError(f"active_agent={update!r}: {meant}The agents are {', '.join(agents)}.")
        return last_agent(current, update)

    # A lambda: LangGraph takes the same channel of another schema, a node's `state: VoiceState`, for an equal one then.
    choice = lambda current, update: known(current, update)  # noqa: E731
    return NotRequired[Annotated[str, Field(json_schema_extra={"enum": list(agents)}), choice]]


class VoiceState(TypedDict, Generic[U]):
    """The state of a voice graph. Extend it for channels of your own: `class MyState(VoiceState[Caller]): ...`.

    The lists are LangGraph's `DeltaChannel`s: a checkpoint holds only what is new, so a turn costs the same
    bytes however long the call is.
    """

    messages: NotRequired[Annotated[list[AnyMessage], DeltaChannel(merge_messages)]]
    """Everything said (as heard) and done in the call, by every agent, in order. LiveKit's `session.history`."""
    chat_ctx: NotRequired[Annotated[dict[str, Any], merge_chat_ctx]]
    """Which part of the messages the active agent's model is shown. Write a history operation to change it."""
    contexts: NotRequired[Annotated[dict[str, Any], merge_contexts]]
    """Agent -> its `chat_ctx` when it was last active."""
    userdata: NotRequired[U]
    """The caller's facts. LiveKit's `session.userdata`."""
    active_agent: NotRequired[Annotated[str, last_agent]]
    """The name of the active agent. Empty: the start agent."""
    handoffs: NotRequired[Annotated[list[AgentHandoff], DeltaChannel(append_handoffs)]]
    """Every handoff that happened."""
    stack: NotRequired[Annotated[list[Any], merge_stack]]
    """The tasks that run, and the tool calls that wait for them, outermost first: `graph.frames.TaskFrame`."""


def schema_for(
    state_schema: Any, userdata: Any, secrets: SerializerProtocol | None = None, agents: Sequence[str] = ()
) -> Any:
    """The state schema of one graph: `state_schema` with `userdata` as a channel of the user's class, and
    `active_agent` as a choice among the agents.

    Raises `BuildError` when `state_schema` does not extend `VoiceState`.
    """
    import typing_extensions as te

    origin = te.get_origin(state_schema) or state_schema
    hints = te.get_type_hints(origin, include_extras=True) if isinstance(origin, type) else {}
    missing = {"messages", "chat_ctx", "contexts", "active_agent", "handoffs"} - set(hints)
    if missing:
        raise BuildError(
            f"state_schema={getattr(state_schema, '__name__', state_schema)!r} lacks {sorted(missing)}: "
            "extend VoiceState, class MyState(VoiceState[Caller]): ..."
        )
    declared = _declared_userdata(state_schema)
    kind = userdata or declared or dict
    check_class(kind)
    hints = {k: h for k, h in hints.items() if k != "userdata"}
    for typed in (kind, *hints.values()):
        keep_readable(typed)
    if agents and last_agent in getattr(te.get_args(hints["active_agent"])[0], "__metadata__", ()):
        hints["active_agent"] = _one_of(agents)
    name = getattr(origin, "__name__", "VoiceState")
    fields = {**hints, "userdata": NotRequired[Annotated[kind, UserdataChannel(kind, secrets=secrets)]]}
    return TypedDict(name, fields)  # type: ignore[operator]  # built at run time, for this graph's userdata


def _declared_userdata(state_schema: Any) -> Any:
    """`Caller` of `VoiceState[Caller]`, or of a class that extends it."""
    import types

    for base in (state_schema, *getattr(state_schema, "__orig_bases__", ())):
        args = getattr(base, "__args__", ())
        if args and not isinstance(args[0], TypeVar | types.UnionType) and isinstance(args[0], type):
            return args[0]
    return None
