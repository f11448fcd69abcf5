"""The core's `Turn` as a telephone: words take their time, a caller who speaks cuts them off."""

import asyncio
import time
from collections import Counter
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from proof_player import Player
from proof_scenario import Scenario

from graph_voice import Conversation, RunContext, Turn, events
from graph_voice.testing.invariants import check_invariants
from graph_voice.testing.severed import SeverableSaver

__all__ = ["CorePlayer"]

WORD = 0.25
"""Seconds that a word takes."""
FLUSHED = 0.6
"""Seconds after which what is remembered has to be durable."""


class Voice:
    """What is played of one turn."""

    def __init__(self, player: "CorePlayer", turn: Turn) -> None:
        self.player = player
        self.turn = turn
        self.cut = False
        """The caller, or the program, has interrupted."""
        self.heard: dict[str, str] = {}
        self.undecided: list[events.HandedOff] = []
        self._queue: asyncio.Queue[tuple[str, str] | events.HandedOff | None] = asyncio.Queue()
        self._playing = asyncio.create_task(self._play())
        self.now: str | None = None

    async def drive(self) -> None:
        """Until the turn is over and everything was played."""
        async for event in self.turn:
            match event:
                case (
                    events.Text(message_id=mid, text=text)
                    | events.Say(message_id=mid, text=text)
                    | events.Interrupt(message_id=mid, text=text)
                ):
                    self._queue.put_nowait((mid, text))
                case events.ToolCalls(calls=calls):
                    for asked in calls:
                        self.turn.allow(asked.id)
                case events.HandedOff():
                    self.undecided.append(event)
                    self._queue.put_nowait(event)
                    if self.cut:
                        self._decide(event, event.on_interruption == "complete")
        self._queue.put_nowait(None)
        await self._playing
        self.turn.close()
        self.player.heard.update(self.heard)

    async def _play(self) -> None:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, events.HandedOff):
                # The floor changes when what was said before it has been heard.
                if item in self.undecided:
                    self._decide(item, not self.cut or item.on_interruption == "complete")
                self.now = None
                continue
            mid, text = item
            for word in text.split(" ") if not self.cut else ():
                # A delta may begin with the space between two words.
                await asyncio.sleep(WORD if word.strip() else 0.0)
                if self.cut:
                    break
                self.player.begun.setdefault(mid, time.time())
                before = self.heard.get(mid)
                self.heard[mid] = word if before is None else f"{before} {word}" if word else f"{before} "
                if before is not None and before.endswith(" ") and word:
                    self.heard[mid] = before + word
                self.now = " ".join(self.heard.values())
            self.turn.heard(mid, self.heard.get(mid, ""), at=self.player.begun.get(mid))
            self.player.reported[mid] = (asyncio.get_running_loop().time(), self.heard.get(mid, ""))
            if self._queue.empty() and self.turn.finished:
                self.now = None
        self.now = None

    def _decide(self, event: events.HandedOff, happens: bool) -> None:
        self.undecided.remove(event)
        if self.turn.state.is_over:
            return
        if happens:
            self.turn.confirm_handoff(event.call_id)
            self.player.changes_active_agent = event.new_agent
        else:
            self.turn.reject_handoff(event.call_id, "not done: the caller interrupted.")

    def die(self) -> None:
        """Its process is gone: nothing more is played or reported."""
        self.cut = True
        self._playing.cancel()

    def barge_in(self) -> None:
        if self.cut:
            return
        self.cut = True
        self.now = None
        for event in list(self.undecided):
            self._decide(event, event.on_interruption == "complete")
        self.turn.interrupt()


