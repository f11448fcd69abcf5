"""Ask a model until it answers: again after a transient error, then the fallback model. Never after its first word."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence, Set
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.types import RetryPolicy

from graph_voice.graph.generate import Generated, Progress, generate
from graph_voice.messages.thinking import shown_to
from graph_voice.models import SilentModelError, is_transient
from graph_voice.models.bindings import Bindings
from graph_voice.secrets.known import NOTHING, Known
from graph_voice.turn.nodes_side import NodesSide

__all__ = ["RETRY", "ask"]

logger = logging.getLogger("graph_voice")


RETRY = RetryPolicy(initial_interval=0.2, max_attempts=2, jitter=False, retry_on=is_transient)
"""A model that failed before its first word is asked once more after 0.2 seconds."""


async def ask(
    models: Sequence[BaseChatModel],
    prompt: Sequence[AnyMessage],
    config: RunnableConfig,
    *,
    agent: str,
    turn: NodesSide | None,
    bindings: Bindings,
    tools: Sequence[Any] = (),
    may_call: bool = True,
    must_call: str | None = None,
    withheld: Set[str] = frozenset(),
    message_id: str | None = None,
    retry: RetryPolicy = RETRY,
    first_token_timeout: float | None = None,
    known: Callable[[], Known] = lambda: NOTHING,
) -> Generated:
    """The answer of the first model that gives one.

    Args:
        models: the agent's model, then its fallback.
        prompt: what they get.
        config: the node's config.
        agent: who speaks.
        turn: where the words go; None outside a turn.
        bindings: the agent's bindings.
        tools: the tools that the models are given.
        may_call: whether the models may call them. If not, their tool calls don't count as an answer.
        must_call: "any", or the name of the tool that the models must call.
        withheld: names of tools that the models were not given; calls of these tools don't count either.
        message_id: the id of the message. Default: the one that LangChain gives the first chunk.
        retry: how often, and after which errors, each model is asked again.
        first_token_timeout: seconds until the first piece of an answer. None: no limit.
        known: returns what is known to be secret. Errors may repeat the prompt.

    Raises what the last model raised, or `SilentModelError`. An error after a model's first word is raised at once: a
    second attempt would repeat what was said.
    """
    failure: Exception | None = None
    for model in models:
        shown = shown_to(model, prompt)
        for attempt in range(1, max(retry.max_attempts, 1) + 1):
            if turn is not None and turn.interrupted:
                return Generated(AIMessage("", id=message_id, name=agent), cut=True)
            progress = Progress(begins_with_thoughts=bindings.begins_with_thoughts(model))
            try:
                bound = bindings.get(model, tools, may_call=may_call, must_call=must_call, prompt=shown)
                made = await generate(
                    bound,
                    shown,
                    config,
                    agent=agent,
                    turn=turn,
                    message_id=message_id,
                    first_token_timeout=first_token_timeout,
                    progress=progress,
                )
                bindings.note_thoughts(model, begins=progress.begins_with_thoughts)
                if made.cut or _is_answer(made.message, may_call, withheld):
                    return made
                raise SilentModelError(f'the model of agent "{agent}" answered with nothing')
            except GraphBubbleUp:
                raise
            except Exception as error:
                again = not progress.said and attempt < retry.max_attempts and _retries(retry, error)
                failure = known().error(error)
                if progress.said and failure is error:
                    raise
                if progress.said:
                    raise failure from failure.__cause__
            if not again:
                break
            logger.warning('the model of agent "%s" failed and is asked again: %r', agent, failure)
            await _pause(_interval(retry, attempt), turn)
        if model is not models[-1]:
            logger.warning('the model of agent "%s" failed; its fallback is asked: %r', agent, failure)
    assert failure is not None
    raise failure


def _is_answer(message: AIMessage, may_call: bool, withheld: Set[str]) -> bool:
    calls = (*message.tool_calls, *message.invalid_tool_calls)
    return bool(message.text.strip()) or (may_call and any(call["name"] not in withheld for call in calls))


def _retries(retry: RetryPolicy, error: Exception) -> bool:
    rule: Any = retry.retry_on
    if isinstance(rule, type) or not callable(rule):
        return isinstance(error, tuple(rule) if isinstance(rule, Sequence) else rule)
    return bool(rule(error))


def _interval(retry: RetryPolicy, attempt: int) -> float:
    """Seconds before the next attempt, as LangGraph computes them."""
    interval = min(retry.max_interval, retry.initial_interval * retry.backoff_factor ** (attempt - 1))
    return interval + (random.uniform(0, 1) if retry.jitter else 0)


async def _pause(seconds: float, turn: NodesSide | None) -> None:
    """Wait; an interruption ends the wait."""
    if turn is None:
        await asyncio.sleep(seconds)
        return
    with turn.cuttable():
        await asyncio.sleep(seconds)
