"""Random calls: whatever the caller, the program and LiveKit do, both sides tell the same story at every rest.

`GRAPH_VOICE_CALLS=300` plays so many of them; `GRAPH_VOICE_SEED=7` begins with that one.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from graph_agent_support import agrees, calls_in_graph, no_accidents, voice
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from livekit.agents.voice.events import CloseEvent
from livekit.agents.voice.room_io import TextInputEvent, TextInputOptions

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig, voice_rig

pytestmark = pytest.mark.virtual_clock(limit=1_000_000)

CALLS = int(os.environ.get("GRAPH_VOICE_CALLS", "5"))
SEED = int(os.environ.get("GRAPH_VOICE_SEED", "0"))
STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
POLICIES = [history.fresh(), history.full(), history.truncate(max_items=4), history.last_turns(2)]
WISHES = ["tell me a story", "charge me please", "search for me", "fail for me", "transfer me please", "hello to you"]


def answer(messages: list[BaseMessage]) -> Any:
    """A model that does what the caller's last word says."""
    asked = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=0)
    text = messages[asked].text
    if any(isinstance(m, ToolMessage) for m in messages[asked:]):
        return "That is done."
    if "story" in text:
        return STORY
    for wish in ("charge", "search", "fail"):
        if wish in text:
            return say("One moment.", call(wish, id=f"call-{len(messages)}-{random.random()}"))
    if "transfer" in text:
        ours = messages[0].text.removeprefix("You are ").removesuffix(".")
        return say("Sure.", call(f"transfer_to_{'b' if ours == 'a' else 'a'}", id=f"call-{random.random()}"))
    return "I hear you."


