"""The fake call against plain LiveKit agents: nothing of graph_voice's own is on the line here."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from livekit.agents import NOT_GIVEN, Agent, APIConnectionError, APIConnectOptions, NotGivenOr, function_tool
from livekit.agents.llm import (
    LLM,
    ChatChunk,
    ChatContext,
    ChatMessage,
    ChoiceDelta,
    FunctionToolCall,
    LLMStream,
    Tool,
    ToolChoice,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from graph_voice_livekit.testing import CallStuck, FakeAudioOutput, FakeSTT, FakeTTS, voice_rig

pytestmark = pytest.mark.virtual_clock

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."


class FakeLLM(LLM):
    """Answers with a function of the last message; `call:NAME` calls a tool."""

    def __init__(self, reply: Callable[[ChatContext], str], *, first_token: float = 0.3) -> None:
        super().__init__()
        self.reply = reply
        self.first_token = first_token
        self.asked: list[str] = []

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> LLMStream:
        return FakeLLMStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class FakeLLMStream(LLMStream):
    async def _run(self) -> None:
        llm = self._llm
        assert isinstance(llm, FakeLLM)
        llm.asked.append(last(self._chat_ctx))
        await asyncio.sleep(llm.first_token)
        reply = llm.reply(self._chat_ctx)
        if reply.startswith("call:"):
            call = FunctionToolCall(name=reply[5:], arguments="{}", call_id="call_1")
            self._event_ch.send_nowait(ChatChunk(id="c", delta=ChoiceDelta(role="assistant", tool_calls=[call])))
            return
        for word in reply.split(" "):
            self._event_ch.send_nowait(ChatChunk(id="c", delta=ChoiceDelta(role="assistant", content=word + " ")))
            await asyncio.sleep(0.02)


def last(context: ChatContext) -> str:
    messages = [item for item in context.items if isinstance(item, ChatMessage)]
    return messages[-1].text_content or ""


def assistant() -> Agent:
    return Agent(instructions="Be kind.")


async def test_a_plain_turn_is_heard_and_answered() -> None:
    llm = FakeLLM(lambda context: f"You said {last(context)}, right?")
    tts = FakeTTS("anna")
    async with voice_rig(assistant(), llm=llm, tts=tts) as rig:
        await rig.user_says("hello there", at=0.5, seconds=1.2)
        assert rig.now == pytest.approx(1.7)
        await rig.until_idle()
    (spoken,) = rig.spoken
    assert (spoken.voice, spoken.text.strip(), spoken.interrupted) == (
        "anna",
        "You said hello there, right?",
        False,
    )
    assert spoken.ended - spoken.started == pytest.approx(5 * 0.25)
    assert 2.0 < spoken.started < 4.0
    assert [(role, text.strip()) for role, text in rig.messages] == [
        ("user", "hello there"),
        ("assistant", "You said hello there, right?"),
    ]
    assert [text.strip() for text in rig.captions.shown] == ["You said hello there, right?"]
    assert "".join(synthesis.text for synthesis in tts.synthesized).strip() == "You said hello there, right?"
    assert not rig.errors


@pytest.mark.parametrize("can_pause", [True, False])
async def test_after_a_barge_in_history_has_exactly_the_words_heard(can_pause: bool) -> None:
    llm = FakeLLM(lambda context: STORY if "story" in last(context) else "Fine.")
    async with voice_rig(assistant(), llm=llm, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.wait_until(4.0)
        assert rig.session.agent_state == "speaking"
        await rig.user_says("No thank you stop", at=5.0)
        await rig.until_idle()
    story, fine = rig.spoken
    assert story.interrupted
    assert STORY.startswith(story.text)
    assert 5 <= len(story.text.split()) < len(STORY.split())
    assert 5.4 < story.ended < 5.8  # half a second of speech is an interruption
    assert (fine.text.strip(), fine.interrupted) == ("Fine.", False)
    assert [text.strip() for _, text in rig.messages] == [
        "Tell me a story",
        story.text.strip(),
        "No thank you stop",
        "Fine.",
    ]
    items = [item for item in rig.session.history.items if isinstance(item, ChatMessage)]
    assert [item.interrupted for item in items] == [False, True, False, False]


async def test_a_word_that_is_cut_in_the_middle_was_not_heard() -> None:
    async with voice_rig(assistant(), llm=FakeLLM(lambda context: STORY)) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        begun = rig.now
        await rig.wait_until(begun + 4 * 0.25 + 0.1)
        await rig.session.interrupt()
        await rig.until_idle()
    (story,) = rig.spoken
    assert story.text == "Once upon a time"
    assert story.ended - story.started == pytest.approx(1.1, abs=0.01)


async def test_a_reply_that_is_cut_in_its_first_word_is_not_in_the_history() -> None:
    async with voice_rig(assistant(), llm=FakeLLM(lambda context: STORY)) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 0.1)
        await rig.session.interrupt()
        await rig.until_idle()
    assert [(spoken.text, spoken.interrupted) for spoken in rig.spoken] == [("", True)]
    assert [role for role, _ in rig.messages] == ["user"]


async def test_livekits_synchronizer_estimates_what_was_heard() -> None:
    async with voice_rig(assistant(), llm=FakeLLM(lambda context: STORY), synchronizer=True) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 2.1)
        await rig.session.interrupt()
        await rig.until_idle()
    (story,) = rig.spoken
    told = rig.messages[-1][1]
    assert STORY.startswith(told.strip())
    assert abs(len(told.split()) - len(story.text.split())) <= 3


async def test_a_short_sound_pauses_the_agent_and_it_goes_on() -> None:
    async with voice_rig(assistant(), llm=FakeLLM(lambda context: STORY), stt=FakeSTT(interim=False)) as rig:
        rig.stt.mishears("hm", final="")
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.user_says("hm", at=rig.now + 1, seconds=0.7)
        await rig.until_idle()
    (story,) = rig.spoken
    assert not story.interrupted
    assert story.text.strip() == STORY
    assert story.ended - story.started > len(STORY.split()) * 0.25 + 1


class Billing(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Billing.", tts=FakeTTS("billing"))

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Greet.")


class Support(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Support.", tts=FakeTTS("support"))

    @function_tool
    async def transfer(self) -> Agent:
        """Transfer to billing."""
        return Billing()


async def test_each_agent_speaks_with_its_own_voice() -> None:
    def reply(context: ChatContext) -> str:
        text = last(context)
        if "Greet" in text:
            return "Billing speaking, how can I help?"
        return "call:transfer" if "bill" in text else "Support here."

    async with voice_rig(Support(), llm=FakeLLM(reply)) as rig:
        await rig.user_says("hello", at=0.2)
        await rig.until_idle()
        await rig.user_says("my bill is wrong")
        await rig.until_idle()
        await rig.user_says("hello again")
        await rig.until_idle()
        assert isinstance(rig.session.current_agent, Billing)
    assert [(spoken.voice, spoken.text.strip()) for spoken in rig.spoken] == [
        ("support", "Support here."),
        ("billing", "Billing speaking, how can I help?"),
        ("billing", "Support here."),
    ]
    assert not rig.errors


async def test_a_preemptive_reply_to_a_wrong_guess_is_discarded() -> None:
    llm = FakeLLM(lambda context: f"Charging {last(context).split()[-1]} dollars.")
    async with voice_rig(assistant(), llm=llm) as rig:
        await rig.user_says("charge five", at=0.5, preflight="charge nine")
        await rig.until_idle()
    assert llm.asked == ["charge nine", "charge five"]
    assert [spoken.text.strip() for spoken in rig.spoken] == ["Charging five dollars."]
    assert [text.strip() for _, text in rig.messages] == ["charge five", "Charging five dollars."]


async def test_a_preemptive_reply_to_a_right_guess_is_used_and_comes_sooner() -> None:
    started = {}
    for guess in ("charge five", None):
        llm = FakeLLM(lambda context: "Charging.", first_token=1.0)
        async with voice_rig(assistant(), llm=llm) as rig:
            await rig.user_says("charge five", at=0.5, preflight=guess)
            await rig.until_idle()
        assert llm.asked == ["charge five"]
        started[guess] = rig.spoken[0].started
    assert started["charge five"] < started[None]


async def test_what_livekit_withholds_from_the_recogniser_is_not_understood() -> None:
    llm = FakeLLM(lambda context: STORY)
    async with voice_rig(assistant(), llm=llm) as rig:
        handle = rig.session.say(STORY, allow_interruptions=False)
        await rig.user_says("please stop right now", at=2.0)
        await rig.until_idle()
        assert not handle.interrupted
        assert rig.stt.transcripts == []
    assert llm.asked == []


async def test_two_runs_are_the_same_to_the_microsecond() -> None:
    runs = []
    for _ in range(2):
        async with voice_rig(assistant(), llm=FakeLLM(lambda context: STORY)) as rig:
            await rig.user_says("Tell me a story", at=0.5)
            await rig.user_says("Stop please stop", at=4.3)
            await rig.until_idle(timeout=120)
        runs.append([(s.voice, s.text, round(s.started, 6), round(s.ended, 6), s.interrupted) for s in rig.spoken])
    assert runs[0] == runs[1]
    assert runs[0]


async def test_a_call_that_never_rests_says_who_is_busy() -> None:
    async with voice_rig(assistant(), llm=FakeLLM(lambda context: STORY, first_token=500)) as rig:
        await rig.user_says("hello", at=0.5)
        with pytest.raises(CallStuck, match="agent thinking"):
            await rig.until_idle(timeout=30)


async def test_errors_of_the_session_are_kept() -> None:
    def broken(context: ChatContext) -> str:
        raise APIConnectionError("no line")

    async with voice_rig(assistant(), llm=FakeLLM(broken)) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle(timeout=120)
    assert rig.errors
    assert not rig.spoken


async def test_the_past_can_not_be_scheduled() -> None:
    async with voice_rig(assistant(), llm=FakeLLM(lambda context: "Hi.")) as rig:
        await rig.wait_until(2)
        with pytest.raises(ValueError, match="has passed"):
            await rig.user_says("hello", at=1.0)
