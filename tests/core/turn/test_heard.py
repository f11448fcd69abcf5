"""What was heard is what is remembered: whole, in part, or not at all."""

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from turn_support import one_agent, play, rest, told, until

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, events, function_tool
from graph_voice.errors import TurnError
from graph_voice.testing import ScriptedModel, call, hang, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


@pytest.mark.parametrize(("heard", "remembered"), [("One two three.", 1), ("One two", 1), ("", 0), (None, 0)])
async def test_a_reply_is_remembered_as_it_was_heard(heard: str | None, remembered: int) -> None:
    conversation = one_agent(["One two three."])
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await rest(turn)
    if heard is not None:
        turn.heard(words.message_id, heard)
    turn.close()
    assert told(conversation) == ["human: hi", f"ai: {heard}"][: 1 + remembered]
    if heard == "One two":
        assert conversation.messages[1].additional_kwargs == {"interrupted": True}


async def test_the_last_report_counts_and_the_first_one_dates_the_words() -> None:
    conversation = one_agent(["One two three."])
    turn = conversation.turn("hi")
    turn.commit(at=10)
    words = await until(turn, events.Text)
    await rest(turn)
    turn.heard(words.message_id, "One", at=11)
    conversation.add(("user", "in between"), at=12)
    turn.heard(words.message_id, "One two", at=13)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: One two", "human: in between"]


async def test_heard_of_a_message_that_never_was_is_an_error() -> None:
    conversation = one_agent(["Hello."])
    turn = conversation.turn("hi")
    with pytest.raises(TurnError, match=r"heard\('nobody'\): this turn produced no such message"):
        turn.heard("nobody", "words")
    turn.discard()


async def test_a_late_report_counts_until_a_later_turn_is_over() -> None:
    conversation = one_agent(["One.", "Two.", "Three.", "Four."])
    turn = conversation.turn("a")
    turn.commit()
    words = await until(turn, events.Text)
    await rest(turn)
    turn.close()
    turn.heard(words.message_id, "One.")
    assert told(conversation) == ["human: a", "ai: One."]
    for text in ("b", "c", "d"):
        await play(conversation.turn(text))
    with pytest.raises(TurnError, match="long over"):
        turn.heard(words.message_id, "")
    assert told(conversation)[:2] == ["human: a", "ai: One."]


SIGNED: dict[str, Any] = {
    "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "One two three."}],
    "additional_kwargs": {"signature": "s"},
    "response_metadata": {"id": "resp_1"},
}


@pytest.mark.parametrize(("heard", "kept"), [("One two three.", True), ("One", False)])
async def test_provider_data_is_kept_as_a_whole_or_not_at_all(heard: str, kept: bool) -> None:
    model = FakeMessagesListChatModel(responses=[AIMessage(**SIGNED)])
    conversation: Conversation[Any] = Conversation(create_voice_graph([Agent("a", instructions="Help.")], llm=model))
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await rest(turn)
    turn.heard(words.message_id, heard)
    turn.close()
    message = conversation.messages[1]
    if kept:
        assert (message.content, message.additional_kwargs) == (SIGNED["content"], {"signature": "s"})
        assert message.response_metadata["id"] == "resp_1"
    else:
        assert (message.content, message.additional_kwargs) == ("One", {"interrupted": True})
        assert message.response_metadata == {}


THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}
USE = {"type": "tool_use", "id": "c1", "name": "chat", "input": {}}
FUNCTION_CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "chat", "arguments": "{}"}
SAID = {"type": "text", "text": "Let me see."}
NAMED = {"type": "text", "text": "Let me see.", "id": "msg_1"}
PART = {"type": "text", "text": "Let me"}
ALONE = {k: v for k, v in FUNCTION_CALL.items() if k != "id"}


@pytest.mark.parametrize(
    ("content", "extra", "heard", "kept", "kept_extra"),
    [
        ("Let me see.", {"signatures": {"c1": "s"}}, "Let me", "Let me", {"signatures": {"c1": "s"}}),
        ([THINKING, SAID, USE], {}, "Let me", [THINKING, PART, USE], {}),
        ([THINKING, SAID, USE], {}, "", [THINKING, USE], {}),
        ([REASONING, NAMED, FUNCTION_CALL], {}, "Let me", [PART, ALONE], {}),
        ([NAMED, REASONING, FUNCTION_CALL], {}, "Let me", [PART, REASONING, FUNCTION_CALL], {}),
        ("Let me see.", {"reasoning": {"id": "rs_1"}, "note": 1}, "Let me", "Let me", {"note": 1}),
    ],
    ids=["gemini", "anthropic", "anthropic-unheard", "openai-words-behind", "openai-call-behind", "openai-v0"],
)
@pytest.mark.parametrize("interrupted", [True, False])
async def test_a_message_cut_to_what_was_heard_keeps_the_provider_data_of_its_calls(
    content: Any, extra: Any, heard: str, kept: Any, kept_extra: Any, interrupted: bool
) -> None:
    asking = AIMessage(
        content,
        additional_kwargs=extra,
        tool_calls=[{"name": "quiet", "args": {}, "id": "c1"}],
        response_metadata={"id": "resp_1", "model_provider": "x"},
    )

    @function_tool
    async def quiet() -> str:
        """Be quiet."""
        return "done"

    model = FakeMessagesListChatModel(responses=[asking, AIMessage("It is blue.")])
    agent = Agent("a", instructions="Help.", tools=[quiet])
    conversation: Conversation[Any] = Conversation(create_voice_graph([agent], llm=model))
    object.__setattr__(model, "bind_tools", lambda *args, **kwargs: model)
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await until(turn, events.ToolCalls)
    turn.allow("c1")
    await rest(turn)
    turn.heard(words.message_id, heard, interrupted=interrupted)
    turn.close()
    message = conversation.messages[1]
    assert isinstance(message, AIMessage)
    assert message.content == kept
    assert message.additional_kwargs == {**kept_extra, **({"interrupted": True} if interrupted else {})}
    assert message.response_metadata == {"model_provider": "x"}
    assert [c["id"] for c in message.tool_calls] == ["c1"]
    assert conversation.messages[2].text == "done"


