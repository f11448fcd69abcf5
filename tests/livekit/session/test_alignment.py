"""What was heard goes to the message that said it, whatever the words are and whatever becomes of their transcript."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import pytest
from graph_agent_support import a_call
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import ModelSettings
from livekit.agents.types import TimedString

from graph_voice import Agent, Handoff, Voice, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS

pytestmark = pytest.mark.virtual_clock

TEXTS = {
    "plain": (
        "One moment, please. I look at your bill now, and at the one before.",
        "I found it at last. You owe us forty euros, and not one cent more than that.",
    ),
    "markdown": (
        "One moment, please. I look at the [billing page](https://example.com/a_b?c=1) and run `bill --all` now.",
        "**Found** it, with these parts:\n\n- the *first* month\n- the second month\n\nYou owe _forty_ euros in all.",
    ),
    "emoji": (
        "One moment 🙏🏽 please. Cafe\u0301 bills take a bit 👩‍👩‍👧 longer than the others do.",
        "Found it 🎉 at last. You owe the cafe\u0301 forty euros 💶 and not one cent more.",
    ),
    "rtl": (
        "רגע אחד, בבקשה. אני בודק עכשיו את החשבון שלך, וגם את הקודם.",
        "مَرحبًا، وجدتُها أخيرًا. عليك أربعون يورو، ولا سنت واحد أكثر من ذلك.",
    ),
    "cjk": ("请稍等，我正在看您的账单。还有上个月的账单。", "终于找到了。您一共欠四十欧元，一分也不多。谢谢您的耐心。"),
}
"""Two messages each: what is said before the tool or the handoff, and what is said after it."""


def letters(text: str) -> str:
    """The words alone: no spaces, no signs, no marks."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())


def as_read_aloud(text: str) -> str:
    """A voice is not given the addresses of links: LiveKit takes them out, and timed words do not have them either."""
    return re.sub(r"\]\(.*?\)", "", text)


class Shouting(LiveKitAgent):
    async def transcription_node(
        self, text: AsyncIterable[str | TimedString], model_settings: ModelSettings
    ) -> AsyncIterator[str]:
        async for piece in text:
            yield piece.upper()


class Stripping(LiveKitAgent):
    async def transcription_node(
        self, text: AsyncIterable[str | TimedString], model_settings: ModelSettings
    ) -> AsyncIterator[str]:
        async for piece in text:
            yield re.sub(r"[^\w\s]", "", piece)


EDITS = {"moment": "second", "forty": "40", "找到": "查到", "בבקשה": "נא"}


def replaced(text: str) -> str:
    for old, new in EDITS.items():
        text = text.replace(old, new)
    return text


class Replacing(LiveKitAgent):
    async def transcription_node(
        self, text: AsyncIterable[str | TimedString], model_settings: ModelSettings
    ) -> AsyncIterator[str]:
        async for piece in text:
            yield replaced(piece)


TRANSCRIPTS: dict[str, tuple[type[LiveKitAgent] | None, dict[str, Any]]] = {
    "exact": (None, {}),
    "synchronizer": (None, {"synchronizer": True}),
    "aligned": (None, {"synchronizer": True, "use_tts_aligned_transcript": True}),
    "upper": (Shouting, {"synchronizer": True}),
    "stripped": (Stripping, {"synchronizer": True}),
    "replaced": (Replacing, {"synchronizer": True}),
    "aligned and upper": (Shouting, {"synchronizer": True, "use_tts_aligned_transcript": True}),
}


def speaker(name: str, aligned: bool) -> Voice:
    return Voice(tts=lambda: FakeTTS(name, aligned=aligned, seconds_per_word=0.25))


@function_tool
async def look_up() -> str:
    """Look up the bill."""
    await asyncio.sleep(0.5)
    return "40"


@tool
async def look_up_abroad() -> str:
    """Look up the bill."""
    await asyncio.sleep(0.5)
    return "40"


