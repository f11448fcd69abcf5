"""What a handoff takes along (`Handoff(arguments=...)`): plain data in the `handoffs`, typed for the next agent."""

import json
from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from pydantic import BaseModel, TypeAdapter, ValidationError

from graph_voice.agents.agent import Agent
from graph_voice.agents.handoff import Handoff
from graph_voice.agents.plain_data import as_plain, as_typed
from graph_voice.secrets.values import MASK, is_lost, mapped, opened, redact_with, resealed, revealed, was_redacted

__all__ = ["arguments_of", "kept_arguments", "record_of", "told_arguments", "typed_arguments", "words_of"]

Kept = dict[str, Any]
"""`{"arguments": data, "arguments_type": the class's name}`, or nothing."""
_TOLD = "What came with the transfer to you: {}"
_KEYS = ("arguments", "arguments_type")


def kept_arguments(request: Handoff, secrets: SerializerProtocol | None) -> Kept:
    """What a handoff takes along, as the state keeps it. `secrets` encrypts those in it."""
    if request.given is None or request.arguments is None:
        return {}
    plain = as_plain(TypeAdapter(request.arguments), request.given)
    return {"arguments": resealed(plain, redact_with(secrets)), "arguments_type": request.arguments.__name__}


def record_of(state: Mapping[str, Any], agent: str) -> Kept:
    """What came with the last handoff to this agent, as the state keeps it."""
    records = state.get("handoffs") or ()
    found: Mapping[str, Any] = next((h for h in reversed(records) if h["new_agent_id"] == agent), {})
    return {key: found[key] for key in _KEYS if found.get(key) is not None}


def arguments_of(
    state: Mapping[str, Any], agent: str, agents: Mapping[str, Agent], secrets: SerializerProtocol | None
) -> BaseModel | None:
    """What came with the last handoff to this agent. None: nothing, or it is not known any more.

    Args:
        state: the graph's state.
        agent: the name of the agent.
        agents: those of the graph, which declare the class.
        secrets: decrypts the secrets. One that was not stored is empty, which is falsy.
    """
    kept = record_of(state, agent)
    kinds = (a.argument_types.get(kept.get("arguments_type", "")) for a in agents.values())
    return next((made for kind in kinds if kind and (made := typed_arguments(kept, kind, secrets)) is not None), None)


def typed_arguments(kept: Mapping[str, Any], kind: type[BaseModel], secrets: SerializerProtocol | None) -> Any:
    """What `kept_arguments` made this of; None if it does not fit the class any more."""
    data = opened(kept.get("arguments"), secrets)
    if not isinstance(data, Mapping):
        return None
    types = {name: info.annotation for name, info in kind.model_fields.items()}
    found = {k: revealed(types[k], v) if is_lost(types.get(k), v) else v for k, v in data.items()}
    try:
        return as_typed(TypeAdapter(kind), found)
    except ValidationError:
        return None


def told_arguments(instructions: str, state: Mapping[str, Any], agent: str) -> str:
    """The instructions of an agent, with what came with the handoff to it. Its secrets are masked."""
    kept = record_of(state, agent)
    if not kept:
        return instructions
    return f"{instructions}\n\n{words_of(kept)}"


def words_of(kept: Kept) -> str:
    """What a model is told of it."""
    return _TOLD.format(json.dumps(_masked(kept["arguments"]), ensure_ascii=False, default=str))


def _masked(data: Any) -> Any:
    if isinstance(data, str):
        return MASK if was_redacted(data) else data
    return mapped(data, _masked) if isinstance(data, Mapping | list) else data
