"""Calls in real rooms: a server, a worker started by its command line, callers with sound both ways."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hearing import likeness

from tests.rooms.caller import joined
from tests.rooms.desk import BILLING, GREETING, STORY, TRANSFER
from tests.rooms.livekit_server import LiveKitServer
from tests.rooms.speech import LOUD, loudness, pitch, plain, transcribe
from tests.rooms.worker_process import Worker

pytestmark = [pytest.mark.rooms, pytest.mark.speech]
Recording = Callable[[str], Awaitable[Path]]
ALIKE = 0.6
"""Of the sounds, what a second recognition must find again; two other sentences have about a third in common."""


async def test_a_caller_is_greeted_speaks_and_hears_the_answer(
    server: LiveKitServer, desk: Worker, recording: Recording, room: str
) -> None:
    async with joined(server, room) as caller:
        greeting = await caller.answered()
        assert likeness(greeting.text, GREETING) > ALIKE
        assert likeness(await transcribe(caller.sound()), GREETING) > ALIKE
        before = caller.now
        await caller.say(await recording("Seven green apples are on the table."))
        answer = await caller.answered(after=1)
        own = " ".join(line.text for line in caller.captions(own=True) if line.final)
        assert likeness(own, "Seven green apples are on the table.") > ALIKE
        assert likeness(answer.text, f"I heard: {own}") > ALIKE
        assert likeness(await transcribe(caller.sound(before)), answer.text) > ALIKE
        states = [a["lk.agent.state"] for _, a in caller.attributes if "lk.agent.state" in a]
        assert states.index("speaking") < states.index("listening", states.index("speaking"))
        assert "thinking" in states
    desk.wait_for_calls(0)
    assert not desk.errors(room)


async def test_a_handoff_is_heard_in_another_voice(
    server: LiveKitServer, desk: Worker, recording: Recording, room: str
) -> None:
    async with joined(server, room) as caller:
        await caller.answered()
        low = pitch(caller.sound())
        await caller.say(await recording("Please connect me to billing."))
        await caller.answered(after=2)
        assert [line.text.strip() for line in caller.captions()[1:]] == [TRANSFER, BILLING]
        before = caller.now
        await caller.say(await recording("My number is forty two."))
        answer = await caller.answered(after=3)
        assert answer.text.startswith("Billing heard")
        assert pitch(caller.sound(before)) > 1.3 * low
    assert not desk.errors(room)


async def test_what_an_interrupted_agent_remembers_is_what_the_caller_heard(
    server: LiveKitServer, desk: Worker, recording: Recording, room: str
) -> None:
    async with joined(server, room) as caller:
        await caller.answered()
        await caller.say(await recording("Tell me a story."))
        await caller.until(
            lambda: len(caller.captions()) > 1 and len(plain(caller.captions()[1].text)) > 6, "the story"
        )
        await caller.say(await recording("Stop it now, please repeat that."))
        answer = await caller.answered(after=2)
        story = caller.captions()[1]
        assert story.final
        heard = plain(story.text)
        assert heard == plain(STORY)[: len(heard)]
        assert 6 < len(heard) < len(plain(STORY))
        remembered = plain(answer.text.removeprefix("I said: "))
        # Captions of an interrupted speech can hold a word more than LiveKit's history.
        assert remembered == heard[: len(remembered)]
        assert len(heard) - len(remembered) <= 2
        before = caller.now
        await asyncio.sleep(1.0)
        assert loudness(caller.sound(before)) < LOUD
    assert not desk.errors(room)


async def test_a_line_written_to_the_chat_is_a_turn(server: LiveKitServer, desk: Worker, room: str) -> None:
    async with joined(server, room) as caller:
        await caller.answered()
        before = caller.now
        await caller.write("three red boats")
        answer = await caller.answered(after=1)
        assert answer.text.strip() == "I heard: three red boats"
        assert likeness(await transcribe(caller.sound(before)), answer.text) > ALIKE


async def test_two_calls_at_once_do_not_mix(
    server: LiveKitServer, desk: Worker, recording: Recording, room: str
) -> None:
    sentences = ["Nine black cats are asleep.", "Our train leaves from Boston."]
    files = [await recording(sentence) for sentence in sentences]
    async with joined(server, f"{room}-a", "ann") as ann, joined(server, f"{room}-b", "bob") as bob:
        await asyncio.gather(ann.answered(), bob.answered())
        assert desk.calls == 2
        await asyncio.gather(ann.say(files[0]), bob.say(files[1]))
        answers = await asyncio.gather(ann.answered(after=1), bob.answered(after=1))
        for answer, mine, other in zip(answers, sentences, reversed(sentences), strict=True):
            assert likeness(answer.text, f"I heard: {mine}") > max(ALIKE, likeness(answer.text, f"I heard: {other}"))
        assert len(ann.captions()) == len(bob.captions()) == 2
        assert {line.speaker for line in ann.captions(own=True)} == {"ann"}
    desk.wait_for_calls(0)


async def test_a_caller_who_comes_back_is_answered_anew_with_what_describe_call_remembers(
    server: LiveKitServer, desk: Worker, room: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with joined(server, room, thread=room) as caller:
            await caller.answered()
            await caller.write("my dog is called Rex")
            await caller.answered(after=1)
            # Somebody else stays, so that the room is not closed: the agent leaves of itself.
            other = await stack.enter_async_context(joined(server, room, "other", agent=None))
            await other.until(lambda: other.agent, "the agent")
        await other.until(lambda: other.agent is None, "the agent's leaving")
        desk.wait_for_calls(0)
    async with joined(server, f"{room}-again", thread=room) as caller:
        await caller.until(lambda: caller.state == "listening", "the agent")  # who does not greet twice
        await caller.write("do you remember?")
        assert (await caller.answered()).text.strip() == "You told me: my dog is called Rex"
    assert not desk.errors(room)
    assert not desk.errors(f"{room}-again")
