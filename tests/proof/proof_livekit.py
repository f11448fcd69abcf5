"""A real LiveKit session as the front end, with fake audio on the virtual clock."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

from graph_agent_support import agrees, calls_in_graph, no_accidents, voice
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from livekit.agents.voice.events import CloseEvent
from livekit.agents.voice.room_io import TextInputEvent, TextInputOptions
from proof_player import Player
from proof_scenario import Scenario

from graph_voice import LiveSaver, RunContext
from graph_voice.testing.invariants import check_invariants
from graph_voice.testing.severed import SeverableSaver
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig, voice_rig

__all__ = ["LiveKitPlayer"]


class LiveKitPlayer(Player):
    """A caller in a LiveKit session."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.ga: GraphAgent
        self.rig: VoiceRig
        self.closed: list[CloseEvent] = []
        self._stack = contextlib.AsyncExitStack()
        self._saver = InMemorySaver()
        self._heard_before: list[str] = []
        """Words of the agents that are remembered from before a crash."""
        self._changes_before: int | None = None
        """How often the floor had changed before it."""

    async def play(self) -> dict[str, Any]:
        with no_accidents():
            try:
                return await super().play()
            finally:
                await self._stack.aclose()

    async def begin(self) -> None:
        """In a process of its own, as far as its store is concerned."""
        self._line = SeverableSaver(self._saver)
        self._live = LiveSaver(self._line) if self.scenario.get("crashes") is not None else None
        self.ga = GraphAgent(self.world.graph(voice), thread_id="call", saver=self._live)
        self.watch(self.ga.conversation)
        handling: Any = {
            "endpointing": {"min_delay": self.scenario["endpointing"], "max_delay": 4.0},
            # Else LiveKit does not listen while a tool may not be interrupted: what the caller says then is not there.
            "interruption": {"discard_audio_if_uninterruptible": False},
        }
        self.rig = await self._stack.enter_async_context(
            voice_rig(self.ga, turn_handling=handling, synchronizer=self.scenario["synchronizer"])
        )
        self.rig.session.on("close", self.closed.append)

    @property
    def current_agent(self) -> str:
        return self.rig.session.current_agent.id

    @property
    def active_agent(self) -> str:
        # `current_agent` is the program's next one as soon as it has called `update_agent`.
        handoffs = [item for item in self.rig.session.history.items if item.type == "agent_handoff"]
        return handoffs[-1].new_agent_id if handoffs else self.current_agent

    @property
    def audible(self) -> str | None:
        return self.rig.loudspeaker.heard if self.rig.loudspeaker.audible else None

    def _count(self) -> None:
        speaks = self.rig.loudspeaker.playing or self.rig.session.agent_state in ("thinking", "speaking")
        if speaks or self.world.running:
            self.world.counts["barge-ins"] += 1

    async def says(self, text: str, guess: str | None, seconds: float | None) -> None:
        self._count()
        preflight = text if guess == "same" else guess and f"{guess} perhaps"
        if guess is not None:
            self.world.counts["right guesses" if guess == "same" else "wrong guesses"] += 1
        await self.rig.user_says(text, preflight=preflight, seconds=seconds)

    async def types(self, text: str) -> None:
        self._count()
        try:
            waiting = TextInputOptions().text_input_cb(self.rig.session, TextInputEvent(text))
            if waiting is not None:
                await waiting
        except RuntimeError:  # LiveKit refuses it, aloud, in the moment in which the floor changes
            self.world.said.remove(text)
            self.world.counts["typed words that LiveKit refused"] += 1

    async def house(self, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # LiveKit takes no speech in the moment in which the floor changes
            self.rig.session.say(text)

    async def asks(self, instructions: str) -> None:
        with contextlib.suppress(RuntimeError):
            self.rig.session.generate_reply(instructions=instructions)

    async def moves(self, name: str) -> None:
        with contextlib.suppress(RuntimeError):
            self.rig.session.update_agent(self.ga.agent(name))

    async def interrupts(self) -> None:
        self._count()
        with contextlib.suppress(RuntimeError):
            await self.rig.session.interrupt()

    async def hangs_up(self, ctx: RunContext[Any]) -> None:
        ctx.host.session.shutdown()

    async def crash(self) -> None:
        if self.closed:
            return
        heard = Counter(self._heard_before + [word for s in self.rig.spoken for word in s.text.split()])
        self._line.sever()
        await self.conversation.call.abandon()
        await self._stack.aclose()
        await self.ga.aclose()
        if self._live is not None:
            await self._live.abandon()  # its process is gone, and writes nothing more
        self.closed.clear()
        await self.begin()
        await self.conversation.open()
        messages = self.conversation.messages
        self._heard_before = [w for m in messages if isinstance(m, AIMessage) for w in m.text.split()]
        unheard = Counter(self._heard_before) - heard
        # With LiveKit's synchronizer, what was heard is an estimate.
        assert not unheard or self.scenario["synchronizer"], f"remembered, and never heard: {list(unheard.elements())}"
        self.world.said = [m.text for m in messages if isinstance(m, HumanMessage)]
        self._changes_before = sum(h["old_agent_id"] != h["new_agent_id"] for h in self.conversation.handoffs)
        self.world.taken_up(self.conversation)

    async def rest(self) -> None:
        await self.rig.until_idle(timeout=300)
        await asyncio.sleep(15)  # tools that a barge-in left behind, and what is said of them
        await self.rig.until_idle(timeout=300)

    def check(self) -> None:
        check_invariants(self.conversation, effects=self.world.effects)
        agrees(self.ga, self.rig.session, closed=bool(self.closed), before=self._changes_before)
        assert set(self.world.effects) <= set(calls_in_graph(self.ga))
        self.world.check(self.conversation)
        if not self.scenario["synchronizer"] and not self.closed:
            self._every_word_was_heard()
        if not self.closed:
            self._every_turn_is_there()

    def _every_word_was_heard(self) -> None:
        """LiveKit's history could be wrong as well: the loudspeaker knows what really came out of it."""
        heard = [*self._heard_before, *(word for s in self.rig.spoken for word in s.text.split())]
        told = [
            word
            for item in self.rig.session.history.items
            if item.type == "message" and item.role == "assistant"
            for word in (item.text_content or "").split()
        ]
        assert sorted(heard) == sorted(told), f"heard {heard}; remembered {told}"

    def _every_turn_is_there(self) -> None:
        """Two turns that touch are one for the recogniser, so only the letters are compared, whatever their order."""
        remembered = "".join(m.text for m in self.conversation.messages if isinstance(m, HumanMessage))
        said = "".join(self.world.said)
        assert sorted(remembered.replace(" ", "")) == sorted(said.replace(" ", "")), (
            f"said {self.world.said}; remembered {remembered!r}"
        )

    async def close(self) -> None:
        await self.rig.session.aclose()
        await asyncio.sleep(12)
        assert len(self.closed) == 1
