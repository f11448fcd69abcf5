"""The filler of a batch of tool calls: one line, said when a slow tool keeps the caller waiting in silence."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from langchain_core.messages import AIMessage

from graph_voice.agents.run_context import new_id
from graph_voice.turn.nodes_side import NodesSide

__all__ = ["BatchFiller"]

logger = logging.getLogger("graph_voice")


class BatchFiller:
    """At most one filler for the tool calls of one assistant message. LiveKit's `RunContext.with_filler`.

    Args:
        turn: the turn in which it is said. None (outside a turn): nobody waits, and nothing is said.
        agent: who speaks.
        asking: the id of the assistant message whose tool calls run.
    """

    def __init__(self, turn: NodesSide | None, agent: str, asking: str | None) -> None:
        self.spoken: list[AIMessage] = []
        """The filler, if it was said."""
        self._turn = turn
        self._agent = agent
        self._asking = asking
        self._needed = True
        self._again = asyncio.Event()

    def stand_back(self) -> None:
        """Say no filler: a tool of the batch speaks for itself."""
        self._needed = False

    def start_again(self) -> None:
        """Count the silence from now on: the model is about to speak of a tool's update."""
        self._again.set()  # wakes who waits now, and nobody else
        self._again.clear()

    @asynccontextmanager
    async def while_running(self, line: Callable[[], str], after: float) -> AsyncIterator[None]:
        """Inside, a tool call runs. Its filler is said after this many seconds of silence.

        Args:
            line: returns the text, when it is about to be said; "" says nothing.
            after: seconds of silence.
        """
        if self._turn is None:
            yield
            return
        waiting = asyncio.create_task(self._wait(self._turn, line, after), name="graph_voice.filler")
        try:
            yield
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])

    async def _wait(self, turn: NodesSide, line: Callable[[], str], after: float) -> None:
        silent = False
        while not silent:
            while (speaker := turn.call.speaker) is not None:
                await speaker.wait_reported()
            silent = await self._counted(after) and turn.call.speaker is None
        if not self._needed or turn.interrupted or turn.closed:
            return
        try:
            text = line().strip()
        except Exception:
            logger.exception("agent %s: the filler of a tool failed", self._agent)
            return
        if text:
            self._needed = False
            message_id = new_id("filler")
            self.spoken.append(AIMessage(text, id=message_id, name=self._agent))
            turn.line(self._agent, message_id, text, step_id=self._asking)

    async def _counted(self, seconds: float) -> bool:
        """Wait so long. False: it starts again."""
        try:
            async with asyncio.timeout(seconds):
                return not await self._again.wait()
        except TimeoutError:
            return True
