"""Images and other modalities: what the caller shows reaches the graph's model; what can't work is refused."""

import asyncio
import base64
import io
from typing import Any

import pytest
from graph_agent_support import a_call, a_text_call, agrees, told_by_graph, voice
from langchain_core.messages import HumanMessage
from livekit import rtc
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import AgentSession, llm
from PIL import Image

from graph_voice import Agent, Handoff, Voice, create_voice_graph, history
from graph_voice.errors import BuildError, ModelError
from graph_voice.testing import ScriptedModel, call, check_prompt, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.convert.converters import from_chat_context, to_chat_context

pytestmark = pytest.mark.virtual_clock

PNG = "iVBORw0KGgo="
ADDRESS = llm.ImageContent(image="https://example.com/cat.png")
DATA = llm.ImageContent(image=f"data:image/png;base64,{PNG}")
BLOCKS = {
    "address": (ADDRESS, {"type": "image", "url": "https://example.com/cat.png"}),
    "data": (DATA, {"type": "image", "base64": PNG, "mime_type": "image/png"}),
    "data of another type than it says": (
        llm.ImageContent(image=f"data:image/png;base64,{PNG}", mime_type="image/webp"),
        {"type": "image", "base64": PNG, "mime_type": "image/webp"},
    ),
    "detail": (
        llm.ImageContent(image="https://example.com/cat.png", inference_detail="low"),
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}},
    ),
}


def frame(width: int = 8, height: int = 4) -> rtc.VideoFrame:
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.RGBA, bytes([200, 20, 20, 255]) * width * height)


def picture(block: Any) -> Image.Image:
    """The image of a content block, decoded."""
    assert block["type"] == "image"
    return Image.open(io.BytesIO(base64.b64decode(block["base64"])))


def host(model: ScriptedModel, **options: Any) -> GraphAgent:
    graph = create_voice_graph([Agent("host", instructions="You are the host.", voice=voice("host"))], llm=model)
    return GraphAgent(graph, **options)


def shown(model: ScriptedModel, prompt: int = -1) -> Any:
    """The content of the last user message of a prompt."""
    return next(m for m in reversed(model.prompts[prompt].messages) if isinstance(m, HumanMessage)).content


class Shows(LiveKitAgent):
    """Adds what a camera sees to each of the caller's turns."""

    sees: llm.ImageContent

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        new_message.content.append(self.sees)


# ---- images reach the model


@pytest.mark.parametrize(("image", "block"), BLOCKS.values(), ids=BLOCKS)
async def test_an_image_in_the_users_message_reaches_the_model_and_stays(image: llm.ImageContent, block: Any) -> None:
    model = ScriptedModel(["A cat.", "It sleeps."])
    ga = host(model)
    async with a_text_call(ga, model) as session:
        await session.generate_reply(user_input=llm.ChatMessage(role="user", content=["What is this?", image]))
        await session.run(user_input="And now?")
    content = [{"type": "text", "text": "What is this?"}, block]
    assert shown(model, 0) == content
    assert ga.conversation.messages[0].content == content
    assert model.prompts[1].messages[1].content == content


async def test_a_message_that_is_nothing_but_an_image_is_a_turn() -> None:
    model = ScriptedModel(["A cat."])
    ga = host(model)
    async with a_text_call(ga, model) as session:
        await session.generate_reply(user_input=llm.ChatMessage(role="user", content=[DATA]))
    assert shown(model) == [BLOCKS["data"][1]]
    assert len(ga.conversation.messages) == 2


@pytest.mark.parametrize("preflight", [None, "what is this"])
async def test_what_a_camera_adds_when_the_turn_is_over_reaches_the_model(preflight: str | None) -> None:
    """LiveKit keeps a preemptive reply when the words are the same; its model has not seen the image."""
    model = ScriptedModel([("", "A cat.")])
    Shows.sees = llm.ImageContent(image=frame())
    ga = host(model, bases={"host": Shows})
    async with a_call(ga, model) as rig:
        await rig.user_says("what is this", at=0.5, preflight=preflight)
        await rig.until_idle()
    assert told_by_graph(ga) == [("user", "what is this"), ("assistant", "A cat.")]
    text, image = shown(model)
    assert text == {"type": "text", "text": "what is this"}
    assert picture(image).size == (8, 4)
    assert ga.conversation.messages[0].content == [text, image]


async def test_a_preemptive_reply_is_kept_when_nothing_is_shown() -> None:
    class Listens(LiveKitAgent):
        async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
            assert new_message.text_content == "hello there"

    model = ScriptedModel([("", "Hello.")])
    async with a_call(host(model, bases={"host": Listens}), model) as rig:
        await rig.user_says("hello there", at=0.5, preflight="hello there")
        await rig.until_idle()
    assert len(model.prompts) == 1


async def test_a_video_frame_is_encoded_by_livekit_in_the_size_it_asks_for_once() -> None:
    image = llm.ImageContent(image=frame(64, 32), inference_width=16, inference_height=8)
    context = llm.ChatContext([llm.ChatMessage(id="u", role="user", content=["Look.", image])])
    (message,) = from_chat_context(context)
    block = message.content[1]
    made = picture(block)
    assert (made.format, made.size) == ("JPEG", (16, 8))
    assert isinstance(block, dict)
    encoded = llm.utils.serialize_image(image)  # LiveKit's own cache
    assert encoded.data_bytes is not None
    assert base64.b64decode(block["base64"]) == encoded.data_bytes
    (back,) = to_chat_context([message]).items
    assert isinstance(back, llm.ChatMessage)
    assert isinstance(back.content[1], llm.ImageContent)
    assert (back.content[1].id, back.content[1].inference_width) == (image.id, 16)
    assert back.content[1].image == f"data:image/jpeg;base64,{block['base64']}"


