"""Streaming a model's words into the turn: the only place where a model is called."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    InvalidToolCall,
    ToolCall,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from graph_voice import events
from graph_voice.messages.pairs import keep_calls
from graph_voice.messages.provider_data import with_words
from graph_voice.messages.refusals import refusal_of, spoken_words, with_refusal_as_words
from graph_voice.messages.thoughts import ThoughtFilter
from graph_voice.messages.tool_names import legal_name, with_names
from graph_voice.secrets.arguments import INVALID
from graph_voice.turn.nodes_side import NodesSide

__all__ = [
    "DROPPED",
    "TOO_DEEP",
    "Generated",
    "Progress",
    "generate",
    "normalize_tool_calls",
    "usage_of",
    "used_call_ids",
    "within_limit",
    "without_calls",
]


MAX_DEPTH = 64
"""How deep the arguments of a tool call may be nested. Beyond that, schemas, stores and traces give up."""
TOO_DEEP = f"they are nested more than {MAX_DEPTH} deep."
DROPPED = "dropped_tool_calls"
"""Marks a message that had more tool calls than count: how many were dropped."""
_AHEAD = 4
"""The number of first text pieces after each of which other tasks may run, so that these reach the voice at once."""


@dataclass(frozen=True)
class Generated:
    """What came of one model call."""

    message: AIMessage
    cut: bool
    """Whether an interruption ended it."""


@dataclass
class Progress:
    """How far a model call has come, for the caller of `generate` when it fails."""

    said: bool = False
    """Whether it has said a word: then it can't be retried."""
    begins_with_thoughts: bool = False
    """Whether this model closes thoughts that it has not opened, as it has done before."""


