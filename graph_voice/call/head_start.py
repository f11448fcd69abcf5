"""A run that begins before the caller has finished. It runs up to the agent's first step, and waits for the words.

Nobody waits between two turns. So LangGraph then reads the state, finds the node, and renders what the model is shown
of the past. When the caller has spoken, only their words are missing.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel

from graph_voice.call.live_state import LiveState
from graph_voice.call.state import CallState
from graph_voice.call.trace import is_traced
from graph_voice.graph.roles import Roles
from graph_voice.turn.turn import Turn

__all__ = ["HeadStart"]


class HeadStart:
    """The run of the caller's next turn. Owned by its conversation.

    It counts only if nothing it began from has changed since. Otherwise it is dropped: it has only read.

    Args:
        call: the call.
        live: what is remembered of it.
        new_turn: makes a turn without starting it.
        run: runs the graph of a turn.
    """

    def __init__(
        self,
        call: CallState[Any],
        live: LiveState,
        new_turn: Callable[[], Turn],
        run: Callable[[Turn], Any],
    ) -> None:
        self._call = call
        self._live = live
        self._new_turn = new_turn
        self._run = run
        self._turn: Turn | None = None
        self._task: asyncio.Task[None] | None = None
        self._began_from: tuple[Any, ...] = ()
        self._may = _only_library_nodes(call.graph, call.roles)

    def begin(self) -> None:
        """Begin the run, unless it has begun already. Returns at once."""
        call = self._call
        if self._is_good() or not self._may or call.interrupts:
            return
        if call.active_agent not in call.roles.agents:
            return
        self.drop()
        if is_traced(call.config):
            return  # a trace begins with the caller's words
        self._began_from = self._ground()
        self._turn = self._new_turn()
        self._turn.began_in = contextvars.copy_context()
        self._task = self._turn.start(self._run)

    def take(self) -> Turn | None:
        """The turn whose run has begun and waits for its words; None when there is none that counts."""
        if self._turn is None:
            return None
        if not self._is_good() or is_traced(self._call.config):
            self.drop()
            return None
        turn, self._turn, self._task = self._turn, None, None
        return turn

    def drop(self) -> None:
        """Cancel the run."""
        if self._task is not None:
            self._task.cancel()
        self._turn = self._task = None

    async def aclose(self) -> None:
        """Cancel the run, and wait until it has ended."""
        task = self._task
        self.drop()
        if task is not None:
            await asyncio.wait([task])

    def _is_good(self) -> bool:
        return (
            self._turn is not None
            and self._task is not None
            and not self._task.done()
            and self._began_from == self._ground()
        )

    def _ground(self) -> tuple[Any, ...]:
        """What the run begins from. Userdata may be changed in place, so it is compared by value."""
        c = self._call
        return (self._live.version, id(c.context), id(c.store), id(c.config), self._live.stored_userdata())


def _only_library_nodes(graph: Pregel[Any, Any, Any, Any], roles: Roles) -> bool:
    """Whether a run reaches an agent's step before any custom code, which would not wait for the words."""
    builder = getattr(graph, "builder", None)
    if not isinstance(builder, StateGraph) or graph.step_timeout is not None:
        return False
    ways = len(builder.branches[START]) + sum(start == START for start, _ in builder.edges)
    return ways == 1 and all(node.is_library for node in roles.nodes.values())