class CorePlayer(Player):
    """A caller on the core alone."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.heard: dict[str, str] = {}
        self.begun: dict[str, float] = {}
        """Message id -> when its first word was played."""
        self.reported: dict[str, tuple[float, str]] = {}
        """Message id -> when a turn was told last what was heard of it, and what."""
        self.said: list[str] = []
        """What the caller said, in the order in which they ended."""
        self.changes_active_agent = ""
        self.current: Voice | None = None
        self.failure: BaseException | None = None
        self._driving: dict[asyncio.Task[None], Voice] = {}
        self._saver = InMemorySaver()
        self._graph = self.world.graph().compile()

    async def begin(self) -> None:
        await self._open()
        self._drive(self.conversation.enter())

    async def _open(self) -> None:
        """In a process of its own, as far as its store is concerned."""
        self._line = SeverableSaver(self._saver)
        self.watch(Conversation(self._graph, thread_id="call", saver=self._line))
        await self.conversation.open()
        self.changes_active_agent = self.conversation.active_agent

    async def crash(self) -> None:
        self._line.sever()
        driving = dict(self._driving)
        for task, voice in driving.items():
            voice.die()
            task.cancel()
        await self.conversation.call.abandon()
        if driving:
            await asyncio.wait(driving)
        self._driving.clear()
        heard = self.heard | {mid: text for voice in driving.values() for mid, text in voice.heard.items()}
        now = asyncio.get_running_loop().time()
        await self._open()
        messages = self.conversation.messages
        remembered = Counter(word for m in messages if isinstance(m, AIMessage) for word in m.text.split())
        unheard = remembered - Counter(word for text in heard.values() for word in text.split())
        assert not unheard, f"remembered, and never heard: {list(unheard.elements())}"
        stored = [text for when, text in self.reported.values() if now - when > FLUSHED]
        lost = Counter(word for text in stored for word in text.split()) - remembered
        assert not lost, f"heard more than {FLUSHED} s before the crash, and lost: {list(lost.elements())}"
        said = [m.text for m in messages if isinstance(m, HumanMessage)]
        assert [text for text in self.said if text in said] == said, f"said {self.said}, remembered {said}"
        self.world.taken_up(self.conversation)
        self.heard = {f"before the crash {m.id}": m.text for m in messages if isinstance(m, AIMessage)}
        self.begun = {mid: place / len(self.heard) for place, mid in enumerate(self.heard)}
        self.reported.clear()
        self.said = said
        resumed = self.conversation.resumed
        assert resumed is not None or not messages
        if resumed is None:
            self._drive(self.conversation.enter())
        elif resumed.unanswered or resumed.again:
            self._drive(self.conversation.resume())

    @property
    def current_agent(self) -> str:
        return self.changes_active_agent

    @property
    def audible(self) -> str | None:
        return self.current.now if self.current is not None else None

    def _drive(self, turn: Turn) -> None:
        voice = self.current = Voice(self, turn)
        self._driving[task := asyncio.create_task(voice.drive(), name="a front end")] = voice
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._driving.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = error

    def _cut(self) -> None:
        if (
            self.current is not None
            and not (self.current.turn.state.is_over and self.current.turn.finished)
            and not self.current.cut
        ):
            self.world.counts["barge-ins"] += 1
            self.current.barge_in()

    async def says(self, text: str, guess: str | None, seconds: float | None) -> None:
        await asyncio.sleep(0.1)
        self._cut()
        await asyncio.sleep(seconds or 0.3 * len(text.split()))
        if guess is not None:
            guessed = self.conversation.turn(text if guess == "same" else f"{guess} perhaps")
            await asyncio.sleep(0.35)
            if guess == "same":
                self.world.counts["right guesses"] += 1
                self._cut()
                guessed.commit(text)
                self.said.append(text)
                self._drive(guessed)
                return
            self.world.counts["wrong guesses"] += 1
            guessed.discard()
        self._answer(text)

    def _answer(self, text: str) -> None:
        self._cut()
        turn = self.conversation.turn(text)
        turn.commit(text)
        self.said.append(text)
        self._drive(turn)

    async def types(self, text: str) -> None:
        self._answer(text)

    async def house(self, text: str) -> None:
        self._cut()
        self.conversation.add(AIMessage(text))
        said = f"house-{len(self.heard)}"
        self.heard[said], self.begun[said] = text, time.time()

    async def asks(self, instructions: str) -> None:
        self._cut()
        self._drive(self.conversation.turn(instructions=instructions))

    async def moves(self, name: str) -> None:
        self._cut()
        self.interrupted_by_program = (
            True  # the words that were being answered are the next agent's, which may be silent
        )
        await self.conversation.update_agent(name)
        self.changes_active_agent = name
        self._drive(self.conversation.enter())

    async def interrupts(self) -> None:
        self._cut()

    async def hangs_up(self, ctx: RunContext[Any]) -> None:
        self._cut()
        await asyncio.sleep(2 * WORD)  # what was played is reported before the call is over
        await self.conversation.aclose("task_completed")

    async def rest(self) -> None:
        while True:
            while self._driving:
                await asyncio.wait(self._driving)
            await asyncio.sleep(8)  # tools that a barge-in left behind
            late = self.conversation.announce()
            if late is None:
                break
            self._drive(late)
        if self.failure is not None:
            raise self.failure

    def check(self) -> None:
        check_invariants(
            self.conversation,
            effects=self.world.effects,
            heard=self.heard,
            said=self.said,
            current_agent=self.changes_active_agent,
        )
        self.world.check(self.conversation)
        said = [
            w for mid in sorted(self.heard, key=lambda mid: self.begun.get(mid, 0.0)) for w in self.heard[mid].split()
        ]
        told = [w for m in self.conversation.messages if isinstance(m, AIMessage) for w in m.text.split()]
        assert told == said, f"heard {said}; remembered {told}"

    async def close(self) -> None:
        if self.scenario["closes"] is not None:
            self._cut()
            await asyncio.sleep(2 * WORD)  # what was played is reported; tools may go on
        await self.conversation.aclose()
        while self._driving:
            await asyncio.wait(self._driving)
        if self.failure is not None:
            raise self.failure
        self.check()
        told = [(m.id, m.text) for m in self.conversation.messages]
        # Another process takes the call up, from the durable copy, once it has what was played to the end of the call.
        await self.conversation.flush()
        again = Conversation(self._graph, thread_id="call", saver=self._saver)
        async with again:
            assert [(m.id, m.text) for m in again.messages] == told
            assert again.active_agent == self.changes_active_agent
            self.world.read_again(self.conversation, again)
        self.world.counts["calls read again from their store"] += 1