async def generate(
    model: Runnable[Any, Any],
    prompt: Sequence[AnyMessage],
    config: RunnableConfig,
    *,
    agent: str,
    turn: NodesSide | None,
    message_id: str | None = None,
    first_token_timeout: float | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Call the model once; with a turn, stream its words to it.

    Args:
        model: a chat model, with its tools bound.
        prompt: what it gets.
        config: the node's config, so that the model call is traced below the node.
        agent: who speaks.
        turn: where the words go; None outside a turn.
        message_id: the id of the message. Default: the one that LangChain gives the first chunk.
        first_token_timeout: seconds until the first piece of the answer (words, tool call, reasoning). None: no limit.
        progress: updated as the answer comes.

    Raises what the model raises, `TimeoutError`, and LangChain's `ModelRefusalError` when the provider has refused to
    answer.
    """
    progress = progress or Progress()
    chunks: list[AIMessageChunk] = []
    thoughts = ThoughtFilter(begins_with_thoughts=progress.begins_with_thoughts)
    began = first = time.perf_counter()

    async def stream() -> AsyncIterator[str]:
        nonlocal first
        pieces = model.astream(_input(model, prompt), config)
        try:
            async with asyncio.timeout(first_token_timeout) as deadline:
                async for chunk in pieces:
                    chunks.append(chunk)
                    if chunk.content or chunk.tool_call_chunks or chunk.additional_kwargs:
                        break
        except TimeoutError as error:
            if not deadline.expired():
                raise
            limit = f"{first_token_timeout:g} seconds"
            raise TimeoutError(f'the model of agent "{agent}" did not begin to answer within {limit}') from error
        first = time.perf_counter()
        if turn is not None:
            turn.timings.token()
            await turn.results_stored()
        for chunk in chunks:
            yield thoughts.feed(spoken_words(chunk))
        async for chunk in pieces:
            chunks.append(chunk)
            yield thoughts.feed(spoken_words(chunk))
        yield thoughts.end()
        progress.begins_with_thoughts = progress.begins_with_thoughts or thoughts.closes_only

    if turn is None:
        words = ""
        async for text in stream():
            progress.said = progress.said or bool(text.strip())
            words += text
        message = _answer(chunks, agent, message_id)
        if thoughts.found:
            message = message.model_copy(update=with_words(message, words))
        return Generated(message, cut=False)
    with turn.cuttable():
        blank, ahead, said = "", _AHEAD, ""
        async for text in stream():
            if not progress.said and not text.strip():
                blank += text  # if only white space comes, nothing was said
            elif text:
                progress.said = True
                message_id = message_id or chunks[-1].id or f"run-{uuid.uuid4()}"
                turn.say_text(agent, message_id, blank + text)
                said, blank = said + blank + text, ""
                if ahead:
                    ahead -= 1
                    await asyncio.sleep(0)  # tokens may come all at once; the first ones need not wait for the last
        message = _answer(chunks, agent, message_id)
        if thoughts.found:
            message = message.model_copy(update=with_words(message, said))
        if message.usage_metadata is not None:
            turn.emit(usage_of(agent, message, model, ttft=first - began, duration=time.perf_counter() - began))
        return Generated(message, cut=False)
    # Only a barge-in leads here. Tool calls of a message that was cut off are incomplete, so they do not count. Nor do
    # words that were not handed on yet, because the store was waited for, or white space came first.
    return Generated(AIMessage(said, id=_joined(chunks, agent, message_id).id, name=agent), cut=True)


def _input(model: Any, prompt: Sequence[AnyMessage]) -> Any:
    """The prompt in the form that LangChain's models use inside. From a list, they would convert each message."""
    messages = list(prompt)
    if isinstance(getattr(model, "bound", model), BaseChatModel):
        return ChatPromptValue.model_construct(messages=messages)
    return messages


def usage_of(agent: str, message: AIMessage, model: Any, *, ttft: float, duration: float) -> events.Usage:
    """The tokens of one answer, as its provider counted them, and its times, in seconds."""
    counted = message.usage_metadata
    assert counted is not None
    read, written = counted.get("input_token_details", {}), counted.get("output_token_details", {})
    return events.Usage(
        agent,
        str(message.response_metadata.get("model_name") or _model_name(model)),
        counted["input_tokens"],
        counted["output_tokens"],
        cached_tokens=read.get("cache_read") or 0,
        cache_creation_tokens=read.get("cache_creation") or 0,
        reasoning_tokens=written.get("reasoning") or 0,
        ttft=ttft,
        duration=duration,
    )


def _answer(chunks: list[AIMessageChunk], agent: str, message_id: str | None) -> AIMessage:
    """The whole message. Raises LangChain's `ModelRefusalError` when the provider has refused to answer."""
    message = _joined(chunks, agent, message_id)
    if (refused := refusal_of(message)) is not None:
        raise refused
    return message


def _joined(chunks: list[AIMessageChunk], agent: str, message_id: str | None) -> AIMessage:
    if not chunks:
        return AIMessage("", id=message_id or f"run-{uuid.uuid4()}", name=agent)
    whole = chunks[0] if len(chunks) == 1 else chunks[0] + chunks[1:]
    message = _without_guesses(cast(AIMessage, message_chunk_to_message(whole)), whole)
    message = with_refusal_as_words(message)
    return message.model_copy(update={"id": message_id or message.id or f"run-{uuid.uuid4()}", "name": agent})


def _without_guesses(message: AIMessage, whole: AIMessage) -> AIMessage:
    """Undo LangChain's completion of arguments that broke off: `{"amount": 10` may be part of 100."""
    if not isinstance(whole, AIMessageChunk):
        return message  # from a model that does not stream: LangChain passes on its whole message
    if all(_is_whole(chunk["args"]) for chunk in whole.tool_call_chunks):
        return message
    calls: list[ToolCall] = []
    broken: list[InvalidToolCall] = []
    for chunk in whole.tool_call_chunks:
        arguments = json.loads(chunk["args"] or "{}", strict=False) if _is_whole(chunk["args"]) else None
        if isinstance(arguments, dict):
            calls.append(tool_call(name=chunk["name"] or "", args=arguments, id=chunk["id"]))
        else:
            broken.append(invalid_tool_call(name=chunk["name"], args=chunk["args"], id=chunk["id"], error="not JSON"))
    return message.model_copy(update={"tool_calls": calls, "invalid_tool_calls": broken})


def _is_whole(arguments: str | None) -> bool:
    try:
        json.loads(arguments or "{}", strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _model_name(model: Any) -> str:
    bound = getattr(model, "bound", model)
    return str(getattr(bound, "model_name", None) or getattr(bound, "model", None) or type(bound).__name__)


def normalize_tool_calls(message: AIMessage, used: Set[str], known: Set[str] = frozenset()) -> AIMessage:
    """Give each tool call an id of its own and a legal name, and turn those with broken arguments into tool calls.

    Args:
        message: the message.
        used: the ids of earlier tool calls.
        known: the names of the agent's tools. A malformed name never becomes one of them.

    Providers expect a result for a tool call with broken arguments, like for any other. A tool runs at most once per
    tool call id, so a tool call whose id was used before gets a new one.
    """
    names = {c["name"]: legal_name(c["name"], known) for c in (*message.tool_calls, *message.invalid_tool_calls)}
    if any(old != new for old, new in names.items()):
        message = with_names(message, names)
    broken: dict[str, str] = {}
    calls: list[ToolCall] = []
    taken = set(used)
    renamed: list[tuple[str | None, str]] = []
    for call in (*message.tool_calls, *message.invalid_tool_calls):
        call_id = _unused(call["id"], taken)
        renamed.append((call["id"], call_id))
        arguments = call["args"]
        if not isinstance(arguments, dict):
            broken[call_id] = arguments or ""
            arguments = {}
        elif depth_of(arguments, MAX_DEPTH) > MAX_DEPTH:
            broken[call_id] = TOO_DEEP
            arguments = {}
        calls.append(tool_call(name=str(call["name"]), args=arguments, id=call_id))
    if not calls:
        return message
    extra = {k: v for k, v in message.additional_kwargs.items() if k != "tool_calls"}
    content = message.content
    if any(old != new for old, new in renamed):
        extra = {k: _renamed_keys(v, renamed) for k, v in extra.items()}
        content = _renamed_blocks(content, renamed)
    if broken:
        extra[INVALID] = broken
    return message.model_copy(
        update={"content": content, "tool_calls": calls, "invalid_tool_calls": [], "additional_kwargs": extra}
    )


def within_limit(message: AIMessage, most: int) -> AIMessage:
    """The message with at most so many of its tool calls, and a note of how many were dropped (`DROPPED`)."""
    if len(message.tool_calls) <= most:
        return message
    kept = keep_calls(message, [call["id"] for call in message.tool_calls[:most] if call["id"]])
    dropped = len(message.tool_calls) - most
    return kept.model_copy(update={"additional_kwargs": {**kept.additional_kwargs, DROPPED: dropped}})


def depth_of(value: Any, enough: int) -> int:
    """How deep this is nested; it is not looked at deeper than `enough`."""
    depth, level = 0, [value]
    while level and depth <= enough:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return depth


def without_calls(message: AIMessage) -> AIMessage:
    """The words of a message, without its tool calls and the provider's own data about them."""
    normalized = normalize_tool_calls(message, frozenset())
    return keep_calls(normalized, ()) if normalized.tool_calls else message


def _unused(call_id: str | None, taken: set[str]) -> str:
    if not call_id or call_id in taken:
        call_id = f"{call_id or 'call'}-{uuid.uuid4().hex[:8]}"
    taken.add(call_id)
    return call_id


def _renamed_keys(value: Any, renamed: Sequence[tuple[str | None, str]]) -> Any:
    """A provider's data by tool call id, such as Gemini's thought signatures, with the new ids."""
    if not isinstance(value, dict):
        return value
    names = {old: new for old, new in renamed if old is not None}
    return {names.get(key, key): item for key, item in value.items()}


def _renamed_blocks(content: Any, renamed: Sequence[tuple[str | None, str]]) -> Any:
    """The provider's own blocks of its tool calls, with new ids. The first block of an id is its first tool call."""
    if not isinstance(content, list):
        return content
    waiting = list(renamed)
    blocks: list[Any] = []
    for block in content:
        for key in ("call_id", "id"):  # OpenAI's Responses API has both, and identifies the tool call by the former
            found = next((p for p in waiting if isinstance(block, dict) and key in block and p[0] == block[key]), None)
            if found is not None:
                waiting.remove(found)
                block = {**block, key: found[1]}
                break
        blocks.append(block)
    return blocks


def used_call_ids(messages: Sequence[AnyMessage]) -> set[str]:
    return {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
