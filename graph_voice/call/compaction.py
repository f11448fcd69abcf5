"""Context compaction: keep the active agent's context within its declared limits, between turns.

`Agent(context=history.when(max_items=60, then=...))` says how a context that has grown too long is shortened. This
happens in the background, so no turn waits for a summary. Turns that start meanwhile see the long context.
"""

import asyncio
import logging
from typing import Any

from graph_voice.call.prefetched_summaries import background
from graph_voice.call.state import CallState
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.build import runtime_of
from graph_voice.history.context import shortened
from graph_voice.history.operation import Operation

__all__ = ["Compaction"]

logger = logging.getLogger("graph_voice")


class Compaction:
    """Shortens the context of one call. Owned by its conversation, which reports when a turn is over."""

    def __init__(self, call: CallState[Any]) -> None:
        self._call = call
        self._task: asyncio.Task[None] | None = None
        self._agent = ""

    def begin(self) -> None:
        """A turn is over: shorten the active agent's context if its policy says so. Returns at once."""
        call = self._call
        agent = call.active_agent
        if self._task is not None and not self._task.done():
            if agent == self._agent:
                return  # its result counts as long as the conversation only grows
            self._task.cancel()
        runtime = runtime_of(call.graph, agent)
        if runtime is None or runtime.agent.context is None:
            return
        self._agent = agent
        self._task = asyncio.create_task(self._shorten(runtime, runtime.agent.context), name="graph_voice.compaction")
        self._task.add_done_callback(_log_failure)

    async def _shorten(self, runtime: AgentRuntime, policy: Operation) -> None:
        call, name = self._call, runtime.agent.name
        state = dict(call.state)
        config = background(call)
        model = runtime.model(config) if policy.asks_model else None
        update = await shortened(state, policy, agent=name, model=model, config=config)
        # Meanwhile the active agent may have changed, an operation may have been resolved, or words corrected. Then the
        # result fits no more, and the end of the next turn is the next chance.
        now = call.state
        known = state["messages"]
        if (
            update is not None
            and call.active_agent == name
            and now.get("chat_ctx") == state.get("chat_ctx")
            and now["messages"][: len(known)] == known
        ):
            call.update_chat_ctx(update)

    async def aclose(self) -> None:
        """The call is over: cancel what is in progress."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the context could not be shortened", exc_info=error)
