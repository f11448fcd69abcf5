"""The core's own front end: a modeled voice and a caller who takes time to speak, driving `Turn` directly."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

from langchain_core.messages import AIMessage

from graph_voice import events
from graph_voice.agents.tool_errors import ToolError
from graph_voice.call.conversation import Conversation
from graph_voice.call.durable import Resumed, resume_instructions
from graph_voice.errors import TurnError
from graph_voice.graph.build import definition_of
from graph_voice.testing.front_end import CallPlan, FrontEnd, Plan, counting
from graph_voice.testing.voice import Mark, ModelledVoice, SpokenMessage
from graph_voice.turn.event_stream import TurnListener
from graph_voice.turn.turn import Turn

__all__ = ["CoreFrontEnd"]

NO_HANDOFF = "the agent handoff was interrupted and did not happen"
_NOISE = 1.0
"""Seconds for which a noise pauses the voice."""


class CoreFrontEnd(FrontEnd):
    """Plays a call on `Conversation` and `Turn`, as a voice pipeline would, without one.

    The agent speaks four words a second, starting 0.2 seconds after its text; the caller speaks three and a half, and
    is taken to have finished after half a second of silence. Tools run while a line is played, a barge-in stops the
    voice at once, and a handoff takes place when the old agent's words have been played.
    """

    PER_WORD = 0.25
    FIRST_AUDIO = 0.2
    CALLERS_WORD = 0.28
    END_OF_TURN = 0.5

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self._conversation: Conversation[Any] = Conversation(plan.graph, **plan.options)
        self._current_agent = ""
        self._heard: list[str] = []
        self._voice = ModelledVoice(
            per_word=self.PER_WORD, first_audio=self.FIRST_AUDIO, on_word=self._word, on_heard=self._line_over
        )
        self._lines: dict[str, SpokenMessage] = {}
        self._complete: set[str] = set()
        """Ids of messages that have no more words, of which some may still be on their way here."""
        self._busy: set[asyncio.Task[Any]] = set()
        """Turns that the caller waits for."""
        self._behind: set[asyncio.Task[Any]] = set()
        """Turns that were interrupted, whose tools may still run."""
        self._turns: dict[Turn, asyncio.Task[Any]] = {}
        self._held: set[Turn] = set()
        self._plans: list[Plan] = []
        self._late = False
        self._failures: list[BaseException] = []
        """Of this front end itself: a turn of the graph never raises."""
        self._moved = asyncio.Event()
        """A turn is no longer one that the caller waits for."""

    @property
    def conversation(self) -> Conversation[Any]:
        return self._conversation

    @property
    def current_agent(self) -> str:
        return self._current_agent

    @property
    def heard(self) -> list[str]:
        return list(self._heard)

    # ---- the call

    async def open(self, watch: Callable[[Conversation[Any]], None]) -> None:
        conversation = self._conversation
        watch(conversation)
        conversation.call.on_late_result = self._late_result
        conversation.call.silence.begin(self._idle)
        conversation.call.modality = "audio"
        await conversation.open()
        self._current_agent = conversation.active_agent
        resumed = conversation.resumed
        if resumed is not None and conversation.messages:
            await self._resume(resumed)
        elif not conversation.messages:
            agent = definition_of(conversation.graph, self._current_agent)
            if agent is not None and agent.on_enter is not None:
                self._drive(conversation.enter())
        await self._rest()

    async def _resume(self, resumed: Resumed) -> None:
        """As `GraphAgent` does: the caller is told, and a question that is still open is asked again."""
        asks = bool(self._conversation.interrupts)
        instructions = resume_instructions(self.plan.on_resume, resumed, asks=asks)
        if instructions is None:
            return
        turn = self._conversation.resume(instructions)
        self._drive(turn)
        await self._rest()
        if asks and not turn.interrupted:
            for question in self._conversation.interrupts[:1]:
                asked = events.Interrupt(question.id, self._current_agent, question.value)
                await self.program_says(asked.text)

    async def says(self, text: str, plans: list[Plan]) -> None:
        await self._play(plans, self._caller_says(text))

    async def types(self, text: str) -> None:
        self.plan.said(text, "types")
        await self._begin_to_speak()  # LiveKit takes it for an interruption too
        self._answer(text, time.time(), "text")
        await self._rest()

    async def speculates(self, guess: str, text: str, plans: list[Plan]) -> None:
        await self._play(plans, self._caller_is_guessed(guess, text))

    async def silence(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._rest()

    async def program_says(self, text: str) -> None:
        await self._rest()
        at = time.time()
        line = SpokenMessage("program", None, text, over=True)
        self._conversation.call.silence.calm(False)
        self._voice.put(line)
        await line.done.wait()
        self._conversation.call.silence.calm(True)
        if words := line.text[: line.heard].strip():
            self._conversation.add(AIMessage(words, name=self._current_agent), at=at)
        await self._rest()

    async def update_agent(self, name: str) -> None:
        await self._rest()
        await self._conversation.update_agent(name)
        self._current_agent = name
        self._drive(self._conversation.enter())
        await self._rest()

    async def generate_reply(self, instructions: str) -> None:
        await self._rest()
        self._drive(self._conversation.turn(instructions=instructions))
        await self._rest()

    async def crash(self) -> None:
        self._voice.cut = lambda: None  # type: ignore[method-assign]  # what was played is no longer reported
        if (player := self._voice._task) is not None:
            player.cancel()
        current = asyncio.current_task()
        tasks = [t for t in (*self._busy, *self._behind) if t is not current]
        for task in tasks:
            task.cancel()
        await self._conversation.call.abandon()
        if tasks:
            await asyncio.wait(tasks)

    async def close(self, reason: str) -> None:
        self._voice.cut()
        await self._conversation.aclose(reason)
        for task in list(self._busy | self._behind):
            task.cancel()
        if waiting := self._busy | self._behind:
            await asyncio.wait(waiting)

    # ---- the caller

    async def _play(self, plans: list[Plan], caller: Coroutine[Any, Any, None]) -> None:
        self._plans = plans
        watchers = [asyncio.create_task(self._carry_out(plan), name="graph_voice.testing.plan") for plan in plans]
        try:
            await caller
            await self._rest()
            while any(plan.moment.came.is_set() and not plan.done for plan in plans):
                await asyncio.wait(watchers, return_when=asyncio.FIRST_COMPLETED)
                watchers = [watcher for watcher in watchers if not watcher.done()]
                await self._rest()
        finally:
            for watcher in watchers:
                watcher.cancel()
            self._plans = []

    async def _carry_out(self, plan: Plan) -> None:
        await plan.moment.came.wait()
        if plan.says is None:
            self._voice.pause()
            await asyncio.sleep(_NOISE)
            self._voice.go_on()
        else:
            await self._caller_says(plan.says, how="cuts in")
        plan.done = True

    async def _caller_says(self, text: str, how: str = "says") -> None:
        self.plan.said(text, how)
        await self._begin_to_speak()
        await asyncio.sleep(self.CALLERS_WORD * len(text.split()) + self.END_OF_TURN)
        at = time.time()
        while self._held:  # a tool that can't be interrupted finishes first
            await asyncio.wait([self._turns[turn] for turn in self._held])
        self._answer(text, at, "audio")

    def _answer(self, text: str, at: float, modality: events.Modality) -> None:
        self._conversation.call.silence.calm(True)
        if not self._conversation.closed:
            turn = self._conversation.turn(text, modality=modality)
            turn.commit(at=at)
            self._drive(turn)

    async def _caller_is_guessed(self, guess: str, text: str) -> None:
        await self._begin_to_speak()
        await asyncio.sleep(self.CALLERS_WORD * len(guess.split()))
        self.plan.said(guess, "guess")
        turn = self._conversation.turn(guess, modality="audio")
        left = max(0, len(text.split()) - len(guess.split()))
        await asyncio.sleep(self.CALLERS_WORD * left + self.END_OF_TURN)
        self.plan.said(text, "says")
        if text != guess:
            turn.discard()
            turn = self._conversation.turn(text, modality="audio")
        turn.commit()
        self._drive(turn)
        self._conversation.call.silence.calm(True)

    async def _begin_to_speak(self) -> None:
        """A caller who speaks while the agent speaks or thinks interrupts it."""
        self._conversation.call.silence.calm(False)
        for turn, task in list(self._turns.items()):
            if task in self._busy and turn not in self._held:
                self._busy.discard(task)
                self._behind.add(task)
                self._moved.set()
                turn.interrupt()
        if not self._held:
            self._voice.cut()

    # ---- a turn

    def _drive(self, turn: Turn) -> None:
        driven = _Driven(turn, self)
        task = asyncio.create_task(self._follow(driven), name=f"graph_voice.testing.{turn.id}")
        self._turns[turn] = task
        self._busy.add(task)

        def over(done: asyncio.Task[Any]) -> None:
            self._busy.discard(done)
            self._behind.discard(done)
            self._turns.pop(turn, None)
            self._held.discard(turn)
            if not done.cancelled() and (error := done.exception()) is not None:
                self._failures.append(error)

        task.add_done_callback(over)

    async def _follow(self, driven: "_Driven") -> None:
        turn = driven.turn
        lines: list[SpokenMessage] = []
        while not isinstance(event := await driven.events.get(), events.Ended):
            match event:
                case events.Text(message_id=message_id, text=text):
                    line = self._line(message_id, turn, lines)
                    line.text += text
                    self._voice.changed()
                case events.Say(message_id=message_id, text=text) | events.Interrupt(message_id=message_id, text=text):
                    line = self._line(message_id, turn, lines)
                    line.text, line.over = text, True
                    self._voice.changed()
                case events.ToolCalls(agent=agent, message_id=message_id, calls=calls, custom=False):
                    self._complete.add(message_id)  # its tool calls come behind the last word of a message
                    for call in calls:
                        fake = self.plan.mocks.get(agent, {}).get(call.name)
                        if fake is None:
                            turn.allow(call.id)
                        else:  # alongside the voice and the batch's other tool calls, as a tool runs
                            mocking = asyncio.create_task(self._mock(turn, call, fake))
                            self._behind.add(mocking)
                            mocking.add_done_callback(self._behind.discard)
                case events.HandedOff():
                    self._hand_over(turn, event)
            self.end_lines(driven)
        for line in lines:
            line.over = True
        self._voice.changed()
        for line in lines:
            await line.done.wait()
        turn.close()
        if event.ends_call:
            self._behind.add(asyncio.create_task(self._conversation.aclose("task_completed")))

    def _line(self, message_id: str, turn: Turn, lines: list[SpokenMessage]) -> SpokenMessage:
        if message_id not in self._lines:
            line = self._lines[message_id] = SpokenMessage(message_id, turn)
            lines.append(line)
            if turn.interrupted:
                line.done.set()  # nobody plays it
            else:
                self._voice.put(line)
        return self._lines[message_id]

    def hold(self, turn: Turn, held: bool) -> None:
        """The turn can't be interrupted, or can be again."""
        if held:
            self._held.add(turn)
        else:
            self._held.discard(turn)

    def message_over(self, driven: "_Driven", message_id: str) -> None:
        """This message has no more words."""
        self._complete.add(message_id)
        self.end_lines(driven)

    def awaited(self, driven: "_Driven", message_id: str) -> None:
        """The graph goes on when this was heard: a line that a model words is over when it has worded all of it."""

        async def end() -> None:
            await driven.turn.wait_produced(message_id)
            self.message_over(driven, message_id)

        if (line := self._lines.get(message_id)) is None or not line.over:
            self._behind.add(task := asyncio.create_task(end()))
            task.add_done_callback(self._behind.discard)

    def end_lines(self, driven: "_Driven") -> None:
        """Lines that have no more words are over, once `_follow` has taken all of these."""
        if not driven.events.empty():
            return
        for message_id in [known for known in self._complete if known in self._lines]:
            self._complete.discard(message_id)
            self._lines[message_id].over = True
            self._voice.changed()

    async def _mock(self, turn: Turn, call: events.ToolCall, fake: Callable[..., Any]) -> None:
        try:
            made = fake(**call.args)
            output = str(await made if inspect.isawaitable(made) else made)
        except ToolError as error:
            turn.resolve(call.id, str(error), is_error=True)
        except Exception:
            turn.resolve(call.id, "An internal error occurred", is_error=True)
        else:
            turn.resolve(call.id, output)

    def _hand_over(self, turn: Turn, event: events.HandedOff) -> None:
        def reached() -> None:
            self._current_agent = event.new_agent
            turn.confirm_handoff(event.call_id)

        def cut() -> None:
            if event.on_interruption == "complete":
                reached()
            else:
                turn.reject_handoff(event.call_id, NO_HANDOFF)

        if turn.interrupted:
            cut()
        else:
            self._voice.put(Mark(turn, reached, cut))

    # ---- the voice

    def _word(self) -> None:
        if (moment := counting(self._plans)) is not None:
            moment.heard()

    def _line_over(self, line: SpokenMessage, cut: bool) -> None:
        words = line.text[: line.heard].strip() if cut else line.text
        if words.strip():
            self._heard.append(words)
        if line.turn is not None:
            with contextlib.suppress(TurnError):  # a later turn is over: nothing of this one can change
                line.turn.heard(line.message_id, words, interrupted=cut or None)

    # ---- rest

    def _late_result(self) -> None:
        self._late = True

    def _idle(self) -> None:
        # What there is to tell comes before a nudge.
        if (turn := self._conversation.announce() or self._conversation.nudge()) is not None:
            self._drive(turn)

    async def _rest(self) -> None:
        """Return when the caller waits for no turn and nothing is being played."""
        while True:
            if self._failures:
                raise self._failures.pop(0)
            if self._busy:
                self._moved.clear()
                moved = asyncio.create_task(self._moved.wait())
                await asyncio.wait({*self._busy, moved}, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
            elif not self._voice.idle.is_set():
                await self._voice.idle.wait()
            elif self._late:
                self._late = False
                if (turn := self._conversation.announce()) is not None:
                    self._drive(turn)
            else:
                return


class _Driven(TurnListener):
    """A turn that this front end plays: its events wait here until the voice has come so far."""

    def __init__(self, turn: Turn, front_end: CoreFrontEnd) -> None:
        self.turn = turn
        self.events: asyncio.Queue[events.Event] = asyncio.Queue()
        self._front_end = front_end
        turn.listen(self)

    def happens(self, event: events.Event) -> None:
        self.events.put_nowait(event)

    def message_over(self, message_id: str) -> None:
        self._front_end.message_over(self, message_id)

    def waits(self, message_id: str) -> None:
        self._front_end.awaited(self, message_id)

    def holds(self, held: bool) -> None:
        self._front_end.hold(self.turn, held)
