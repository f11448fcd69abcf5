"""Summaries of a conversation: what is summarized, by whom, and what happens when there is no summary in time.

`graph_voice.call.prefetched_summaries` prepares them in the background; here they are used, or made when none is
prepared.
"""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from xml.sax.saxutils import escape, quoteattr

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda

from graph_voice.errors import HistoryError
from graph_voice.history.operation import run_pure
from graph_voice.history.operations import DEADLINE, exclude_instructions, model_of, truncate
from graph_voice.history.pure_operations import MADE, is_made
from graph_voice.messages.content import plain_text
from graph_voice.messages.pairs import GOTO, pair_safe, transfer_answer
from graph_voice.models import is_loaded, model_from

__all__ = [
    "FALLBACK",
    "PREFIX",
    "REQUEST",
    "Prepared",
    "PreparedSummaries",
    "TranscriptLine",
    "ask",
    "head_lines",
    "key_of",
    "prepared_summaries",
    "summarized",
    "summarized_or_kept",
]

logger = logging.getLogger("graph_voice")

PREFIX = "Prior conversation summary: "
FALLBACK = exclude_instructions() | truncate(max_items=6)
"""Used instead of a summary that is not ready in time, or fails."""
PATIENCE = 60.0
"""Seconds for a summary that nobody waits for."""
_NO_STREAM = "nostream"
"""LangGraph's tag for models whose words are not streamed."""

REQUEST = "Conversation to summarize:"
"""The beginning of the user message that asks for a summary."""

_NO_MODEL = (
    "summarize: there is no model to ask. Name one, history.summarize(model=...), or give "
    "history.apply(..., model=...)."
)

INSTRUCTIONS = """\
Compress older conversation history into a short, faithful summary for the agent who takes over.

The conversation is formatted as XML: <user> is what the caller said, <assistant> what an agent said, <result> what an \
action returned, <summary> an earlier summary of what went before.

Guidelines:
- Fold an earlier summary in: nothing of it may get lost.
- Distill the information learned from results. Do not mention that a tool or an action was called.
- Focus on: user goals, constraints, decisions, key facts, preferences, entities, and any pending or unresolved tasks.
- Omit greetings, filler and chit-chat.
- Be concise."""


@dataclass(frozen=True)
class TranscriptLine:
    """One message as the model that summarizes reads it."""

    index: int
    """Its place in the context."""
    text: str
    is_turn: bool
    is_speech: bool


def _lines(messages: Sequence[AnyMessage]) -> list[TranscriptLine]:
    """User and assistant turns, what tools returned, and an earlier summary; nothing else is summarized."""
    lines = []
    for index, message in enumerate(messages):
        text = plain_text(message).strip()  # only text is summarized
        if not text:
            continue
        if is_made(message):
            if _is_summary(message):
                lines.append(
                    TranscriptLine(index, f"<summary>{escape(text.removeprefix(PREFIX))}</summary>", False, False)
                )
        elif isinstance(message, HumanMessage):
            lines.append(TranscriptLine(index, f"<user>{escape(text)}</user>", True, True))
        elif isinstance(message, AIMessage):
            lines.append(TranscriptLine(index, f"<assistant>{escape(text)}</assistant>", False, True))
        elif isinstance(message, ToolMessage) and not _says_nothing(message):
            name = quoteattr(message.name or "action")
            lines.append(TranscriptLine(index, f"<result of={name}>{escape(text)}</result>", False, False))
    return lines


def _says_nothing(message: ToolMessage) -> bool:
    """A result that tells nothing: of a tool call that still runs, or a transfer's "Transferring to billing."."""
    target = message.additional_kwargs.get(GOTO)
    return bool(message.additional_kwargs.get("placeholder")) or (
        target is not None and message.text == transfer_answer(target)
    )


def _is_summary(message: BaseMessage) -> bool:
    return bool(message.additional_kwargs.get("is_summary"))


