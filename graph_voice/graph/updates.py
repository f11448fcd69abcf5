"""What the tools of a batch tell of their progress (`ctx.update`), and the words of the agent's model about it."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage

from graph_voice.agents.run_context import new_id
from graph_voice.turn.nodes_side import NodesSide

__all__ = ["Updates"]

logger = logging.getLogger("graph_voice")

Speak = Callable[[Mapping[str, str], str], Awaitable[AIMessage | None]]
"""Ask the model for words about these updates (tool call id -> update), spoken under this message id."""


@dataclass(eq=False)
class _Request:
    """One request to the model for words about updates."""

    message_id: str
    about: dict[str, str]
    """Tool call id -> its update, of the tool calls that still run."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no more words of it come. They may still be played."""
    task: "asyncio.Task[None] | None" = None


class Updates:
    """At most one request at a time. What is told while one is asked for or played waits for its end, and of each tool
    call only the latest update counts. LiveKit's tool executor, within the turn.

    Args:
        turn: the turn in which the tools run. None (outside a turn): nobody speaks.
        agent: who speaks.
        speak: asks the model.
    """

    def __init__(self, turn: NodesSide | None, agent: str, speak: Speak) -> None:
        self.spoken: list[AIMessage] = []
        """The words that were said about updates."""
        self._turn = turn
        self._agent = agent
        self._speak = speak
        self._waiting: dict[str, str] = {}
        self._running = 0
        """How many tool calls run."""
        self._request: _Request | None = None
        # The requests are the node's, not part of the tool's run.
        self._context = contextvars.copy_context()

    def tell(self, call_id: str, message: str) -> None:
        """Let the model speak about this update of a running tool call, unless the caller has interrupted."""
        if self._turn is None:
            return
        self._waiting[call_id] = message
        if self._request is None:
            self._next(self._turn)

    def _next(self, turn: NodesSide) -> None:
        about, self._waiting, self._request = self._waiting, {}, None
        if not about or turn.interrupted:
            return
        self._request = request = _Request(new_id("update"), about)
        request.task = asyncio.create_task(
            self._words(request, turn), name="graph_voice.update", context=self._context.copy()
        )

        def over(_: "asyncio.Task[None]") -> None:
            request.over.set()  # it may not have begun
            self._next(turn)

        request.task.add_done_callback(over)

    async def _words(self, request: _Request, turn: NodesSide) -> None:
        said: AIMessage | None = None
        try:
            said = await self._speak(dict(request.about), request.message_id)
        except Exception:
            logger.exception("agent %s: the model failed to speak about the update of a tool", self._agent)
        finally:
            request.over.set()
        if said is not None:
            self.spoken.append(said)
            await turn.wait_heard(request.message_id)

    async def worded(self, call_id: str) -> None:
        """Wait until the words about what this tool call has told so far are complete: what it says itself follows."""
        while (request := self._request) is not None and request.task is not None:
            if call_id in request.about and not request.over.is_set():
                await request.over.wait()
            elif call_id in self._waiting:
                await asyncio.wait([request.task])
            else:
                return

    @asynccontextmanager
    async def of(self, call_id: str) -> AsyncIterator[None]:
        """Inside, this tool call runs. Behind it, nothing more is said about its updates: words that have begun are
        completed, a request without any is canceled."""
        self._running += 1
        try:
            yield
            await self._end(call_id)
        finally:
            self._running -= 1
            if not self._running and self._request is not None and self._request.task is not None:
                # All have ended, or are canceled: nothing waits any more for these words to be played.
                self._waiting = {}
                self._request.task.cancel()

    async def _end(self, call_id: str) -> None:
        if (task := self._dropped(call_id)) is not None:
            task.cancel()
            await asyncio.wait([task])
        elif (request := self._request) is not None and self._has_words(request):
            # What belongs to the tool call is said before its result is there.
            await request.over.wait()

    def _dropped(self, call_id: str) -> "asyncio.Task[None] | None":
        """Forget what this tool call has told. Returns the request that nobody needs any more, if there is one."""
        self._waiting.pop(call_id, None)
        request = self._request
        if request is None or request.about.pop(call_id, None) is None or request.about:
            return None
        return None if request.over.is_set() or self._has_words(request) else request.task

    def _has_words(self, request: _Request) -> bool:
        found = self._turn.record.spoken(request.message_id) if self._turn is not None else None
        return found is not None and bool(found[1].produced)
