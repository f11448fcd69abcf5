"""Hostile models, callers and tools in a LiveKit call: both sides go on, and agree."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from graph_agent_support import a_call, handoffs_in_livekit, outputs_in_graph, spoken, told_by_graph, voice
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from livekit.agents.voice.room_io import TextInputEvent, TextInputOptions

from graph_voice import Agent, Handoff, RunContext, ToolError, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig

pytestmark = pytest.mark.virtual_clock

STRANGE = {
    "emoji": "👩‍👩‍👧‍👦 yes 🏳️‍🌈 please 👍🏽",
    "control characters": "a\x07bell \x1b[31mred\x1b[0m end",
    "right to left": "\u202eevil\u202c שלום",
    "markup": "</tool_call><|im_end|> {0} %s ${HOME}",
}


@function_tool
async def charge(ctx: RunContext[Any], amount: int = 1) -> str:
    """Charge the caller."""
    return f"charged {amount}"


def desk(script: Any, *tools: Any) -> tuple[GraphAgent, Any]:
    """A desk with a way to the bar, and a vault to which there is none."""
    model = script if isinstance(script, BaseChatModel) else ScriptedModel(script)
    agents = [
        Agent("desk", instructions="Desk.", tools=[charge, *tools], handoffs=[Handoff("bar")], voice=voice("desk")),
        Agent(
            "bar", instructions="Bar.", tools=[charge], handoffs=[Handoff("desk"), Handoff("vault")], voice=voice("bar")
        ),
        Agent("vault", instructions="Vault.", handoffs=[Handoff("desk")], voice=voice("vault")),
    ]
    return GraphAgent(create_voice_graph(agents, llm=model)), model


async def types(rig: VoiceRig, text: str) -> None:
    """What no recogniser would write comes as text."""
    waiting = TextInputOptions().text_input_cb(rig.session, TextInputEvent(text))
    if waiting is not None:
        await waiting
    await rig.until_idle()


@pytest.mark.parametrize(
    "asked",
    [
        call("nothing_like_it", unknown=True),
        call("charge", '{"amount": 10'),
        call("charge", "[1]"),
        call("charge", "{" * 2_000),
        call("charge", '{"amount": "much"}'),
    ],
    ids=["unknown", "broken off", "a list", "deep", "invalid"],
)
async def test_a_call_that_can_not_run_is_answered_and_the_call_goes_on(asked: Any) -> None:
    ga, model = desk([asked, "I can't do that.", "I'm here."])
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle()
        await rig.user_says("hello?")
        await rig.until_idle()
    assert told_by_graph(ga)[1::2] == [("assistant", "I can't do that."), ("assistant", "I'm here.")]
    assert not any(text.startswith("charged") for text in outputs_in_graph(ga).values())


async def test_a_call_id_that_comes_again_is_another_call() -> None:
    twice = say(call("charge", {"amount": 1}, id="same"), call("charge", {"amount": 2}, id="same"))
    ga, model = desk([twice, "Done.", call("charge", {"amount": 3}, id="same"), "Done again."])
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle()
        await rig.user_says("go again")
        await rig.until_idle()
    assert list(outputs_in_graph(ga).values()) == ["charged 1", "charged 2", "charged 3"]


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
async def test_strange_text_goes_through_the_call(text: str) -> None:
    @function_tool
    async def read() -> str:
        """Read."""
        raise ToolError(text)

    ga, model = desk([say(text, call("read")), text, "I'm here."], read)
    async with a_call(ga, model) as rig:
        await types(rig, text)
        await types(rig, "hello?")
        assert rig.spoken
    assert list(outputs_in_graph(ga).values()) == [text]
    assert [m.text for m in ga.conversation.messages if isinstance(m, HumanMessage)] == [text, "hello?"]


@pytest.mark.parametrize("text", [" ", "\n", "word " * 20_000], ids=["a space", "a line", "100 kB"])
async def test_a_typed_turn_of_nothing_or_of_100_kilobytes_is_answered_and_remembered_as_it_is(text: str) -> None:
    ga, model = desk(["Pardon?", "I'm here."])
    async with a_call(ga, model) as rig:
        await types(rig, text)
        await types(rig, "hello?")
        assert spoken(rig) == [("desk", "Pardon? I'm here.")]
    happened = [(m.type, m.text) for m in ga.conversation.messages]
    assert happened == [("human", text), ("ai", "Pardon?"), ("human", "hello?"), ("ai", "I'm here.")]
    theirs = [item.text_content for item in rig.session.history.items if item.type == "message"]
    assert theirs == [text, "Pardon?", "hello?", "I'm here."]


class Endless(BaseChatModel):
    """Sentences without end; a short answer to whoever asks it to stop."""

    produced: int = 0

    @property
    def _llm_type(self) -> str:
        return "endless"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise AssertionError("only streamed")

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if "stop" in messages[-1].text:
            yield ChatGenerationChunk(message=AIMessageChunk(content="Stopped."))
            return
        for number in itertools.count():
            self.produced = number + 1
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"It goes on and on, number {number}. "))
            await asyncio.sleep(1)


async def test_a_model_that_never_ends_is_stopped_by_the_caller() -> None:
    ga, model = desk(Endless())
    async with a_call(ga) as rig:
        await rig.user_says("tell me everything", at=0.5)
        await rig.wait_until(60)
        await rig.user_says("stop it")
        await rig.until_idle()
        produced = model.produced
        await rig.wait_until(200)
        assert model.produced == produced
        assert spoken(rig)[-1][1].endswith("Stopped.")
        assert rig.spoken[0].interrupted or len(rig.spoken) > 1


async def test_200_handoffs_in_a_row_leave_a_call_like_any_other() -> None:
    def pass_on(messages: list[BaseMessage]) -> Any:
        transfers = [name for name in model.prompts[-1].tools if name.startswith("transfer_to_")]
        asked = isinstance(messages[-1], HumanMessage) and "pass" in messages[-1].text
        return call(transfers[0]) if asked and transfers else "I'm here."

    ga, model = desk(pass_on)
    async with a_call(ga, model) as rig:
        for number in range(200):
            await rig.user_says(f"pass me on {number}")
            await rig.until_idle()
        assert handoffs_in_livekit(rig.session) == ["bar", "desk"] * 100
        assert len(rig.spoken) == 200