OWN_MODEL = "graph_voice_summary"
"""Marks, in a run's metadata, a summary that the agent's own model makes: scripted models tell it from a reply."""


async def summarized(
    messages: Sequence[AnyMessage], step: dict[str, Any], *, model: BaseChatModel | None
) -> list[AnyMessage]:
    """The result of a `summarize` step.

    Args:
        messages: the context.
        step: the operation's arguments.
        model: the one to ask when the step names none.

    Raises `HistoryError` when there is no model. When the model fails or is late, `FALLBACK` is used instead.
    """
    if model is None and step.get("model") is None:
        raise HistoryError(_NO_MODEL)
    lines = head_lines(messages, step)
    if not any(line.is_speech for line in lines):
        return list(messages) if not _cut(messages, step) else _without_head(messages, _cut(messages, step))

    async def run(_: Any) -> dict[str, Any]:
        return await _obtain(lines, step, model)

    # A run of its own, so that the trace says where the summary came from, or why there is none.
    outcome = await RunnableLambda(run).with_config(run_name="history.summarize").ainvoke({"turns": len(lines)})
    if outcome["summary"] is None:
        result = list(messages)
        for fallback in FALLBACK.steps:
            result = pair_safe(run_pure(result, fallback))
        return result
    upto = _cut(messages, step) if outcome["covers"] == len(lines) else 0
    return _replaced(messages, lines[: outcome["covers"]], outcome["summary"], upto)


async def summarized_or_kept(
    messages: Sequence[AnyMessage],
    step: dict[str, Any],
    *,
    model: BaseChatModel | None,
    config: RunnableConfig | None = None,
) -> list[AnyMessage]:
    """As `summarized`, for a context that nobody waits for: no deadline, and without a summary it stays as it is.

    The next turn tries again.
    """
    lines = head_lines(messages, step)
    if not any(line.is_speech for line in lines):
        return list(messages)
    try:
        async with asyncio.timeout(PATIENCE):
            text = await ask(lines, step, model, config)
    except Exception as error:
        logger.warning("history.summarize: the context stays as it is: %r", error)
        return list(messages)
    return _replaced(messages, lines, text, _cut(messages, step))


def _cut(messages: Sequence[AnyMessage], step: dict[str, Any]) -> int:
    """How many messages are older than the turns to keep."""
    keep = step.get("keep_last_turns", 0)
    starts = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage)]
    if keep == 0:
        return len(messages)
    return starts[-keep] if len(starts) > keep else 0


def head_lines(messages: Sequence[AnyMessage], step: dict[str, Any]) -> list[TranscriptLine]:
    """The part of a context that a `summarize` step summarizes."""
    return _lines(messages[: _cut(messages, step)])


def _without_head(messages: Sequence[AnyMessage], cut: int) -> list[AnyMessage]:
    """Without the older turns. System messages are not turns, so they stay, as in LiveKit."""
    return [*(m for m in messages[:cut] if isinstance(m, SystemMessage)), *messages[cut:]]


def _replaced(
    messages: Sequence[AnyMessage], covered: Sequence[TranscriptLine], text: str, upto: int
) -> list[AnyMessage]:
    cut = covered[-1].index + 1
    if not any(m.additional_kwargs.get("placeholder") for m in messages[cut:upto]):
        cut = max(cut, upto)  # the rest of the older turns says nothing: a transfer, and no tool call that still runs
    name = uuid.uuid5(uuid.NAMESPACE_OID, "".join(line.text for line in covered) + text)
    summary = SystemMessage(
        PREFIX + text, id=f"summary-{name}", additional_kwargs={"is_summary": True, MADE: "summary"}
    )
    kept = [m for m in messages[:cut] if isinstance(m, SystemMessage) and not _is_summary(m)]
    return [*kept, summary, *(m for m in messages[cut:] if not _is_summary(m))]


