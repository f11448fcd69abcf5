"""LangChain messages as LiveKit chat items, and back.

A converted message keeps what the other side has no field for: LiveKit's times, metrics and item ids are in a message's
`additional_kwargs["livekit"]`, LangChain's name, metadata and content blocks in an item's `extra["langchain"]`. So a
message that is converted and converted back is the same, except for words that were edited in between.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from livekit.agents import llm

from graph_voice.agents.handoff import AgentHandoff
from graph_voice_livekit.convert.images import from_image, to_image

__all__ = ["from_chat_context", "said_by", "to_chat_context"]

LIVEKIT = "livekit"
LANGCHAIN = "langchain"
SUMMARY = "is_summary"
"""Marks a summary on both sides, so that neither side summarizes it as if it had been said."""
_ROLE = "__openai_role__"
"""Where LangChain's OpenAI model looks for a system message's role."""
_KEPT = ("name", "response_metadata", "usage_metadata")


# ---- LangChain -> LiveKit


def to_chat_context(messages: Iterable[BaseMessage], handoffs: Iterable[AgentHandoff] | None = None) -> llm.ChatContext:
    """The same conversation as LiveKit's `ChatContext`: same ids; a tool call and its result become items of their own,
    and so do handoffs, which LiveKit's judges read.

    A message that came from LiveKit keeps its time; any other is earlier than whatever the running call adds. LiveKit
    has no place for a tool result's `artifact`, and none for a tool call whose arguments are not JSON.

    Args:
        messages: LangChain's.
        handoffs: the state's. One that no tool has made is placed before the new agent's first words. Default: those of
            the tool results among the messages.
    """
    messages = list(messages)
    items: list[llm.ChatItem] = []
    names: dict[str, str] = {}
    at = 0.0
    changes = _placed(messages, handoffs)
    for number, message in enumerate([*messages, None]):
        for record in changes.get(number, ()):
            items.append(_handoff(record, at := at + 1e-6))
        if message is None:
            break
        theirs: dict[str, Any] = message.additional_kwargs.get(LIVEKIT) or {}
        at = theirs.get("created_at", at + 1e-6)  # LiveKit sorts by time
        if isinstance(message, ToolMessage):
            items.append(
                llm.FunctionCallOutput(
                    id=message.id or message.tool_call_id,
                    call_id=message.tool_call_id,
                    name=names.get(message.tool_call_id, message.name or ""),
                    output=message.text,
                    is_error=message.status == "error",
                    reply_required=theirs.get("reply_required", True),
                    created_at=at,
                )
            )
        elif isinstance(message, AIMessage):
            spoken = _spoken(message, "assistant", at, theirs)
            items += spoken
            for index, call in enumerate(message.tool_calls):
                items.append(_call(message, dict(call), at, theirs, silent=index == 0 and not spoken))
                names[call["id"] or ""] = call["name"]
        elif isinstance(message, HumanMessage):
            items += _spoken(message, "user", at, theirs)
        elif isinstance(message, SystemMessage):
            role = "developer" if message.additional_kwargs.get(_ROLE) == "developer" else "system"
            items += _spoken(message, cast(llm.ChatRole, role), at, theirs)
    return llm.ChatContext(items)


def _placed(messages: Sequence[BaseMessage], handoffs: Iterable[AgentHandoff] | None) -> dict[int, list[AgentHandoff]]:
    """Number of a message -> the handoffs that come before it."""
    results = {m.tool_call_id: number for number, m in enumerate(messages) if isinstance(m, ToolMessage)}
    if handoffs is None:
        made = (m.artifact for m in messages if isinstance(m, ToolMessage) and isinstance(m.artifact, dict))
        handoffs = [cast(AgentHandoff, record) for record in made if record.keys() >= AgentHandoff.__required_keys__]
    found: dict[int, list[AgentHandoff]] = {}
    place = 0
    for record in handoffs:
        result = results.get(record["tool_call_id"] or "")
        place = max(place, _next_words(messages, record["old_agent_id"], place) if result is None else result + 1)
        found.setdefault(place, []).append(record)
    return found


def _next_words(messages: Sequence[BaseMessage], old: str | None, start: int) -> int:
    """The first words that are not the old agent's any more. The new one may have said nothing."""
    words = (n for n, m in enumerate(messages) if n >= start and isinstance(m, AIMessage) and m.name not in (None, old))
    return next(words, len(messages))


