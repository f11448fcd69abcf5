"""Plays a scenario on a front end: the same acts at the same moments, and the checks behind each round."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from proof_scenario import Scenario
from proof_world import World, remembered

from graph_voice import Conversation, RunContext, Turn, events
from graph_voice.turn.state import TurnState

__all__ = ["Player"]


class Player(ABC):
    """One playing of a scenario. What is different between front ends is below."""

    def __init__(self, scenario: Scenario) -> None:
        self.world = World(scenario)
        self.scenario = scenario
        self.interrupted_by_program = False
        self._handoffs: list[tuple[Turn, events.HandedOff]] = []
        self._turns: set[Turn] = set()
        self.world.active = lambda: self.active_agent
        self.world.hang_up = self.hangs_up

    def watch(self, conversation: Conversation[Any]) -> None:
        """Count what happens in the graph, whatever the front end says of it."""
        self.conversation = conversation
        conversation.call.on_event = self._happens
        announce = conversation.announce

        def counted() -> Turn | None:
            turn = announce()
            self.world.counts["late results announced"] += turn is not None
            return turn

        vars(conversation)["announce"] = counted

    def _happens(self, turn: Turn, event: events.Event) -> None:
        counts = self.world.counts
        self._turns.add(turn)
        match event:
            case events.HandedOff():
                self._handoffs.append((turn, event))
            case events.Say():
                counts["fixed lines"] += 1
            case events.Interrupt():
                counts["questions asked"] += 1
            case events.Failed():
                counts["models that failed"] += 1

    def tally(self) -> None:
        """The call, or a process of it, is over: what became of its turns."""
        for turn, event in self._handoffs:
            happened = turn.record.handoffs.of(event).happened
            self.world.counts["handoffs" if happened else "handoffs that did not happen"] += turn.state.happened
        self.world.counts["speculations discarded"] += sum(t.state is TurnState.DISCARDED for t in self._turns)
        self._handoffs.clear()
        self._turns.clear()

    async def play(self) -> dict[str, Any]:
        """The whole call. Returns what two front ends have to agree on."""
        await self.begin()
        for number, acts in enumerate(self.scenario["rounds"]):
            self.interrupted_by_program = False
            for act in acts:
                self.world.log.append(f"{asyncio.get_running_loop().time():.2f} {act}")
                await self.act(act)
                await asyncio.sleep(act["pause"])
            if number == self.scenario["closes"]:
                self.world.counts["closed in the middle"] += 1
                break
            if number == self.scenario.get("crashes"):
                self.tally()
                self.world.counts["crashes"] += 1
                await self.crash()
            await self.rest()
            self.check()
            if not self.interrupted_by_program:
                self.world.answered(self.conversation)
            self.world.counts["rounds"] += 1
        if self.scenario.get("hangs_up") and self.scenario["closes"] is None:
            self.world.counts["hang-ups from a tool"] += 1
            await self.says(self.world.wish("goodbye"), None, None)
            await self.until(lambda: self.conversation.closed, 30.0)
        self.world.log.append("close")
        await self.close()
        self.tally()
        self.check()
        left = [t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice")]
        assert left == [], f"still running: {left}"
        return remembered(self.world, self.conversation)

    async def act(self, act: dict[str, Any]) -> None:
        kind = act["do"]
        self.world.counts[kind] += 1
        if kind == "says":
            await self.says(self.world.wish(act["wish"]), act["guess"], act["seconds"])
        elif kind == "barge":
            await self.barge(act)
        elif kind == "overlaps":
            await asyncio.gather(
                self.says(self.world.wish(act["wish"]), None, None), self.says(self.world.wish("hello"), None, None)
            )
        elif kind == "types":
            await self.types(self.world.wish(act["wish"]))
        elif kind == "house":
            await self.house("A word from the house.")
        elif kind == "asks":
            await self.asks("Ask whether there is anything else.")
        elif kind == "moves":
            others = [name for name in self.world.names if name != self.current_agent]
            if others:
                await self.moves(others[self.world.asked % len(others)])
        elif kind == "interrupts":
            self.interrupted_by_program = True
            await self.interrupts()

    async def barge(self, act: dict[str, Any]) -> None:
        """A request, and at this moment of its answer the next words."""
        asked, floor = self.world.asked, self.current_agent
        await self.says(self.world.wish(act["first"]), None, None)
        moments: dict[str, Callable[[], bool]] = {
            "thinking": lambda: self.world.asked > asked,
            "first word": lambda: self.audible is not None,
            "mid sentence": lambda: len((self.audible or "").split()) >= 5,
            "tool": lambda: self.world.running > 0,
            "question": lambda: "Which" in (self.audible or ""),
            "line": lambda: "hold" in (self.audible or ""),
            "task": lambda: self.current_agent.startswith("form") and self.audible is not None,
            "entry": lambda: self.current_agent != floor and self.audible is not None,
            "exit": lambda: self.world.leaving > 0,
            "any": lambda: True,
        }
        if await self.until(moments[act["when"]]):
            self.world.counts[f"barge-in: {act['when']}"] += 1
        else:
            self.world.counts["the moment did not come"] += 1
        await asyncio.sleep(act["after"])
        await self.says(self.world.wish(act["wish"]), act["guess"], act["seconds"])

    async def until(self, moment: Callable[[], bool], seconds: float = 8.0) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not moment():
            if loop.time() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    # ---- the front end's

    conversation: Conversation[Any]

    @property
    @abstractmethod
    def current_agent(self) -> str:
        """Who has the floor in the front end."""

    @property
    def active_agent(self) -> str:
        """The agent that has really entered last."""
        return self.current_agent

    @property
    @abstractmethod
    def audible(self) -> str | None:
        """The words that the caller has heard of what is being said; None when it is silent."""

    @abstractmethod
    async def begin(self) -> None: ...

    @abstractmethod
    async def says(self, text: str, guess: str | None, seconds: float | None) -> None:
        """The caller speaks; `guess` is what the recogniser thought before the end ("same": the right words)."""

    @abstractmethod
    async def types(self, text: str) -> None: ...

    @abstractmethod
    async def house(self, text: str) -> None: ...

    @abstractmethod
    async def asks(self, instructions: str) -> None: ...

    @abstractmethod
    async def moves(self, name: str) -> None: ...

    @abstractmethod
    async def interrupts(self) -> None: ...

    @abstractmethod
    async def hangs_up(self, ctx: RunContext[Any]) -> None:
        """A tool ends the call."""

    @abstractmethod
    async def crash(self) -> None:
        """The process is gone in the middle of things, and another one takes the call up."""

    @abstractmethod
    async def rest(self) -> None: ...

    @abstractmethod
    def check(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...
