"""The trace of a turn: our own run at the root, the graph run below it."""

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.runnables import RunnableConfig

if TYPE_CHECKING:
    from graph_voice.conversation import Conversation
    from graph_voice.turn import Turn

__all__ = ["Trace"]

RECURSION_LIMIT = 100
"""Supersteps of one turn, unless the conversation's config says otherwise."""


class Trace:
    """The turn's own run: the root of its trace, open from the turn's start to its `close()`, the graph run below it.

    So what was heard, which is known only after the graph has ended, is still on the root.
    """

    def __init__(self, manager: Any, config: RunnableConfig) -> None:
        self._manager = manager
        self.config = config
        self._ended = False

    @classmethod
    async def begin(cls, turn: "Turn", conversation: "Conversation[Any]") -> "Trace":
        config: RunnableConfig = {"recursion_limit": RECURSION_LIMIT, **conversation.config}
        configurable = {**config.get("configurable", {}), "thread_id": conversation.thread_id}
        metadata = {**config.get("metadata", {}), "thread_id": conversation.thread_id, "turn_id": turn.id}
        callbacks = AsyncCallbackManager.configure(
            inheritable_callbacks=config.get("callbacks"),
            inheritable_tags=config.get("tags"),
            inheritable_metadata=metadata,
        )
        config = {**config, "configurable": configurable, "metadata": metadata}
        if not callbacks.handlers:
            return cls(None, config)
        text = turn.record.user.text if turn.record.user is not None else None
        manager = await callbacks.on_chain_start(
            {}, {"text": text, "instructions": turn.instructions}, name=config.get("run_name") or "turn"
        )
        return cls(manager, {**config, "callbacks": manager.get_child(), "run_name": "graph"})

    async def finish(self, turn: "Turn") -> None:
        if self._manager is None or self._ended:
            return
        self._ended = True
        heard = [w.heard for s in turn.record.steps() for w in (s.words, *s.lines) if w.heard]
        said = [w.produced for s in turn.record.steps() for w in (s.words, *s.lines) if w.produced]
        await self._manager.on_chain_end(
            {
                "heard": " ".join(heard),
                "generated": " ".join(said),
                "interrupted": turn.interrupted,
                "discarded": turn.discarded,
            }
        )