async def _obtain(lines: Sequence[TranscriptLine], step: dict[str, Any], model: BaseChatModel | None) -> dict[str, Any]:
    """A summary of these lines, or of their beginning: prepared, or made now within the deadline."""
    prepared, key = prepared_summaries.get(), key_of(step)
    if prepared is not None and (ready := prepared.ready(key, lines)) is not None:
        return {"summary": ready.task.result(), "covers": len(ready.covered), "source": "prepared"}
    deadline = step.get("deadline", DEADLINE)
    try:
        async with asyncio.timeout(deadline):
            if prepared is not None and (coming := prepared.coming(key, lines)) is not None:
                await asyncio.wait([coming.task])
                if coming.succeeded:
                    return {"summary": coming.task.result(), "covers": len(coming.covered), "source": "awaited"}
            text = await ask(lines, step, model)
            return {"summary": text, "covers": len(lines), "source": "made"}
    except TimeoutError:
        reason = f"there was no summary within {deadline:g} seconds"
    except Exception as error:  # a summary must not make a handoff fail: the new agent gets the last messages instead
        reason = f"the summary failed: {error!r}"
    logger.warning("history.summarize: %s; used instead: %s", reason, FALLBACK)
    return {"summary": None, "covers": 0, "source": "fallback", "reason": reason, "fallback": str(FALLBACK)}


async def ask(
    lines: Sequence[TranscriptLine],
    step: dict[str, Any],
    model: BaseChatModel | None,
    config: RunnableConfig | None = None,
) -> str:
    """Ask the model. Raises what it raises, and `HistoryError` when it says nothing."""
    named = step.get("model")
    asked = model if named is None else await _instance(model_of(named))
    if asked is None:
        raise HistoryError(_NO_MODEL)
    text = "\n".join(line.text for line in lines)
    prompt = [
        SystemMessage(step.get("prompt") or INSTRUCTIONS),
        HumanMessage(f"{REQUEST}\n\n{text}"),
    ]
    config = config or {}
    tags = [*(config.get("tags") or ()), _NO_STREAM]
    about = {**(config.get("metadata") or {}), **({OWN_MODEL: True} if named is None else {})}
    reply = await asked.ainvoke(prompt, {**config, "run_name": "summarize", "tags": tags, "metadata": about})
    if not (summary := reply.text.strip()):
        raise HistoryError("summarize: the model answered with nothing.")
    return summary


async def _instance(llm: BaseChatModel | str) -> BaseChatModel | None:
    """The first time, a provider's package is imported: not while a call waits for the event loop."""
    return model_from(llm) if is_loaded(llm) else await asyncio.to_thread(model_from, llm)


def key_of(step: dict[str, Any]) -> tuple[Any, Any]:
    """What a summary depends on besides what it covers."""
    return step.get("model"), step.get("prompt")


@dataclass(frozen=True)
class Prepared:
    """A summary that is ready, or on its way."""

    covered: tuple[str, ...]
    """The text of each line that it covers."""
    turns: int
    """How many of them are user turns."""
    task: "asyncio.Task[str]"

    @property
    def succeeded(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    @property
    def alive(self) -> bool:
        return not self.task.done() or self.succeeded

    def fits(self, lines: Sequence[TranscriptLine]) -> bool:
        """Whether these lines begin with exactly what it covers."""
        return len(self.covered) <= len(lines) and all(
            text == line.text for text, line in zip(self.covered, lines, strict=False)
        )


class PreparedSummaries(Protocol):
    """The summaries that a call prepared before they were needed."""

    def ready(self, key: tuple[Any, Any], lines: Sequence[TranscriptLine]) -> Prepared | None:
        """The newest summary of the beginning of these lines that can be used now."""

    def coming(self, key: tuple[Any, Any], lines: Sequence[TranscriptLine]) -> Prepared | None:
        """The newest one that is still being made."""


prepared_summaries: ContextVar[PreparedSummaries | None] = ContextVar("graph_voice_prepared_summaries", default=None)
"""Those of the call that this graph run belongs to. None outside a call's turns: a summary is made when needed."""