def one_message(first: str, second: str, aligned: bool, base: Any) -> tuple[GraphAgent, list[str]]:
    graph = create_voice_graph(
        [Agent("host", instructions="Host.", voice=speaker("host", aligned))],
        llm=ScriptedModel([("bill", f"{first} {second}"), ("", "Fine.")]),
    )
    return GraphAgent(graph, bases={"host": base} if base else None), [f"{first} {second}"]


def text_tool_text(first: str, second: str, aligned: bool, base: Any) -> tuple[GraphAgent, list[str]]:
    graph = create_voice_graph(
        [Agent("host", instructions="Host.", tools=[look_up], voice=speaker("host", aligned))],
        llm=ScriptedModel([("bill", [say(first, call("look_up")), second]), ("", "Fine.")]),
    )
    return GraphAgent(graph, bases={"host": base} if base else None), [first, second]


def one_speech(first: str, second: str, aligned: bool, base: Any) -> tuple[GraphAgent, list[str]]:
    """An agent of LangChain's own among ours: both messages are one reply of LiveKit's."""
    model = ScriptedModel([("bill", [say(first, call("look_up_abroad")), second]), ("", "Fine.")])
    host = create_agent(model, tools=[look_up_abroad], system_prompt="Host.", name="host")
    ga = GraphAgent(
        create_voice_graph([host]),
        voices={"host": speaker("host", aligned)},
        bases={"host": base} if base else None,
    )
    return ga, [first, second]


def transfer(first: str, second: str, aligned: bool, base: Any) -> tuple[GraphAgent, list[str]]:
    graph = create_voice_graph(
        [
            Agent(
                "host", instructions="Host.", handoffs=[Handoff("billing", say=first)], voice=speaker("host", aligned)
            ),
            Agent("billing", instructions="Billing.", voice=speaker("billing", aligned)),
        ],
        llm=ScriptedModel(
            {
                "host": [("bill", call("transfer_to_billing")), ("", "Fine.")],
                "billing": [("stop", "Fine."), ("", second)],
            }
        ),
    )
    return GraphAgent(graph, bases={"host": base, "billing": base} if base else None), [first, second]


CALLS = {"one": one_message, "tool": text_tool_text, "speech": one_speech, "transfer": transfer}


@pytest.mark.parametrize("barge_in", [None, 1, 2])
@pytest.mark.parametrize("made", CALLS)
@pytest.mark.parametrize("transcript", TRANSCRIPTS)
@pytest.mark.parametrize("text", TEXTS)
async def test_each_message_holds_what_was_heard_of_it(
    text: str, transcript: str, made: str, barge_in: int | None
) -> None:
    base, options = TRANSCRIPTS[transcript]
    ga, said = CALLS[made](*TEXTS[text], "aligned" in transcript, base)
    async with a_call(ga, **options) as rig:
        await rig.user_says("my bill please", at=0.5)
        if barge_in is not None:
            await rig.until_speaking()
            if barge_in == 2 and len(said) > 1:
                while letters(TEXTS[text][1])[:4] not in letters(rig.loudspeaker.heard):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            else:
                await asyncio.sleep(0.6)
            await rig.user_says("no thank you stop", seconds=1.5)
        await rig.until_idle()
        heard = "".join(s.text for s in rig.spoken)
    edit = replaced if transcript == "replaced" else str
    replies = [m for m in ga.conversation.messages if isinstance(m, AIMessage)]
    if barge_in is not None:
        assert replies.pop().text.strip(".").casefold() == "fine"
        heard = heard[: heard.rindex("Fine")]
    found = [letters(m.text) for m in replies if m.text]
    whole = [{letters(edit(t)), letters(as_read_aloud(edit(t)))} for t in said]
    assert len(found) <= len(whole)
    # All but the last are whole, the last is the beginning of what was said: no word of one is in another.
    assert all(part in forms for part, forms in zip(found[:-1], whole, strict=False))
    assert not found or any(form.startswith(found[-1]) for form in whole[len(found) - 1])
    if barge_in is None:
        assert len(found) == len(whole)
        assert found[-1] in whole[-1]
        assert not any(m.additional_kwargs.get("interrupted") for m in replies)
    elif transcript == "exact":
        assert letters(as_read_aloud(" ".join(m.text for m in replies))) == letters(heard)