class RandomCall:
    """A call whose graph and whose caller are thrown with dice."""

    def __init__(self, seed: int, *, only_speaks: bool = False) -> None:
        self.dice = random.Random(seed)
        self.only_speaks = only_speaks
        self.said: list[str] = []
        """What the caller said and typed."""
        self.ran: list[str] = []
        self.closed: list[CloseEvent] = []
        self.log: list[str] = []
        dice = self.dice

        @function_tool
        async def charge(ctx: RunContext[Any]) -> str:
            """Charge."""
            self.ran.append(str(ctx.tool_call_id))
            await asyncio.sleep(1.5)
            return "charged"

        @function_tool
        async def search(ctx: RunContext[Any]) -> str:
            """Search for a long time."""
            self.ran.append(str(ctx.tool_call_id))
            await asyncio.sleep(8)
            return "found"

        @function_tool
        async def fail(ctx: RunContext[Any]) -> str:
            """Fail."""
            self.ran.append(str(ctx.tool_call_id))
            raise RuntimeError("no line")

        self.model = ScriptedModel(answer, first_token=dice.choice([0.0, 0.2, 0.6]))
        agents = [
            Agent(
                name,
                instructions=f"You are {name}.",
                tools=[charge, search, fail],
                handoffs=[
                    Handoff(other, say=dice.choice([None, "Please hold the line."]), history=dice.choice(POLICIES))
                ],
                on_enter=dice.choice([None, "Greet the caller."]),
                voice=voice(name),
            )
            for name, other in (("a", "b"), ("b", "a"))
        ]
        self.ga = GraphAgent(create_voice_graph(agents, llm=self.model))

    async def play(self) -> None:
        dice = self.dice
        handling: Any = {"endpointing": {"min_delay": dice.choice([0.3, 0.5, 1.2]), "max_delay": 4.0}}
        async with voice_rig(self.ga, turn_handling=handling, synchronizer=dice.random() < 0.3) as rig:
            rig.session.on("close", self.closed.append)
            closes = None if self.only_speaks else dice.choice([None, None, dice.randint(1, 7)])
            for round_ in range(8):
                for _ in range(dice.randint(1, 4)):
                    await self.act(rig)
                if round_ == closes:
                    break
                await self.rest(rig)
                self.check(rig)
            self.log.append("close")
            await rig.session.aclose()
            await asyncio.sleep(12)
            self.check(rig)
            assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice")]
        assert len(self.closed) == 1
        assert not self.model.errors

    @property
    def heard(self) -> str:
        """What the graph remembers of the caller. Two turns that touch are one for the recogniser, without a space."""
        return "".join("".join(m.text.split()) for m in self.ga.conversation.messages if isinstance(m, HumanMessage))

    async def act(self, rig: VoiceRig) -> None:
        """The caller or the program does something, and leaves some time before the next thing."""
        weights = {
            self.speaks: 10,
            self.talks_over_itself: 2,
            self.types: 3,
            self.program_says: 1,
            self.program_asks: 1,
            self.program_moves: 1,
            self.program_interrupts: 1,
            self.is_silent: 1,
        }
        if self.only_speaks:
            weights = {self.speaks: 6, self.program_interrupts: 1}
        (act,) = self.dice.choices(list[Callable[[VoiceRig], Awaitable[None]]](weights), list(weights.values()))
        self.log.append(f"{rig.now:.2f} {act.__name__}")
        with contextlib.suppress(RuntimeError):  # LiveKit takes no speech in the moment in which the floor changes
            await act(rig)
        await asyncio.sleep(self.dice.uniform(0.0, 4.0))

    def wish(self) -> str:
        self.said.append(f"{self.dice.choice(WISHES)} {len(self.said)}")
        self.log.append(f"    {self.said[-1]}")
        return self.said[-1]

    async def speaks(self, rig: VoiceRig) -> None:
        text = self.wish()
        guess = self.dice.choice([None, None, text, "charge me twice", "transfer me now"])
        await rig.user_says(text, preflight=guess, seconds=self.dice.choice([None, 0.6, 4.0]))

    async def talks_over_itself(self, rig: VoiceRig) -> None:
        await asyncio.gather(rig.user_says(self.wish()), rig.user_says(self.wish()))

    async def types(self, rig: VoiceRig) -> None:
        waiting = TextInputOptions().text_input_cb(rig.session, TextInputEvent(self.wish()))
        if waiting is not None:
            await waiting

    async def program_says(self, rig: VoiceRig) -> None:
        rig.session.say("A word from the house.")

    async def program_asks(self, rig: VoiceRig) -> None:
        rig.session.generate_reply(instructions="Ask whether there is anything else.")

    async def program_moves(self, rig: VoiceRig) -> None:
        other = "b" if rig.session.current_agent.id == "a" else "a"
        rig.session.update_agent(self.ga.agent(other))

    async def program_interrupts(self, rig: VoiceRig) -> None:
        await rig.session.interrupt()

    async def is_silent(self, rig: VoiceRig) -> None:
        await asyncio.sleep(self.dice.uniform(3, 20))

    async def rest(self, rig: VoiceRig) -> None:
        await rig.until_idle(timeout=300)
        await asyncio.sleep(15)  # tools that a barge-in left behind, and what is said of them
        await rig.until_idle(timeout=300)

    def check(self, rig: VoiceRig) -> None:
        check_invariants(self.ga.conversation, effects=self.ran)
        agrees(self.ga, rig.session)
        assert len(self.ran) == len(set(self.ran))
        assert set(self.ran) <= set(calls_in_graph(self.ga))


async def played(made: RandomCall) -> RandomCall:
    try:
        with no_accidents():
            await made.play()
    except BaseException:
        print("\n".join(made.log))
        raise
    return made


@pytest.mark.parametrize("seed", range(SEED, SEED + CALLS))
async def test_a_random_call_agrees_at_every_rest_and_at_its_end(seed: int) -> None:
    await played(RandomCall(seed))


@pytest.mark.parametrize("seed", range(SEED, SEED + CALLS))
async def test_no_turn_of_a_caller_who_talks_at_random_is_lost_and_none_comes_twice(seed: int) -> None:
    made = await played(RandomCall(seed, only_speaks=True))
    assert made.heard == "".join("".join(text.split()) for text in made.said)
