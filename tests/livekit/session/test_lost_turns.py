"""What a caller says while the floor changes is dropped by LiveKit without an event, and answered all the same."""

import asyncio
import os
import random
import re
from typing import Any

import pytest
from graph_agent_support import (
    a_call,
    handoffs_in_livekit,
    no_accidents,
    spoken,
    told_by_graph,
    voice,
    words,
)
from langchain_core.messages import BaseMessage, HumanMessage
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import StopResponse
from livekit.agents.llm import ChatMessage
from livekit.agents.voice.events import ConversationItemAddedEvent, UserInputTranscribedEvent

from graph_voice import Agent, Handoff, RunContext, Voice, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.session.lost_turns import LostTurns
from graph_voice_livekit.testing import FakeAudioOutput, FakeSTT, FakeTTS, VoiceRig, voice_rig

pytestmark = pytest.mark.virtual_clock

CALLS = int(os.environ.get("GRAPH_VOICE_CALLS", "6"))
SEED = int(os.environ.get("GRAPH_VOICE_SEED", "0"))


class SlowToLeave(LiveKitAgent):
    """A LiveKit agent that takes its time to leave: user turns that end meanwhile are dropped."""

    seconds = 4.0

    async def on_exit(self) -> None:
        await asyncio.sleep(self.seconds)


def bank(model: ScriptedModel, base: type[LiveKitAgent] = SlowToLeave) -> GraphAgent:
    graph = create_voice_graph(
        [
            Agent("support", instructions="Support.", handoffs=[Handoff("billing")], voice=voice("support")),
            Agent("billing", instructions="Billing.", on_enter="Greet.", voice=voice("billing")),
        ],
        llm=model,
    )
    return GraphAgent(graph, bases={"support": base})


def user_texts(ga: GraphAgent) -> list[str]:
    return [m.text for m in ga.conversation.messages if m.type == "human"]


@pytest.mark.parametrize("preflight", [None, "my bill"])
async def test_what_is_said_during_the_handover_is_answered_once_after_the_first_words(preflight: str | None) -> None:
    model = ScriptedModel(
        {
            "support": [say("Sure.", call("transfer_to_billing"))],
            "billing": ["Billing speaking.", "You owe nothing.", "Goodbye."],
        }
    )
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5, preflight=preflight)
        await rig.user_says("what do I owe", at=3.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "Sure."), ("billing", "Billing speaking. You owe nothing.")]
        answered = rig.spoken[-1].started
        await rig.user_says("goodbye")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("You owe nothing. Goodbye.")
        assert answered < 9.5  # the handover ends at 6.6 s, the greeting takes half a second
    assert user_texts(ga) == ["my bill", "what do I owe", "goodbye"]
    assert [text for _, text in told_by_graph(ga)] == [
        "my bill",
        "Sure.",
        "what do I owe",
        "Billing speaking. You owe nothing.",
        "goodbye",
        "Goodbye.",
    ]


async def test_words_of_a_turn_that_goes_on_behind_the_handover_are_not_lost() -> None:
    model = ScriptedModel(
        {
            "support": [say("Sure.", call("transfer_to_billing"))],
            "billing": lambda messages: f"Heard {messages[-1].text}",
        }
    )
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.user_says("what do I owe", at=5.0)
        await rig.user_says("to you dear bank", at=6.9)
        await rig.until_idle()
    said = " ".join(user_texts(ga))
    assert said == "my bill what do I owe to you dear bank"


async def test_a_handover_in_silence_recovers_nothing() -> None:
    model = ScriptedModel({"support": [say("Sure.", call("transfer_to_billing"))], "billing": ["Billing speaking."]})
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        await asyncio.sleep(10)
    assert user_texts(ga) == ["my bill"]


async def test_a_turn_that_the_program_dropped_on_purpose_stays_dropped() -> None:
    class Deaf(SlowToLeave):
        async def on_user_turn_completed(self, turn_ctx: Any, new_message: Any) -> None:
            if "secret" in new_message.text_content:
                raise StopResponse

    model = ScriptedModel({"support": [("", "Pardon?")], "billing": ["Billing speaking."]})
    ga = bank(model, Deaf)
    async with a_call(ga, model) as rig:
        await rig.user_says("a secret", at=0.5)
        await rig.until_idle()
        await rig.wait_until(10.0)
        rig.session.update_agent(ga.agent("billing"))
        await asyncio.sleep(SlowToLeave.seconds + 3)
        assert spoken(rig) == [("billing", "Billing speaking.")]
    assert user_texts(ga) == []


