"""The trace of a turn: our own run at the root, the graph run below it."""

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer

from graph_voice.content import plain_text

if TYPE_CHECKING:
    from graph_voice.conversation import Conversation
    from graph_voice.turn import Turn

__all__ = ["Trace", "is_traced"]

RECURSION_LIMIT = 100
"""Supersteps of one turn, unless the conversation's config says otherwise."""


PUNCTUAL = 0.3
"""Seconds by which the durable copy may be behind without that being said in the trace."""


def is_traced(config: RunnableConfig) -> bool:
    """Whether somebody listens to a run that begins here: callbacks, or a tracer that the environment asks for."""
    return bool(AsyncCallbackManager.configure(inheritable_callbacks=config.get("callbacks")).handlers)


class Trace:
    """The turn's own run: the root of its trace, open from the turn's start to its `close()`, the graph run below it.

    So what was heard, which is known only after the graph has ended, is still on the root.
    """

    def __init__(self, manager: Any, config: RunnableConfig) -> None:
        self._manager = manager
        self.config = config
        """For the graph run."""

    @classmethod
    async def begin(cls, turn: "Turn", conversation: "Conversation[Any]") -> "Trace":
        config: RunnableConfig = {"recursion_limit": RECURSION_LIMIT, **conversation.config}
        configurable = {**config.get("configurable", {}), "thread_id": conversation.thread_id}
        metadata = {**config.get("metadata", {}), "thread_id": conversation.thread_id, "turn_id": turn.id}
        if (behind := conversation.durable_lag) > PUNCTUAL:
            metadata["durable_lag_ms"] = round(behind * 1000)
        callbacks = AsyncCallbackManager.configure(
            inheritable_callbacks=config.get("callbacks"),
            inheritable_tags=config.get("tags"),
            inheritable_metadata=metadata,
        )
        config = {**config, "configurable": configurable, "metadata": metadata}
        if not callbacks.handlers:
            return cls(None, config)
        text = plain_text(turn.record.user) if turn.record.user is not None else None
        manager = await callbacks.on_chain_start(
            {}, {"text": text, "instructions": turn.instructions}, name=config.get("run_name") or "turn"
        )
        return cls(manager, {**config, "callbacks": manager.get_child(), "run_name": "graph"})

    async def finish(self, turn: "Turn") -> None:
        """Close the root. Call it once, when the turn is settled."""
        if self._manager is None:
            return
        said = [words for step in turn.record.steps() for words in (step.words, *step.lines)]
        tags = [name for name in ("interrupted", "discarded") if getattr(turn, name)]
        manager = self._manager
        manager.tags = [*manager.tags, *tags]  # handlers get the tags again with the end
        for handler in manager.handlers:
            if isinstance(handler, BaseTracer) and (run := handler.run_map.get(str(manager.run_id))) is not None:
                run.add_tags(tags)
        await manager.on_chain_end(
            {
                "text": plain_text(turn.record.user) if turn.record.user is not None else None,
                "heard": " ".join(words.heard for words in said if words.heard),
                "generated": " ".join(words.produced for words in said if words.produced),
                "interrupted": turn.interrupted,
                "discarded": turn.discarded,
            }
        )
