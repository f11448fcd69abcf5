"""Streaming a model's words into the turn: the only place where a model is called."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.runnables import Runnable, RunnableConfig

from graph_voice import events
from graph_voice.turn import Turn

__all__ = ["Generated", "generate", "settle_calls"]

logger = logging.getLogger("graph_voice")
INVALID = "invalid_arguments"
"""Where an assistant message keeps the arguments that were not JSON: call id -> what came."""


@dataclass(frozen=True)
class Generated:
    """What came of one model call."""

    message: AIMessage
    cut: bool
    """Whether a barge-in ended it."""


async def generate(
    model: Runnable[Any, Any],
    prompt: Sequence[AnyMessage],
    config: RunnableConfig,
    *,
    agent: str,
    turn: Turn | None,
    message_id: str | None = None,
) -> Generated:
    """Call the model; with a turn, stream its words to it.

    Args:
        model: a chat model, with its tools bound.
        prompt: what it gets.
        config: the node's config, so that the call is traced below the node.
        agent: who speaks.
        turn: where the words go; None outside a turn.
        message_id: the id of the message. Default: the one that LangChain gives the first chunk.

    Raises what the model raises.
    """
    chunks: list[AIMessageChunk] = []
    stream = model.astream(list(prompt), config)
    if turn is None:
        async for chunk in stream:
            chunks.append(chunk)
        return Generated(_joined(chunks, agent, message_id), cut=False)
    with turn.cuttable():
        async for chunk in stream:
            chunks.append(chunk)
            content = chunk.content
            text = content if isinstance(content, str) else chunk.text
            if text:
                message_id = message_id or chunk.id or f"run-{uuid.uuid4()}"
                turn.say_text(agent, message_id, text)
        message = _joined(chunks, agent, message_id)
        if message.usage_metadata is not None:
            turn.emit(
                events.Usage(
                    agent,
                    str(message.response_metadata.get("model_name") or _model_name(model)),
                    message.usage_metadata["input_tokens"],
                    message.usage_metadata["output_tokens"],
                )
            )
        return Generated(message, cut=False)
    # Only a barge-in leads here: the calls of a message that was cut off are incomplete, so they are not calls.
    partial = _joined(chunks, agent, message_id)
    return Generated(AIMessage(partial.text, id=partial.id, name=agent), cut=True)


def _joined(chunks: list[AIMessageChunk], agent: str, message_id: str | None) -> AIMessage:
    if not chunks:
        return AIMessage("", id=message_id or f"run-{uuid.uuid4()}", name=agent)
    whole = chunks[0] if len(chunks) == 1 else chunks[0] + chunks[1:]
    message = cast(AIMessage, message_chunk_to_message(whole))
    return message.model_copy(update={"id": message_id or message.id or f"run-{uuid.uuid4()}", "name": agent})


def _model_name(model: Any) -> str:
    bound = getattr(model, "bound", model)
    return str(getattr(bound, "model_name", None) or getattr(bound, "model", None) or type(bound).__name__)


def settle_calls(message: AIMessage, used: set[str]) -> AIMessage:
    """Give each call an id of its own, and make calls of those whose arguments were not JSON.

    The providers send a call with broken arguments back as a call, so it needs an answer like any other. A call id
    that was used before would make two calls one (a tool runs at most once per id), so it gets a new one.
    """
    broken = {}
    calls = []
    taken = set(used)
    for call in message.tool_calls:
        call_id = _unused(call["id"], taken)
        calls.append({**call, "id": call_id})
    for invalid in message.invalid_tool_calls:
        call_id = _unused(invalid["id"], taken)
        calls.append({"type": "tool_call", "name": invalid["name"] or "unknown", "args": {}, "id": call_id})
        broken[call_id] = invalid["args"] or ""
    if not calls:
        return message
    extra = {k: v for k, v in message.additional_kwargs.items() if k != "tool_calls"}
    if broken:
        extra[INVALID] = broken
    return message.model_copy(update={"tool_calls": calls, "invalid_tool_calls": [], "additional_kwargs": extra})


def _unused(call_id: str | None, taken: set[str]) -> str:
    if not call_id or call_id in taken:
        call_id = f"{call_id or 'call'}-{uuid.uuid4().hex[:8]}"
    taken.add(call_id)
    return call_id


def used_call_ids(messages: Sequence[AnyMessage]) -> set[str]:
    return {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}


_BOUND_LIMIT = 32


class Bindings:
    """Models with an agent's tools bound, made once: binding builds every tool's schema."""

    def __init__(self) -> None:
        self._bound: dict[tuple[int, tuple[str, ...], str | None], tuple[BaseChatModel, Runnable[Any, Any]]] = {}

    def get(self, model: BaseChatModel, tools: Sequence[Any], tool_choice: str | None = None) -> Runnable[Any, Any]:
        if not tools:
            return model
        key = (id(model), tuple(t.name for t in tools), tool_choice)
        if (found := self._bound.get(key)) is not None:
            return found[1]
        if len(self._bound) >= _BOUND_LIMIT:
            self._bound.clear()
        bound = model.bind_tools(tools) if tool_choice is None else model.bind_tools(tools, tool_choice=tool_choice)
        self._bound[key] = (model, bound)  # the model is kept, so that its id stays its own
        return bound