def _handoff(record: AgentHandoff, at: float) -> llm.AgentHandoff:
    """LiveKit's item. A tool call that runs several tasks makes several handoffs, so the time is part of the id."""
    return llm.AgentHandoff(
        id=f"handoff-{record['tool_call_id'] or 'edge'}-{record['created_at']}",
        old_agent_id=record["old_agent_id"],
        new_agent_id=record["new_agent_id"],
        created_at=at,
    )


def _spoken(message: BaseMessage, role: llm.ChatRole, at: float, theirs: dict[str, Any]) -> list[llm.ChatItem]:
    content = _to_content(message.content, theirs)
    if role == "assistant" and not content and not theirs.get("item"):
        return []
    ours = _ours(message)
    if message.content != _from_content(content)[0]:
        ours["content"] = message.content
    made = llm.ChatMessage(
        role=role,
        content=content,
        interrupted=bool(message.additional_kwargs.get("interrupted")),
        transcript_confidence=theirs.get("transcript_confidence"),
        extra={
            **theirs.get("extra", {}),
            **({SUMMARY: True} if message.additional_kwargs.get(SUMMARY) else {}),
            **({LANGCHAIN: ours} if ours else {}),
        },
        metrics=cast(llm.MetricsReport, theirs.get("metrics") or {}),
        created_at=at,
    )
    return [made.model_copy(update={"id": message.id}) if message.id else made]


def _ours(message: BaseMessage) -> dict[str, Any]:
    """What LiveKit has no field for."""
    found = {name: value for name in _KEPT if (value := getattr(message, name, None))}
    kwargs = {k: v for k, v in message.additional_kwargs.items() if k not in (LIVEKIT, "interrupted", SUMMARY, _ROLE)}
    return {**found, "additional_kwargs": kwargs} if kwargs else found


def _call(
    message: AIMessage, call: dict[str, Any], at: float, theirs: dict[str, Any], *, silent: bool
) -> llm.FunctionCall:
    """`silent`: the message has no item of its own, so its first tool call keeps what belongs to it."""
    known = theirs.get("calls", {}).get(call["id"]) or {}
    arguments = known.get("arguments")
    if arguments is None or _arguments(arguments) != call["args"]:
        arguments = json.dumps(call["args"])
    return llm.FunctionCall(
        id=known.get("id") or f"{message.id}/{call['id']}",
        call_id=call["id"] or "",
        name=call["name"],
        arguments=arguments,
        extra={**known.get("extra", {}), **({LANGCHAIN: ours} if silent and (ours := _ours(message)) else {})},
        group_id=known.get("group_id"),
        created_at=known.get("created_at", at),
    )


def _to_content(content: Any, theirs: dict[str, Any]) -> list[llm.ChatContent]:
    blocks = [content] if isinstance(content, str) else content
    shown = [made for block in blocks if not isinstance(block, str) and (made := to_image(block)) is not None]
    known = theirs.get("images", ())
    # What else LiveKit knows of the images, in order; nothing if they are other images now.
    besides = iter(known if len(known) == len(shown) else [{}] * len(shown))
    found: list[llm.ChatContent] = []
    for block in blocks:
        if isinstance(block, str):
            if block:
                found.append(block)
        elif block.get("type") == "text":
            found.append(block["text"])
        elif (made := to_image(block)) is not None:
            found.append(llm.ImageContent(**{**next(besides), **made}))
    return found


# ---- LiveKit -> LangChain