async def test_the_program_changes_the_floor_while_the_agent_speaks_and_the_caller_barges_in() -> None:
    story = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
    model = ScriptedModel({"support": [story], "billing": ["Billing speaking.", "Fine."]})
    ga = bank(model, LiveKitAgent)
    async with a_call(ga, model) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 0.5)
        rig.session.update_agent(ga.agent("billing"))
        await rig.user_says("please stop it now")
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing speaking. Fine.")
        assert handoffs_in_livekit(rig.session) == ["billing"]
        assert story.startswith(words(rig.spoken[0].text))
    assert user_texts(ga) == ["Tell me a story", "please stop it now"]


# ---- soon


async def test_behind_a_silent_entry_the_answer_begins_within_a_second_of_the_handover() -> None:
    class Quiet(Agent):
        name = "billing"
        instructions = "Billing."

        async def on_enter(self, ctx: RunContext[Any]) -> None:
            """Wait for the caller."""

    model = ScriptedModel({"support": [say("Sure.", call("transfer_to_billing"))], "billing": ["You owe nothing."]})
    support = Agent("support", instructions="Support.", handoffs=[Handoff("billing")], voice=voice("support"))
    ga = GraphAgent(
        create_voice_graph([support, Quiet(voice=voice("billing"))], llm=model), bases={"support": SlowToLeave}
    )
    async with a_call(ga, model) as rig:
        taken = floor_taken(rig)
        await rig.user_says("my bill", at=0.5)
        await rig.user_says("what do I owe", at=3.0)
        await rig.wait_until(8.0)
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "You owe nothing.")
        assert rig.spoken[-1].started - taken[0] < 1.0
    assert user_texts(ga) == ["my bill", "what do I owe"]


async def test_behind_first_words_the_answer_follows_without_a_pause() -> None:
    model = ScriptedModel(
        {
            "support": [say("Sure.", call("transfer_to_billing"))],
            "billing": ["Billing speaking, good to have you here.", "You owe nothing."],
        }
    )
    ga = bank(model)
    async with a_call(ga, model) as rig:
        taken = floor_taken(rig)
        await rig.user_says("my bill", at=0.5)
        await rig.user_says("what do I owe", at=3.0)
        await rig.wait_until(8.0)
        await rig.until_idle()
        _, greeting, reply = rig.spoken
        assert greeting.started - taken[0] < 1.0
        assert reply.started - greeting.ended < 0.5
    assert len(model.prompts) == 3


def floor_taken(rig: VoiceRig) -> list[float]:
    """When another agent took the floor, in seconds since the call began; fills as the call goes on."""
    taken: list[float] = []

    def added(event: ConversationItemAddedEvent) -> None:
        if event.item.type == "agent_handoff":
            taken.append(rig.now)

    rig.session.on("conversation_item_added", added)
    return taken


# ---- the hook between the end of a turn and its reply


async def test_a_turn_that_is_dropped_behind_its_hook_is_answered_by_the_next_agent() -> None:
    class Thinks(LiveKitAgent):
        """Its hook takes so long that the floor changes meanwhile: LiveKit drops the turn behind it."""

        async def on_user_turn_completed(self, turn_ctx: Any, new_message: Any) -> None:
            if "owe" in new_message.text_content:
                await asyncio.sleep(2.0)
                new_message.content = ["what do I owe you"]

    script = [("bill", "One moment."), ("owe", "Never said.")]
    model = ScriptedModel({"support": script, "billing": ["Billing speaking.", "You owe nothing."]})
    ga = bank(model, Thinks)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.user_says("what do I owe", at=4.0)
        await rig.wait_until(6.5)
        rig.session.update_agent(ga.agent("billing"))
        await rig.wait_until(12.0)
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing speaking. You owe nothing.")
    assert user_texts(ga) == ["my bill", "what do I owe you"]


