"""Images in what the caller says, and what stands for them where only text can go."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from trace_support import Recorder
from turn_support import one_agent

from graph_voice import history
from graph_voice.messages.content import plain_text
from graph_voice.testing import ScriptedModel

pytestmark = pytest.mark.virtual_clock


IMAGE = {"type": "image", "base64": "QUJD", "mime_type": "image/png"}


async def test_a_turn_takes_content_blocks() -> None:
    model = ScriptedModel(["A cat."])
    conversation = one_agent(model)
    await conversation.run([{"type": "text", "text": "What is this?"}, IMAGE])
    assert model.prompts[0].messages[-1].content == [{"type": "text", "text": "What is this?"}, IMAGE]
    assert conversation.messages[0].content == [{"type": "text", "text": "What is this?"}, IMAGE]
    assert isinstance(conversation.messages[1], AIMessage)


@pytest.mark.parametrize(
    ("final", "remembered"),
    [
        ("What's this?", [{"type": "text", "text": "What's this?"}, IMAGE]),
        ("What is this", [{"type": "text", "text": "What is this"}, IMAGE]),
        ([{"type": "text", "text": "Look."}], [{"type": "text", "text": "Look."}]),
    ],
)
async def test_a_final_transcript_replaces_the_words_and_not_the_image(final: Any, remembered: Any) -> None:
    conversation = one_agent(["A cat."])
    turn = conversation.turn([{"type": "text", "text": "What is this"}, IMAGE])
    turn.commit(final)
    turn.close()
    await conversation.aclose()
    assert conversation.messages[0].content == remembered


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Words.", "Words."),
        ([{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}], "A cat."),
        ([{"type": "text", "text": "What is this? "}, IMAGE], "What is this? [image]"),
        ([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}], "[image]"),
        (["Listen: ", {"type": "audio", "base64": "QUJD", "mime_type": "audio/wav"}], "Listen: [audio]"),
        ([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Yes."}], "Yes."),
    ],
)
def test_a_placeholder_stands_for_an_image_in_text(content: Any, text: str) -> None:
    assert plain_text(HumanMessage(content)) == text


async def test_an_image_survives_truncation() -> None:
    shown = HumanMessage([{"type": "text", "text": "What is this?"}, IMAGE], id="1")
    messages = [HumanMessage("Hi.", id="0"), shown, AIMessage("A cat.", id="2")]
    assert await history.apply(history.truncate(max_items=2), messages) == messages[1:]


async def test_a_summary_is_asked_for_without_the_image_and_says_that_there_was_one() -> None:
    model = ScriptedModel(["They looked at a cat."])
    messages = [
        HumanMessage([IMAGE], id="1"),
        AIMessage("A cat.", id="2", tool_calls=[{"name": "scan", "args": {}, "id": "c"}]),
        ToolMessage([{"type": "text", "text": "whiskers"}, IMAGE], id="3", tool_call_id="c", name="scan"),
    ]
    await history.apply(history.summarize(), messages, model=model)
    asked = model.prompts[0].messages[-1]
    assert isinstance(asked.content, str)
    assert "<user>[image]</user>" in asked.content
    assert '<result of="scan">whiskers [image]</result>' in asked.content
    assert "QUJD" not in asked.content


async def test_the_trace_has_a_placeholder_for_an_image() -> None:
    recorder = Recorder()
    conversation = one_agent(["A cat."], config={"callbacks": [recorder]})
    await conversation.run([{"type": "text", "text": "What is this?"}, IMAGE])
    await conversation.aclose()
    (root,) = recorder.roots
    assert root["inputs"]["text"] == root["outputs"]["text"] == "What is this? [image]"
