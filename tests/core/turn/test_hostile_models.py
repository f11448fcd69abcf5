"""Models that call what isn't there, repeat themselves, stream nonsense or never end: the call goes on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hostile_support import STRANGE, Chunks, HostileCall, Ledger, desk, effects_of, part
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from turn_support import told

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool, history
from graph_voice.testing import ScriptedModel, call, hang, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


@pytest.mark.parametrize(
    "asked",
    [
        call("nothing_like_it", unknown=True),
        call("", unknown=True),
        call("charge; drop table", '{"amount": 1}', unknown=True),
        call("x" * 10_000, unknown=True),
        call("charge", "amount=3"),
        call("charge", '{"amount": 1'),
        call("charge", "[1]"),
        call("charge", "null"),
        call("charge", '"1"'),
        call("charge", '{"amount": NaN}'),
        call("charge", '{"amount": {"$ref": "#"}}'),
        call("charge", '{"amount": "' + "9" * 5_000 + '"}'),
        call("charge", "{" * 2_000),
        call("charge", "\x00"),
    ],
    ids=lambda asked: f"{asked.name[:20]}({asked.args[:20]})".replace("\x00", "NUL"),
)
async def test_a_call_that_can_not_run_is_answered_and_the_model_goes_on(asked: Any) -> None:
    model = ScriptedModel([asked, "I can't do that.", "I'm here."])
    hostile = HostileCall(desk(model))
    assert await hostile.says("go") == "I can't do that."
    assert effects_of(hostile.conversation) == []
    assert await hostile.says("are you there?") == "I'm here."
    assert not model.errors


async def test_a_call_id_that_comes_again_in_its_batch_and_in_later_turns_is_another_call() -> None:
    twice = say(call("charge", {"amount": 1}, id="same"), call("charge", {"amount": 2}, id="same"))
    model = ScriptedModel([twice, "Done.", call("charge", {"amount": 3}, id="same"), "Done again."])
    hostile = HostileCall(desk(model))
    await hostile.says("go")
    await hostile.says("again")
    ran = effects_of(hostile.conversation)
    assert len(set(ran)) == len(ran) == 3
    answers = [m for m in hostile.conversation.messages if isinstance(m, ToolMessage)]
    assert [(m.tool_call_id, m.text) for m in answers] == list(
        zip(ran, [f"charged {n}" for n in (1, 2, 3)], strict=True)
    )
    assert not model.errors


async def test_the_chunks_of_parallel_calls_may_come_in_any_mixture() -> None:
    mixed = [
        AIMessageChunk(content="One "),
        part(0, name="charge", id="a"),
        part(1, name="charge", id="b"),
        part(1, '{"amo'),
        part(0, '{"amount"'),
        AIMessageChunk(content="moment."),
        part(1, 'unt": 2}'),
        part(2, '{"amount": 3}', name="charge", id="c"),
        part(0, ": 1}"),
    ]
    model = Chunks(replies=[mixed, [AIMessageChunk(content="Done.")]])
    hostile = HostileCall(desk(model))
    assert await hostile.says("go") == "One moment.Done."
    assert effects_of(hostile.conversation) == ["a", "b", "c"]
    answers = [m.text for m in hostile.conversation.messages if isinstance(m, ToolMessage)]
    assert answers == ["charged 1", "charged 2", "charged 3"]


@pytest.mark.parametrize(
    "chunks",
    [
        [part(0, '{"amount": 1}', name="charge")],
        [part(None, '{"amount": 1}', name="charge", id="a"), part(None, '{"amount": 2}', name="charge", id="b")],
        [part(0, '{"amount": 1}', name=None, id="a")],
        [part(0, name="charge", id="a"), part(0, "}}}{{{")],
        [part(7, '{"amount": 1}', name="charge", id="a"), part(3, '{"amount": 2}', name="charge", id="b")],
    ],
    ids=["no id", "no index", "no name", "nonsense", "gaps"],
)
async def test_chunks_that_miss_a_part_are_answered_calls(chunks: list[AIMessageChunk]) -> None:
    model = Chunks(replies=[chunks, [AIMessageChunk(content="Done.")], [AIMessageChunk(content="Here.")]])
    hostile = HostileCall(desk(model))
    assert (await hostile.says("go")).endswith("Done.")
    assert await hostile.says("hello?") == "Here."


class Endless(BaseChatModel):
    """Words without end, one every tenth of a second; a short answer to whoever asks it to stop."""

    produced: int = 0

    @property
    def _llm_type(self) -> str:
        return "endless"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise AssertionError("only streamed")

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if "stop" in messages[-1].text:
            yield ChatGenerationChunk(message=AIMessageChunk(content="Stopped."))
            return
        for number in itertools.count():
            self.produced = number + 1
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"w{number} "))
            await asyncio.sleep(0.1)


async def test_a_model_that_never_ends_is_stopped_by_a_barge_in_and_only_what_was_heard_stays() -> None:
    model = Endless()
    conversation: Conversation[Any] = Conversation(create_voice_graph([Agent("a", instructions="A.")], llm=model))
    turn = conversation.turn("tell me everything")
    turn.commit()
    message_id = ""
    async for event in turn:
        if isinstance(event, events.Text):
            message_id = event.message_id
            if event.text == "w600 ":  # a minute
                break
    turn.heard(message_id, "w0 w1 w2")
    turn.interrupt()
    turn.close()
    await turn.wait_finished()
    produced = model.produced
    await asyncio.sleep(60)
    assert model.produced == produced, "it goes on although nobody listens"
    await conversation.run("stop")
    assert told(conversation) == ["human: tell me everything", "ai: w0 w1 w2", "human: stop", "ai: Stopped."]
    check_invariants(conversation, heard=["w0 w1 w2", "Stopped."], said=["tell me everything", "stop"])


async def test_a_call_that_is_closed_while_its_model_never_ends_is_over() -> None:
    model = Endless()
    conversation: Conversation[Any] = Conversation(create_voice_graph([Agent("a", instructions="A.")], llm=model))
    turn = conversation.turn("tell me everything")
    turn.commit()
    await asyncio.sleep(5)
    await asyncio.wait_for(conversation.aclose(), 60)
    assert told(conversation) == ["human: tell me everything"]
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice")]


async def test_a_model_that_stalls_before_its_first_word_is_apologised_for() -> None:
    model = ScriptedModel([hang(), hang(), "I'm here."])
    hostile = HostileCall(desk(model))
    assert "sorry" in await hostile.says("go")
    assert await hostile.says("hello?") == "I'm here."


async def test_a_stalled_model_does_not_hold_up_a_caller_who_speaks_again() -> None:
    model = ScriptedModel([hang(3, text="One moment please, I will look"), "I'm here."])
    conversation = desk(model)
    turn = conversation.turn("go")
    turn.commit()
    await asyncio.sleep(2)
    turn.interrupt()
    turn.close()
    began = asyncio.get_running_loop().time()
    hostile = HostileCall(conversation)
    hostile.said.append("go")
    assert await hostile.says("hello?") == "I'm here."
    assert asyncio.get_running_loop().time() - began < 1


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
async def test_strange_text_of_a_model_is_spoken_and_remembered_as_it_is(text: str) -> None:
    model = ScriptedModel([say(text, call("charge", {"amount": 1})), text, "I'm here."])
    hostile = HostileCall(desk(model))
    assert await hostile.says("go") == text + text
    assert [m.content for m in hostile.conversation.messages if isinstance(m, AIMessage)] == [text, text]
    await hostile.says("hello?")
    assert not model.errors


async def test_200_handoffs_in_a_row_within_one_turn_end_in_a_spoken_reply() -> None:
    def pass_on(messages: list[BaseMessage]) -> Any:
        if model.prompts[-1].tool_choice == "none":
            return "I stay."
        return call("move", {"to": "b" if messages[0].text == "A." else "a"})

    @function_tool
    async def move(ctx: RunContext[Any], to: str) -> Handoff:
        """Pass the caller on."""
        return ctx.handoff(to)

    model = ScriptedModel(pass_on)
    agents = [
        Agent("a", instructions="A.", handoffs=[Handoff("b", tool=False)], tools=[move]),
        Agent("b", instructions="B.", handoffs=[Handoff("a", tool=False)], tools=[move]),
    ]
    hostile = HostileCall(Conversation(create_voice_graph(agents, llm=model), context=Ledger()))
    assert await hostile.says("pass me on") == "I stay."
    assert len(hostile.conversation.handoffs) == 4
    assert not model.errors


async def test_200_handoffs_in_a_row_in_as_many_turns_leave_a_call_like_any_other() -> None:
    def pass_on(messages: list[BaseMessage]) -> Any:
        transfers = [name for name in model.prompts[-1].tools if name.startswith("transfer_to_")]
        ask = isinstance(messages[-1], HumanMessage) and "pass" in messages[-1].text
        return call(transfers[0]) if ask and transfers else "I'm here."

    model = ScriptedModel(pass_on)
    ways = history.last_turns(2)
    agents = [
        Agent("a", instructions="A.", handoffs=[Handoff("b", history=ways)]),
        Agent("b", instructions="B.", handoffs=[Handoff("a", history=ways)], on_enter="Greet."),
    ]
    hostile = HostileCall(Conversation(create_voice_graph(agents, llm=model), context=Ledger()))
    for number in range(200):
        assert await hostile.says(f"pass me on {number}") == "I'm here."
        assert len(model.prompts[-1].messages) < 20
    assert [h["new_agent_id"] for h in hostile.conversation.handoffs] == ["b", "a"] * 100
    assert not model.errors


async def test_a_batch_of_200_handoffs_is_one_handoff() -> None:
    def pass_on(messages: list[BaseMessage]) -> Any:
        if isinstance(messages[-1], HumanMessage) and messages[0].text.startswith("Desk"):
            return say(*[call("transfer_to_bar", id=f"t{n}") for n in range(200)])
        return "The bar."

    model = ScriptedModel(pass_on)
    hostile = HostileCall(desk(model))
    assert await hostile.says("go") == "The bar."
    assert hostile.conversation.active_agent == "bar"
    assert len(hostile.conversation.handoffs) == 1
    told = [m for m in hostile.conversation.messages if isinstance(m, ToolMessage)]
    assert len(told) == 64, "as many as count in one message"
    assert not model.errors