# ---- the recogniser ends with its agent


@pytest.mark.parametrize("at", [4.8, 5.2, 5.6, 6.0])
async def test_words_that_the_old_agents_recogniser_was_not_sure_of_are_answered_too(at: float) -> None:
    model = ScriptedModel(
        {
            "support": [say("Sure.", call("transfer_to_billing"))],
            "billing": lambda messages: "Billing speaking." if "Greet" in messages[-1].text else "You owe nothing.",
        }
    )
    agents = [
        Agent("support", instructions="Support.", handoffs=[Handoff("billing")], voice=own_ears("support")),
        Agent("billing", instructions="Billing.", on_enter="Greet.", voice=own_ears("billing")),
    ]
    ga = GraphAgent(create_voice_graph(agents, llm=model), bases={"support": SlowToLeave})
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.user_says("what do I owe to you dear bank", at=at)  # the floor changes at about 6.1 s
        await rig.wait_until(10.0)
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("You owe nothing.")
    heard = " ".join(user_texts(ga)).split()
    # A word in the middle of which the floor changes reaches neither recogniser whole.
    assert len(heard) in (9, 10)
    assert len(heard) == len(set(heard))


def own_ears(name: str) -> Voice:
    return Voice(tts=lambda: FakeTTS(name), stt=lambda: FakeSTT())


# ---- the agent can't be interrupted


def teller(model: ScriptedModel, seconds: float, says: str | None = None) -> GraphAgent:
    """An agent with a tool that nobody may interrupt."""

    @function_tool
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        ctx.disallow_interruptions()
        if says is not None:
            await ctx.say(says)
        await asyncio.sleep(seconds)
        return "paid"

    agent = Agent("teller", instructions="Pay.", tools=[pay], voice=voice("teller"))
    return GraphAgent(create_voice_graph([agent], llm=model))


PAYING = "I am paying it for you now, please wait until it is done."
KEEP_AUDIO: Any = {"interruption": {"discard_audio_if_uninterruptible": False}}


def pays(messages: list[BaseMessage]) -> Any:
    last = messages[-1]
    if isinstance(last, HumanMessage):
        return call("pay") if last.text == "pay it" else f"You said {last.text}."
    return "It is paid, and you have the receipt in your mail."


