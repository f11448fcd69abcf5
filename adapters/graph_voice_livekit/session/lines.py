"""Lines that the graph says beside a reply: those of running tools, and a handoff's announcement."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from livekit.agents import NOT_GIVEN, AgentSession, RunContext
from livekit.agents.voice import SpeechHandle

from graph_voice import Turn, events
from graph_voice_livekit.session.tables import Tables
from graph_voice_livekit.session.tool_call import Batch

__all__ = ["Lines"]

logger = logging.getLogger("graph_voice.livekit")


class Lines:
    """The lines of one turn. Each is a speech of its own in LiveKit.

    Args:
        turn: the turn.
        session: returns LiveKit's session.
        tables: of the call.
        watch: keeps a task of the turn.
        barge_in: called when the caller has interrupted a line.
    """

    def __init__(
        self,
        turn: Turn,
        session: Callable[[], AgentSession[Any]],
        tables: Tables,
        watch: Callable[[Coroutine[Any, Any, None]], None],
        barge_in: Callable[[], None],
    ) -> None:
        self._turn = turn
        self._session = session
        self._tables = tables
        self._watch = watch
        self._barge_in = barge_in
        self._growing: dict[str, _GrowingLine] = {}
        """Message id -> a line that a tool still generates."""
        self._contexts: list[RunContext[Any]] = []
        self._held = False

    def say(self, batch: Batch, event: events.Say | events.Text) -> None:
        """Speak a line of a running tool, or more of one that a model words (`ctx.generate_reply`)."""
        if isinstance(event, events.Say):
            self._speak(batch, event.message_id, event.text)
            return
        line = self._growing.get(event.message_id)
        if line is None:
            line = self._growing[event.message_id] = _GrowingLine()
            self._speak(batch, event.message_id, line)
            self._watch(self._end(event.message_id, line))
        line.push(event.text)

    async def _end(self, message_id: str, line: "_GrowingLine") -> None:
        await self._turn.wait_produced(message_id)
        line.end()
        self._growing.pop(message_id, None)

    def _speak(self, batch: Batch, message_id: str, text: "str | _GrowingLine") -> None:
        try:
            # A tool that disallows interruptions does so for its own words as well.
            handle = self._session().say(text, allow_interruptions=False if self._held else NOT_GIVEN)
        except RuntimeError as error:
            logger.warning("a line of the graph could not be spoken: %s", error)
            self._turn.heard(message_id, "")
            return
        self._tables.own_lines.add(handle)
        batch.lines.append(handle)

        def played(done: SpeechHandle) -> None:
            done.remove_done_callback(played)  # LiveKit keeps each handle for as long as the session lives
            self._tables.own_lines.discard(done)
            words = [i for i in done.chat_items if i.type == "message" and i.role == "assistant"]
            text = " ".join(t for i in words if (t := i.text_content))
            self._turn.heard(message_id, text, at=words[0].created_at if words else None)
            if done.interrupted:
                self._barge_in()

        handle.add_done_callback(played)

    # ---- tools that disallow interruptions

    def mirror_started(self, context: RunContext[Any]) -> None:
        """A tool call of this turn runs."""
        self._contexts.append(context)
        if self._held:  # it goes on behind a task, and its code was faster than LiveKit
            self._protect(context)

    def mirror_ended(self, context: RunContext[Any]) -> None:
        self._contexts.remove(context)

    @property
    def has_mirrors(self) -> bool:
        """Whether LiveKit runs a tool call of this turn."""
        return bool(self._contexts)

    def hold(self, held: bool) -> None:
        """Pass a graph tool's `ctx.disallow_interruptions()` on to the speech that made the tool call."""
        self._held = held
        for context in self._contexts:
            if held:
                self._protect(context)

    def _protect(self, context: RunContext[Any]) -> None:
        try:
            context.disallow_interruptions()
        except RuntimeError:
            logger.warning("%s can't disallow interruptions: it is interrupted", context.function_call.name)


class _GrowingLine:
    """A line that grows while it is spoken: the async iterable that LiveKit's `say` takes as text."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    def push(self, text: str) -> None:
        self._queue.put_nowait(text)

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (text := await self._queue.get()) is not None:
            yield text