def from_chat_context(context: llm.ChatContext) -> list[AnyMessage]:
    """The same conversation as LangChain messages: same ids; tool calls join the assistant message that made them.

    A video frame becomes a JPEG; audio becomes its transcript. LiveKit's handoff and configuration items become no
    messages: handoffs are in the state's `handoffs`, and instructions are never stored.
    """
    messages: list[AnyMessage] = []
    asking: dict[str, int] = {}
    for item in context.items:
        if item.type == "message":
            messages.append(_message(item))
            if item.role == "assistant":
                asking[item.id] = len(messages) - 1
        elif item.type == "function_call":
            group = item.group_id or item.id.split("/")[0]
            if group not in asking:
                asking[group] = len(messages)
                ours = dict(item.extra.get(LANGCHAIN) or {})
                kwargs = {**ours.pop("additional_kwargs", {}), LIVEKIT: {"created_at": item.created_at}}
                messages.append(AIMessage("", id=group, additional_kwargs=kwargs, **ours))
            at = asking[group]
            messages[at] = _with_call(cast(AIMessage, messages[at]), item)
        elif item.type == "function_call_output":
            theirs = {"created_at": item.created_at}
            if not item.reply_required:
                theirs["reply_required"] = False
            messages.append(
                ToolMessage(
                    item.output,
                    id=item.id,
                    tool_call_id=item.call_id,
                    name=item.name or None,
                    status="error" if item.is_error else "success",
                    additional_kwargs={LIVEKIT: theirs},
                )
            )
    return messages


def said_by(item: llm.ChatMessage) -> Any:
    """What a LiveKit message says, as the content of a LangChain message: a text, or blocks if it has more."""
    content, _ = _from_content(item.content)
    if isinstance(content, list) and all(block["type"] == "text" for block in content):
        return "\n".join(block["text"] for block in content)  # as LiveKit's `text_content`
    return content


def _message(item: llm.ChatMessage) -> AnyMessage:
    ours: dict[str, Any] = dict(item.extra.get(LANGCHAIN) or {})
    content, images = _from_content(item.content)
    stored = ours.pop("content", None)
    if stored is not None and _same_content(_to_content(stored, {}), item.content):
        content = stored
    theirs: dict[str, Any] = {
        "item": True,
        "created_at": item.created_at,
        "extra": {k: v for k, v in item.extra.items() if k not in (LANGCHAIN, SUMMARY)},
        "transcript_confidence": item.transcript_confidence,
        "metrics": dict(item.metrics),
        "images": images,
    }
    kwargs = {
        **ours.pop("additional_kwargs", {}),
        LIVEKIT: {k: v for k, v in theirs.items() if v not in (None, {}, [])},
    }
    if item.extra.get(SUMMARY):
        kwargs[SUMMARY] = True
    if item.interrupted:
        kwargs["interrupted"] = True
    if item.role == "developer":
        kwargs[_ROLE] = "developer"
    kinds: dict[str, type[BaseMessage]] = {"user": HumanMessage, "assistant": AIMessage}
    kind = kinds.get(item.role, SystemMessage)
    return cast(AnyMessage, kind(content=content, id=item.id, additional_kwargs=kwargs, **ours))


def _with_call(message: AIMessage, item: llm.FunctionCall) -> AIMessage:
    theirs = dict(message.additional_kwargs.get(LIVEKIT) or {})
    known = {"id": item.id, "arguments": item.arguments, "created_at": item.created_at}
    extra = {k: v for k, v in item.extra.items() if k != LANGCHAIN}
    known |= {k: v for k, v in (("extra", extra), ("group_id", item.group_id)) if v}
    theirs["calls"] = {**theirs.get("calls", {}), item.call_id: known}
    call = {"name": item.name, "args": _arguments(item.arguments), "id": item.call_id, "type": "tool_call"}
    return message.model_copy(
        update={
            "tool_calls": [*message.tool_calls, call],
            "additional_kwargs": {**message.additional_kwargs, LIVEKIT: theirs},
        }
    )


def _from_content(content: Sequence[Any]) -> tuple[Any, list[dict[str, Any]]]:
    """LangChain's content, and what else LiveKit knows of the images in it."""
    blocks: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for part in content:
        if isinstance(part, str):
            blocks.append({"type": "text", "text": part})
        elif isinstance(part, llm.ImageContent):
            blocks.append(block := from_image(part))
            if block["type"] != "text":
                images.append(part.model_dump(mode="json", exclude_none=True, exclude={"type", "image"}))
        elif isinstance(part, llm.AudioContent) and part.transcript:
            blocks.append({"type": "text", "text": part.transcript})
    if all(block["type"] == "text" for block in blocks) and len(blocks) <= 1:
        return (blocks[0]["text"] if blocks else ""), images
    return blocks, images


def _same_content(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return bool(_from_content(a)[0] == _from_content(b)[0])


def _arguments(text: str) -> dict[str, Any]:
    """A tool call's arguments; {} if they are not a JSON object: LiveKit keeps whatever the model wrote."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