@pytest.mark.parametrize("can_pause", [True, False])
@pytest.mark.parametrize("at", [2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5])
async def test_what_is_said_into_words_that_nobody_may_interrupt_is_answered_behind_them(
    at: float, can_pause: bool
) -> None:
    model = ScriptedModel(pays)
    ga = teller(model, 0.5, PAYING)
    async with a_call(ga, model, turn_handling=KEEP_AUDIO, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        await rig.user_says("pay it", at=0.5)
        await rig.user_says("what do I owe", at=at)
        await rig.until_idle()
        said = " ".join(s.text for s in rig.spoken)
        assert said.count("You said what do I owe.") == 1
        assert PAYING in said
        assert rig.spoken[-1].started - max(at + 1.2, rig.spoken[-2].ended) < 1.0
    assert user_texts(ga) == ["pay it", "what do I owe"]


async def test_audio_that_livekit_throws_away_can_not_be_recovered() -> None:
    """LiveKit's default: while the agent can't be interrupted, the recogniser is given silence."""
    model = ScriptedModel(pays)
    ga = teller(model, 0.5, PAYING)
    async with a_call(ga, model) as rig:
        await rig.user_says("pay it", at=0.5)
        await rig.user_says("what do I owe", at=2.5)
        await rig.until_idle()
        assert rig.stt.transcripts == ["pay it"]
    assert user_texts(ga) == ["pay it"]


@pytest.mark.parametrize("at", [2.0, 3.0, 3.5, 4.0, 4.5, 5.0])
async def test_while_a_protected_tool_works_in_silence_nothing_is_lost_by_default(at: float) -> None:
    model = ScriptedModel(pays)
    ga = teller(model, 4.0)
    async with a_call(ga, model) as rig:
        await rig.user_says("pay it", at=0.5)
        await rig.user_says("what", at=at)  # it ends before the tool does, at about 5.7 s
        await rig.until_idle()
        await rig.wait_until(max(rig.now, 9.0))
        await rig.until_idle()
        assert " ".join(s.text for s in rig.spoken).count("You said what.") == 1
    assert user_texts(ga) == ["pay it", "what"]


async def test_fewer_words_than_interrupt_are_no_lost_turn() -> None:
    model = ScriptedModel(pays)
    ga = teller(model, 0.5, PAYING)
    options: Any = {"interruption": {"discard_audio_if_uninterruptible": False, "min_words": 3}}
    async with a_call(ga, model, turn_handling=options) as rig:
        await rig.user_says("pay it", at=0.5)
        await rig.user_says("uh huh", at=3.0)
        await rig.until_idle()
    assert user_texts(ga) == ["pay it"]


async def test_words_that_wait_for_the_program_to_end_the_turn_are_not_lost() -> None:
    model = ScriptedModel(pays)
    ga = teller(model, 0.5, PAYING)
    options: Any = {"turn_detection": "manual", **KEEP_AUDIO}
    async with a_call(ga, model, turn_handling=options) as rig:
        await rig.user_says("pay it", at=0.5)
        await rig.wait_until(2.5)
        await rig.session.commit_user_turn(transcript_timeout=0.1)
        await rig.user_says("what do I owe", at=4.0)
        await rig.until_idle()
        assert user_texts(ga) == ["pay it"]
        await rig.session.commit_user_turn(transcript_timeout=0.1)
        await rig.until_idle()
    assert user_texts(ga) == ["pay it", "what do I owe"]


# ---- at random


class RandomTalk:
    """Two agents that hand over slowly, and a caller who talks at any moment."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.said: list[str] = []
        self.understood: list[str] = []
        """The final transcripts of whoever listened."""
        leaving, working = dice.uniform(0.0, 4.0), dice.uniform(0.0, 3.0)
        ears = [FakeSTT(delay=round(dice.uniform(0.1, 1.4), 2), interim=False) for _ in range(2)]
        own_ears = dice.random() < 0.3

        class Slow(LiveKitAgent):
            async def on_exit(self) -> None:
                await asyncio.sleep(leaving)

        @function_tool
        async def transfer(ctx: RunContext[Any]) -> Any:
            """Transfer the caller."""
            if dice.random() < 0.3:
                ctx.disallow_interruptions()
            await asyncio.sleep(working)
            return ctx.handoff("b" if ctx.agent == "a" else "a", say=dice.choice([None, "Please hold the line."]))

        def ear(number: int) -> Any:
            return (lambda: ears[number]) if own_ears else None

        agents = [
            Agent(
                name,
                instructions=f"You are {name}.",
                tools=[transfer],
                handoffs=[Handoff("b" if name == "a" else "a", tool=False)],
                on_enter=dice.choice([None, "Greet the caller."]),
                voice=Voice(tts=lambda name=name: FakeTTS(name), stt=ear(number)),
            )
            for number, name in enumerate("ab")
        ]
        self.stt = ears[0]
        self.model = ScriptedModel(self.answer, first_token=dice.choice([0.0, 0.3]))
        self.ga = GraphAgent(create_voice_graph(agents, llm=self.model), bases={"a": Slow, "b": Slow})

    def answer(self, messages: list[BaseMessage]) -> Any:
        last = messages[-1]
        if isinstance(last, HumanMessage) and "transfer" in last.text:
            return call("transfer", id=f"call-{len(self.model.prompts)}")
        return f"Heard {last.text}." if isinstance(last, HumanMessage) and "instructions" not in last.text else "Hello."

    def transcribed(self, event: UserInputTranscribedEvent) -> None:
        if event.is_final:
            self.understood.append(event.transcript)

    async def talk(self, rig: VoiceRig) -> None:
        rig.session.on("user_input_transcribed", self.transcribed)
        for _ in range(5):
            for wish in ("transfer", *self.dice.choices(["hello", "question"], k=self.dice.randint(1, 3))):
                self.said.append(f"{wish} w{len(self.said)}")
                await rig.user_says(self.said[-1])
                await asyncio.sleep(self.dice.uniform(0.0, 4.5))
            await rig.until_idle(timeout=300)
            await asyncio.sleep(8)  # an agent that takes its time to leave is silent, too
            await rig.until_idle(timeout=300)


def words_of(texts: list[str]) -> list[str]:
    """Each word once for each time that it was said; two utterances that touch are one word for the recogniser."""
    return sorted(re.findall(r"transfer|hello|question|w\d+", " ".join(texts)))


@pytest.mark.parametrize("seed", range(SEED, SEED + CALLS))
async def test_at_random_what_was_understood_is_a_turn_once_and_the_last_one_is_answered(seed: int) -> None:
    talk = RandomTalk(random.Random(seed))
    with no_accidents():
        async with voice_rig(talk.ga, stt=talk.stt, turn_handling=KEEP_AUDIO) as rig:
            await talk.talk(rig)
            turns = user_texts(talk.ga)
            check_invariants(
                talk.ga.conversation, heard=[s.text for s in rig.spoken], current_agent=rig.session.current_agent.id
            )
            assert handoffs_in_livekit(rig.session) == [h["new_agent_id"] for h in talk.ga.conversation.handoffs]
            last = talk.ga.conversation.messages[-1]
    assert words_of(turns) == words_of(talk.understood)
    assert last.type == "ai"
    assert len(talk.ga.conversation.handoffs) >= 1
    assert not talk.model.errors


@pytest.mark.parametrize("silence", [0.5, 6.0])
async def test_a_long_turn_is_found_as_a_whole_and_one_that_was_over_is_not(silence: float) -> None:
    """The program moves the floor while LiveKit still waits for more, or long after the caller has had an answer."""
    model = ScriptedModel({"support": ["Yes?"] * 4, "billing": ["Billing here.", "Your answer."]})
    ga = bank(model, LiveKitAgent)
    async with a_call(ga, model, turn_handling={"endpointing": {"min_delay": 1.5, "max_delay": 3.0}}) as rig:
        for at, text in ((0.5, "I have a question"), (3.0, "about a bill"), (5.5, "of last year")):
            await rig.user_says(text, at=at, seconds=2.0)
        await asyncio.sleep(silence)
        rig.session.update_agent(ga.agent("billing"))
        await rig.until_idle()
    assert user_texts(ga) == ["I have a question about a bill of last year"]
    answers = [words for role, words in told_by_graph(ga) if role == "assistant"]
    assert answers[-1].endswith("Your answer." if silence < 1 else "Billing here.")


@pytest.mark.parametrize("edited", [True, False])
def test_typed_words_are_no_edit_of_words_that_were_spoken(edited: bool) -> None:
    """The whole call is among the regressions of the proof: words that are typed while spoken ones wait."""
    lost = LostTurns()
    lost.transcribed(UserInputTranscribedEvent(transcript="hello there", is_final=True, created_at=1.0), protected=True)
    lost.claimed(ChatMessage(role="user", content=["hold on"], created_at=2.0), edited=edited)
    found = lost.take_dropped(0)
    assert (found and found.text_content) == (None if edited else "hello there")


@pytest.mark.parametrize("tells", [True, False])
def test_where_nobody_says_when_the_caller_speaks_the_last_words_count(tells: bool) -> None:
    """Not every recogniser says so, and LiveKit calls a silent caller "away" all the same."""
    lost = LostTurns()
    if tells:
        lost.user_state(speaks=True, now=10.0, max_delay=3.0)
    lost.transcribed(
        UserInputTranscribedEvent(transcript="hello there", is_final=True, created_at=19.0), protected=False
    )
    lost.user_state(speaks=False, now=19.5, max_delay=3.0)
    lost.user_state(speaks=False, now=20.0, max_delay=3.0)
    lost.leaving(21.0)
    found = lost.take(3.0, recognizer_ended=False)
    assert found is not None
    assert found.text_content == "hello there"
    lost.transcribed(UserInputTranscribedEvent(transcript="and more", is_final=True, created_at=22.0), protected=False)
    lost.leaving(26.0)
    assert lost.take(3.0, recognizer_ended=False) is None
