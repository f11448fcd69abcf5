"""A handoff's own run in a trace: what its history policy got, and what the next agent is shown."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_async_callback_manager_for_config

from graph_voice.agents.handoff import Handoff
from graph_voice.history.context import view
from graph_voice.tracing.log import Amendment, NotingTracer

__all__ = ["HandoffSpan", "handoff_span"]


class HandoffSpan:
    """Records one handoff while its policy is applied."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.listens = False

    def carried(self, state: Mapping[str, Any], chat_ctx: Mapping[str, Any]) -> None:
        """The policy has made this `chat_ctx` from the state."""
        if self.listens:
            self.before = view(state)
            self.after = view({**state, "chat_ctx": chat_ctx})

    def items(self) -> dict[str, Any]:
        return {"items_before": len(self.before), "items_after": len(self.after)}

    def tokens(self) -> dict[str, Any]:
        """LangChain's estimate, about one token per four characters, which needs no tokenizer."""
        return {
            "tokens_before": count_tokens_approximately(self.before),
            "tokens_after": count_tokens_approximately(self.after),
        }


@asynccontextmanager
async def handoff_span(config: RunnableConfig, old: str, way: Handoff, call_id: str) -> AsyncIterator[HandoffSpan]:
    """A run named `handoff <target>`, from here to the end of the block.

    Args:
        config: the node's config.
        old: the agent that hands off.
        way: the handoff.
        call_id: the id of the tool call that asked for it.
    """
    span = HandoffSpan()
    callbacks = get_async_callback_manager_for_config(config)
    if not callbacks.handlers:
        yield span
        return
    span.listens = True
    inputs = {"from": old, "to": way.to, "history": way.history.to_dict(), "tool_call_id": call_id}
    run = await callbacks.on_chain_start({}, inputs, name=f"handoff {way.to}")
    try:
        yield span
    except BaseException as error:
        await run.on_chain_error(error)
        raise
    await run.on_chain_end(span.items())
    for handler in run.handlers:
        if isinstance(handler, NotingTracer):
            handler.log.handoffs[call_id] = run.run_id
            handler.log.amend(run.run_id, Amendment(span.tokens))
