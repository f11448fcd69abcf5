"""A conversation in text: lines in, words out, and Ctrl-C as the caller's barge-in."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from graph_voice import events
from graph_voice.call.conversation import Conversation
from graph_voice.cli.chat_screen import LogLines, Screen
from graph_voice.drawing import to_ascii
from graph_voice.graph.build import definition_of
from graph_voice.turn.event_stream import TurnListener
from graph_voice.turn.turn import Turn
from graph_voice.userdata.channel import public_fields

__all__ = ["INTERRUPTED", "Chat"]

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class Chat:
    """Drives one conversation: each line is a turn. Its tool calls are allowed, and printed words count as heard.

    Args:
        conversation: the call.
        screen: where it is shown.
        timings: whether to show how long each turn took.
    """

    def __init__(self, conversation: Conversation[Any], screen: Screen, *, timings: bool = True) -> None:
        self._conversation = conversation
        self._screen = screen
        self._timings = timings
        self._task: asyncio.Task[Any] | None = None
        self._answer: _Answer | None = None
        self._stopped = False
        self._over = False
        self._commands: dict[str, tuple[str, Callable[[], None]]] = {
            "/state": ("the active agent, what is known about the caller, the handoffs", self._show_state),
            "/history": ("everything that was said and done", self._show_history),
            "/graph": ("the graph, with the active agent marked *", self._show_graph),
            "/help": ("this list", self._show_help),
            "/quit": ("end the conversation (so does Ctrl-D)", self._quit),
        }

    async def run(self, lines: AsyncIterator[str]) -> int:
        """Talk until the lines end, somebody quits, or an agent ends the call. Returns the exit code."""
        self._task = asyncio.current_task()
        logger, log = logging.getLogger("graph_voice"), LogLines(self._screen)
        logger.addHandler(log)
        try:
            try:
                await self._talk(lines)
            finally:
                await self._conversation.aclose(timeout=None)  # Ctrl-C ends the wait
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            return INTERRUPTED
        finally:
            logger.removeHandler(log)
            self._screen.close()
        return 0

    def interrupt(self) -> None:
        """Ctrl-C. Where somebody types, it interrupts an answer, or leaves an interrupted turn whose tools still run.
        Otherwise it ends the conversation."""
        if self._answer is not None and self._screen.prompts:
            self._answer.interrupt()
            return
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    # ---- turns

    async def _talk(self, lines: AsyncIterator[str]) -> None:
        first = definition_of(self._conversation.graph, self._conversation.active_agent)
        if first is not None and first.on_enter is not None:
            await self._run(self._conversation.enter())
        while not self._over:
            self._screen.prompt()
            line = await anext(lines, None)
            if line is None:
                return
            self._screen.typed(line.strip())
            await self._take(line.strip())

    async def _take(self, line: str) -> None:
        if line.startswith("/"):
            command = self._commands.get(line.split()[0])
            if command is None:
                self._screen.note(f"There is no command {line.split()[0]}; /help lists them.")
            else:
                command[1]()
        elif line:
            await self._run(self._conversation.turn(line))

    async def _run(self, turn: Turn) -> None:
        turn.commit()
        self._answer = _Answer(turn, self._screen)
        try:
            await self._answer.wait()
        finally:
            answer, self._answer = self._answer, None
            turn.close()
        if self._timings:
            self._screen.timing(answer.first_word, answer.duration, answer.tokens)
        if answer.ends_call:
            self._screen.note("The agent ended the call.")
            self._over = True

    # ---- commands

    def _show_state(self) -> None:
        conversation = self._conversation
        self._screen.plain(f"active agent: {conversation.active_agent}")
        known = public_fields(conversation.state.get("userdata"))
        self._screen.plain(f"userdata: {json.dumps(known, ensure_ascii=False)}")
        taken = [f"{h['old_agent_id']} -> {h['new_agent_id']}" for h in conversation.handoffs]
        self._screen.plain(f"handoffs: {', '.join(taken) or 'none'}")
        for interrupt in conversation.interrupts:
            asked = conversation.call.words_of_question(interrupt.value)
            self._screen.plain(f"waits for an answer: {asked}")

    def _show_history(self) -> None:
        self._screen.history(self._conversation.messages)

    def _show_graph(self) -> None:
        conversation = self._conversation
        self._screen.plain(to_ascii(conversation.graph, active=conversation.active_agent or None))

    def _show_help(self) -> None:
        for name, (purpose, _) in self._commands.items():
            self._screen.plain(f"{name:10}{purpose}")
        if self._screen.prompts:
            self._screen.plain("Ctrl-C    interrupt the answer; at the prompt, end")

    def _quit(self) -> None:
        self._over = True


class _Answer(TurnListener):
    """One turn as it is printed: printed words count as heard."""

    def __init__(self, turn: Turn, screen: Screen) -> None:
        self.turn = turn
        self.first_word: float | None = None
        """Seconds until the first word."""
        self.duration = 0.0
        """Seconds until the end of the turn."""
        self.ends_call = False
        """Whether the agent has ended the call."""
        self.tokens: tuple[int, int] | None = None
        """Input and output, if the model reports them."""
        self._screen = screen
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._printed: dict[str, str] = {}
        self._held = self._warned = False
        self._events: asyncio.Queue[events.Event] = asyncio.Queue()
        turn.listen(self)
        self._draining = asyncio.create_task(self._drain(), name="graph_voice.chat")

    async def wait(self) -> None:
        """Wait until the turn is over, or was left."""
        try:
            await asyncio.wait([self._draining])
        finally:
            self._draining.cancel()
        self.duration = self._clock() - self._began
        if not self._draining.cancelled():
            self._draining.result()

    def interrupt(self) -> None:
        if self.turn.interrupted or (self._held and self._warned):
            self._draining.cancel()
        elif self._held:
            self._warned = True
            self._screen.note("  (can't be interrupted now; press Ctrl-C again to do it anyway)")
        else:
            self.turn.interrupt()
            self._screen.interrupted()

    def holds(self, held: bool) -> None:
        self._held = held

    def happens(self, event: events.Event) -> None:
        self._events.put_nowait(event)

    async def _drain(self) -> None:
        while not isinstance(event := await self._events.get(), events.Ended):
            self._show(event)
        self.ends_call = event.ends_call

    def _show(self, event: events.Event) -> None:
        turn, screen = self.turn, self._screen
        match event:
            case events.Text(agent, message_id, text) | events.Say(agent, message_id, text):
                self._say(agent, message_id, text)
            case events.Interrupt():
                self._say(event.agent, event.message_id, event.text)
            case events.ToolCalls():
                screen.calls(event)
                for call in event.calls if not event.custom else ():
                    turn.allow(call.id)
            case events.ToolResult():
                screen.result(event)
            case events.HandedOff() if not turn.interrupted:
                screen.handed_off(event)
                turn.confirm_handoff(event.call_id)
            case events.Usage():
                before = self.tokens or (0, 0)
                self.tokens = (before[0] + event.input_tokens, before[1] + event.output_tokens)
            case events.Failed():
                screen.failed(event)

    def _say(self, agent: str, message_id: str, text: str) -> None:
        if self.turn.interrupted:
            return  # it came too late to be heard
        if self.first_word is None:
            self.first_word = self._clock() - self._began
        self._screen.words(agent, message_id, text)
        self._printed[message_id] = self._printed.get(message_id, "") + text
        self.turn.heard(message_id, self._printed[message_id])
