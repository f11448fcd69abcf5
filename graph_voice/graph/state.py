"""The state of a voice graph: the conversation, the userdata, the active agent."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.serde.base import SerializerProtocol
from typing_extensions import TypedDict, TypeVar

from graph_voice.agents.handoff import AgentHandoff
from graph_voice.errors import BuildError
from graph_voice.history.context import merge_chat_ctx
from graph_voice.history.reducers import merge_messages
from graph_voice.userdata.channel import UserdataChannel, check_class

__all__ = ["VoiceState", "merge_messages", "schema_for"]

U = TypeVar("U", default=Any)


def merge_contexts(current: dict[str, Any] | None, update: dict[str, Any] | None) -> dict[str, Any]:
    """The reducer of `contexts`: the newest of each agent wins."""
    return {**(current or {}), **(update or {})}


def append_handoffs(
    current: list[AgentHandoff] | None, updates: Sequence[list[AgentHandoff] | None]
) -> list[AgentHandoff]:
    """The reducer of `handoffs`: append. A handoff that is there already (same tool call, same time) counts once."""
    known = list(current or [])
    for handoff in (handoff for update in updates for handoff in update or ()):
        if handoff not in known:
            known.append(handoff)
    return known


def last_agent(current: str | None, update: str | None) -> str:
    """The reducer of `active_agent`: the last one of a step wins, so that only one agent is active."""
    return update or current or ""


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
    stack: NotRequired[list[Any]]
    """Tasks that take over the conversation for a while and then give it back."""


def schema_for(state_schema: Any, userdata: Any, secrets: SerializerProtocol | None = None) -> Any:
    """The state schema of one graph: `state_schema` with `userdata` as a channel of the user's class.

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