async def test_a_frame_that_can_not_be_encoded_leaves_the_caller_with_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def not_installed() -> None:
        raise ImportError("You haven't included the 'images' optional dependencies.")

    monkeypatch.setattr("livekit.agents.utils.images.image.import_pil", not_installed)
    broken = llm.ImageContent(image=frame())
    model = ScriptedModel(["I can't see it."])
    ga = host(model)
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.generate_reply(user_input=llm.ChatMessage(role="user", content=["What is this?", broken]))
    assert "could not be encoded" in caplog.text
    assert "an image that could not be read" in shown(model)
    assert told_by_graph(ga)[-1] == ("assistant", "I can't see it.")


async def test_audio_is_its_transcript() -> None:
    sound = rtc.AudioFrame(bytes(480), 24000, 1, 240)
    spoken = llm.AudioContent(frame=[sound], transcript="What is this?")
    model = ScriptedModel(["A cat."])
    ga = host(model)
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.generate_reply(user_input=llm.ChatMessage(role="user", content=[spoken, "Tell me."]))
    assert shown(model) == "What is this?\nTell me."
    assert told_by_graph(ga)[0] == ("user", "What is this? Tell me.")


async def test_an_image_of_the_conversation_that_went_before_is_shown() -> None:
    before = llm.ChatContext(
        [
            llm.ChatMessage(id="u", role="user", content=["What is this?", DATA]),
            llm.ChatMessage(id="a", role="assistant", content=["A cat."]),
        ]
    )
    model = ScriptedModel(["It sleeps."])
    ga = host(model, messages=from_chat_context(before))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.run(user_input="And now?")
    assert model.prompts[0].messages[1].content == [{"type": "text", "text": "What is this?"}, BLOCKS["data"][1]]


async def test_an_image_goes_with_the_caller_to_the_next_agent() -> None:
    model = ScriptedModel(
        {"desk": [say("One moment.", call("transfer_to_vet"))], "vet": ["A healthy cat.", "You are welcome."]}
    )
    agents = [
        Agent("desk", instructions="desk.", handoffs=[Handoff("vet", history=history.truncate(max_items=4))]),
        Agent("vet", instructions="vet."),
    ]
    ga = GraphAgent(create_voice_graph(agents, llm=model))
    async with a_text_call(ga, model) as session:
        await session.generate_reply(user_input=llm.ChatMessage(role="user", content=["What has he?", ADDRESS]))
        await asyncio.sleep(2)  # the floor changes
        await session.run(user_input="Thank you.")
    asked = [m for m in model.prompts[-1].messages if isinstance(m.content, list)]
    assert [m.content[1] for m in asked] == [BLOCKS["address"][1]]
    check_prompt(model.prompts[-1].messages)
    # LiveKit's own context of the new agent, which turn detectors read, has the image as well.
    kept = [i for i in session.history.items if i.type == "message" and ADDRESS in i.content]
    assert len(kept) == 1


async def test_a_barge_in_on_the_answer_to_an_image_keeps_the_image() -> None:
    model = ScriptedModel([("now", "Fine."), ("", "This is a cat that sleeps on a very long and very red sofa.")])
    Shows.sees = DATA
    ga = host(model, bases={"host": Shows})
    async with a_call(ga, model) as rig:
        await rig.user_says("what is this", at=0.5)
        await rig.until_speaking()
        await rig.user_says("and now then")
        await rig.until_idle()
        agrees(ga, rig.session)
    images = [m for m in ga.conversation.messages if isinstance(m.content, list)]
    assert [m.type for m in images] == ["human", "human"]


# ---- what can't work


class Realtime(llm.RealtimeModel):
    def __init__(self) -> None:
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=False,
                turn_detection=False,
                user_transcription=False,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=False,
            )
        )

    def session(self, **options: Any) -> Any:
        raise AssertionError("nobody may open it")

    async def aclose(self) -> None: ...


class Duplex(llm.DuplexModel):
    def __init__(self) -> None:
        super().__init__(capabilities=llm.DuplexCapabilities(False, False))

    def session(self, **options: Any) -> Any:
        raise AssertionError("nobody may open it")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("kind", [Realtime, Duplex])
async def test_a_session_with_a_speech_to_speech_model_is_refused_at_its_start(kind: Any) -> None:
    ga = host(ScriptedModel(["Never."]))
    session: AgentSession[Any] = AgentSession(llm=kind(), vad=None)
    with pytest.raises(ModelError, match=r"past LiveKit's llm_node.*create_voice_graph\(\.\.\., llm="):
        await session.start(ga)


class Unasked(llm.LLM[Any]):
    def chat(self, **options: Any) -> Any:
        raise AssertionError("the graph has its own models")


async def test_a_session_with_a_text_model_of_its_own_is_not_refused_and_does_not_answer() -> None:
    ga = host(ScriptedModel(["Hello."]))
    async with a_text_call(ga, llm=Unasked()) as session:
        await session.run(user_input="hi")
    assert told_by_graph(ga) == [("user", "hi"), ("assistant", "Hello.")]


@pytest.mark.parametrize("make", [lambda: Voice(llm=Realtime()), lambda: Voice(options={"llm": Realtime()})])  # type: ignore[arg-type]
def test_a_voice_with_a_model_is_refused(make: Any) -> None:
    with pytest.raises(BuildError, match=r"Agent\(\.\.\., llm=\.\.\.\).*without the graph"):
        make()


def test_an_agent_with_a_speech_to_speech_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"realtime .* without the graph"):
        create_voice_graph([Agent("a", instructions="A.", llm=Realtime())])  # type: ignore[arg-type]