async def test_an_edited_transcript_of_a_whole_message_is_no_interruption() -> None:
    conversation = one_agent(["One two three."])
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await rest(turn)
    turn.heard(words.message_id, "ONE TWO THREE", interrupted=False)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: ONE TWO THREE"]
    assert conversation.messages[1].additional_kwargs == {}


@function_tool
async def chat(ctx: RunContext[Any]) -> str:
    """Speak while working."""
    await ctx.say("Still looking.")
    return "found"


@pytest.mark.parametrize("line", ["Still looking.", "Still", ""])
async def test_what_a_tool_says_belongs_to_the_message_that_called_it(line: str) -> None:
    model = ScriptedModel([say("Let me see.", call("chat")), "It is blue."])
    conversation = one_agent(model, chat)
    turn = conversation.turn("hi")
    turn.commit()
    words = await until(turn, events.Text)
    await until(turn, events.ToolCalls)
    turn.allow("call_1")
    said = await until(turn, events.Say)
    turn.heard(words.message_id, "Let me see.")
    turn.heard(said.message_id, line)
    await rest(turn)
    turn.close()
    spoken = f"Let me see. {line}".strip()
    assert told(conversation) == ["human: hi", f"ai: {spoken} +call_1", "tool: found"]


async def test_a_line_that_nobody_plays_releases_its_tool_when_the_turn_is_closed() -> None:
    conversation = one_agent([say(call("chat")), "It is blue."], chat)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.ToolCalls)
    turn.allow("call_1")
    await until(turn, events.Say)
    turn.close()
    await turn.wait_finished()
    assert told(conversation) == ["human: hi", "ai:  +call_1", "tool: found"]


async def test_a_line_that_a_tool_says_behind_a_barge_in_counts_whenever_it_is_played() -> None:
    @function_tool
    async def look(ctx: RunContext[Any]) -> str:
        """Look."""
        await asyncio.sleep(1)
        await ctx.say("Still looking.")
        return "found"

    conversation = one_agent([say(call("look")), "Yes?", "Well?", "Hm?", "Bye."], look)
    turn = conversation.turn("look")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    await asyncio.sleep(0.5)
    turn.interrupt()
    turn.close()
    said = await until(turn, events.Say)
    for text in ("hi", "ho", "he"):
        await play(conversation.turn(text))
    assert turn not in [run.face for run in conversation.call.state.live.turns]
    turn.heard(said.message_id, "Still looking.")
    await play(conversation.turn("bye"))
    spoken = [m.text for m in conversation.messages if isinstance(m, AIMessage) and m.text]
    assert spoken == ["Yes?", "Well?", "Hm?", "Still looking.", "Bye."]
    check_invariants(conversation, heard=spoken)
    with pytest.raises(TurnError, match="this turn is long over"):
        turn.heard(said.message_id, "Still")


class SlowStore(InMemorySaver):
    """A store that takes 30 ms for each write, like one behind a network."""

    async def aput(self, *args: Any) -> Any:
        await asyncio.sleep(0.03)
        return self.put(*args)

    async def aput_writes(self, *args: Any) -> None:
        await asyncio.sleep(0.03)
        self.put_writes(*args)


async def test_words_that_waited_for_the_store_when_the_caller_cut_in_are_not_remembered() -> None:
    @function_tool
    async def look_up() -> str:
        """Look up."""
        return "it is blue"

    agent = Agent("a", instructions="A", tools=[look_up])
    model = ScriptedModel([call("look_up"), "The answer is blue.", "I see."])
    async with Conversation(create_voice_graph([agent], llm=model), saver=SlowStore()) as conversation:
        turn = conversation.turn("look")
        turn.commit()
        turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
        await until(turn, events.ToolResult)
        await asyncio.sleep(0.01)  # the model has begun to answer, and the result is on its way to the store
        turn.interrupt()
        turn.close()
        await turn.wait_finished()
        assert told(conversation) == ["human: look", "ai:  +call_1", "tool: it is blue"]
        check_invariants(conversation, heard=[])
        await conversation.run("And?")
        assert "blue." not in [m.text for m in model.prompts[-1].messages]


@pytest.mark.parametrize("blank", [" ", "\n", " \n\t"])
async def test_white_space_is_no_message(blank: str) -> None:
    conversation = one_agent([hang(1, text=blank)])
    turn = conversation.turn("hi")
    turn.commit()
    await asyncio.sleep(0.5)
    turn.interrupt()
    turn.close()
    await turn.wait_finished()
    assert told(conversation) == ["human: hi"]
