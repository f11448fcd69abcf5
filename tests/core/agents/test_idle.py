"""`Idle`: an agent speaks when its caller is silent, and only then."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from langsmith_sink import LangSmithSink
from langsmith_support import langsmith as langsmith
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, Idle, Reply, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import Call, ScriptedModel, call, run

pytestmark = pytest.mark.virtual_clock

FRONT_ENDS = pytest.mark.parametrize("front_end", ["core", "livekit"])
STILL = "Are you still there?"


class Order(BaseModel):
    items: list[str] = []


@function_tool
async def slow(ctx: RunContext[Order], item: str) -> str:
    """Add an item, slowly."""
    await asyncio.sleep(30)
    ctx.userdata.items.append(item)
    return "added"


@function_tool
async def ask_back() -> str:
    """Ask the caller."""
    return f"said {interrupt('Which size?')}"


def desk(*script: Any, idle: Any = None, own: Any = None, tools: Any = (slow, ask_back), **options: Any) -> Any:
    agent = Agent("desk", instructions="D", on_enter="Greet.", tools=list(tools), idle=own)
    return create_voice_graph([agent], llm=ScriptedModel(list(script)), userdata=Order, idle=idle, **options)


def heard(line: Any) -> list[str]:
    return [m.text for m in line.conversation.messages if m.type == "ai" and m.text]


@FRONT_ENDS
async def test_after_ten_seconds_and_every_ten_seconds_until_the_caller_speaks(front_end: str) -> None:
    graph = desk("Hello.", "Yes?", idle=Idle(after=10, every=10, say=STILL))
    async with Call(graph, front_end=front_end) as line:
        await line.silence(5)
        assert heard(line) == ["Hello."]
        await line.silence(6)
        assert heard(line) == ["Hello.", STILL]
        await line.silence(24)
        assert heard(line) == ["Hello.", *[STILL] * 3]
        await line.says("I am here.")
        assert heard(line)[-1] == "Yes?"
        await line.silence(6)
        assert heard(line)[-1] == "Yes?"
        await line.silence(6)
        assert heard(line)[-1] == STILL, "it begins anew"


@FRONT_ENDS
async def test_it_is_remembered_as_it_was_heard_and_can_be_interrupted(front_end: str) -> None:
    long = "Are you still there? Take your time, I can wait as long as you want, and I am happy to."
    graph = desk("Hello.", "Good.", idle=Idle(after=10, say=long))
    async with Call(graph, front_end=front_end) as line:
        waiting = asyncio.create_task(line.silence(12))
        await asyncio.sleep(12)
        await line.says("Yes, I am here.")
        await waiting
        said = heard(line)
        assert said[0] == "Hello."
        assert said[-1] == "Good."
        assert long.startswith(said[1])
        assert 0 < len(said[1]) < len(long)


@FRONT_ENDS
async def test_it_is_not_said_while_a_tool_runs(front_end: str) -> None:
    graph = desk("Hello.", call("slow", {"item": "tea"}), "It is added.", idle=Idle(after=5, say=STILL))
    async with Call(graph, front_end=front_end) as line:
        await line.says("Tea.")
        assert heard(line) == ["Hello.", "It is added."]
        await line.silence(7)
        assert heard(line)[-1] == STILL


@FRONT_ENDS
async def test_nor_while_a_tool_goes_on_behind_a_barge_in(front_end: str) -> None:
    script = ["Hello.", call("slow", {"item": "tea"}), "Still looking.", "It is added."]
    async with Call(desk(*script, idle=Idle(after=5, say=STILL)), front_end=front_end) as line:
        line.during_tool("slow").says("Are you there?")
        await line.says("Tea.")
        await line.silence(20)
        assert STILL not in heard(line)
        await line.silence(30)
        assert line.conversation.userdata.items == ["tea"]
        assert heard(line)[:3] == ["Hello.", "Still looking.", "It is added."]
        assert set(heard(line)[3:]) == {STILL}


@FRONT_ENDS
async def test_a_model_may_word_it_and_calls_no_tool(front_end: str) -> None:
    model = ScriptedModel(["Hello.", "Can I help?", "Anything else?"])
    agent = Agent("desk", instructions="D", on_enter="Greet.", tools=[slow])
    idle = Idle(
        after=10, generate=lambda order: f"The caller is silent. {len(order.items)} items so far. Ask.", limit=2
    )
    graph = create_voice_graph([agent], llm=model, userdata=Order, idle=idle)
    async with Call(graph, front_end=front_end) as line:
        await line.silence(60)
        assert heard(line) == ["Hello.", "Can I help?", "Anything else?"]
    assert all("0 items so far" in str(p.messages) for p in model.prompts[1:])
    assert {p.tool_choice for p in model.prompts[1:]} == {"none"}
    assert "0 items" not in str(line.conversation.messages)


@FRONT_ENDS
async def test_a_question_that_is_open_stays_open_and_is_asked_again_instead_of_a_generated_line(
    front_end: str,
) -> None:
    script = ["Hello.", call("ask_back"), "A large one."]
    graph = desk(*script, idle=Idle(after=10, generate="Ask whether the caller is there.", limit=1))
    async with Call(graph, front_end=front_end) as line:
        await line.says("A tea.")
        await line.silence(13)
        assert heard(line)[1:] == ["Which size?", "Which size?"]
        await line.says("Large.")
        assert heard(line)[-1] == "A large one."


@FRONT_ENDS
async def test_an_agents_own_comes_before_the_graphs(front_end: str) -> None:
    lead = Agent("lead", instructions="L", on_enter="Greet.", handoffs=[Handoff("desk")])
    desk = Agent("desk", instructions="D", idle=Idle(after=10, say="Hello? This is the desk."))
    script = {"lead": ["Hello.", call("transfer_to_desk")], "desk": ["The desk."]}
    graph = create_voice_graph([lead, desk], llm=ScriptedModel(script), idle=Idle(after=10, say=STILL, limit=1))
    async with Call(graph, front_end=front_end) as line:
        await line.silence(13)
        assert heard(line)[-1] == STILL
        await line.says("The desk, please.")
        await line.silence(13)
        assert heard(line)[-1] == "Hello? This is the desk."


@FRONT_ENDS
async def test_a_line_of_the_program_is_no_silence(front_end: str) -> None:
    async with Call(desk("Hello.", idle=Idle(after=10, say=STILL)), front_end=front_end) as line:
        await line.silence(6)
        await line.program_says("You are number three in the queue, and we will be with you in no time at all.")
        await line.silence(6)
        assert STILL not in heard(line)
        await line.silence(6)
        assert heard(line)[-1] == STILL


@FRONT_ENDS
async def test_what_says_nothing_or_fails_is_no_nudge_and_the_next_one_comes(
    front_end: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []
    async with Call(
        desk("Hello.", idle=Idle(after=10, say=lambda _: words_of(asked), limit=3)), front_end=front_end
    ) as line:
        await line.silence(60)
        assert heard(line) == ["Hello.", STILL]
    assert len(asked) == 3
    assert "what it says in the caller's silence failed" in caplog.text


def words_of(asked: list[int]) -> str:
    asked.append(len(asked))
    if asked[-1] == 1:
        raise LookupError("no words")
    return "" if asked[-1] == 0 else STILL


@FRONT_ENDS
async def test_nothing_is_said_when_the_call_is_over(front_end: str) -> None:
    line = Call(desk("Hello.", idle=Idle(after=10, say=STILL)), front_end=front_end)
    async with line:
        await line.silence(5)
    conversation = line.conversation
    await asyncio.sleep(60)
    assert [m.text for m in conversation.messages] == ["Hello."]
    assert conversation.nudge() is None


async def test_a_conversation_in_text_is_never_nudged_by_itself_and_a_front_end_asks_for_it() -> None:
    conversation = Conversation(desk("Hello.", idle=Idle(after=10, say=STILL)))
    await conversation.run()
    await asyncio.sleep(100)
    assert heard_of(conversation) == ["Hello."]
    due = asyncio.Event()
    conversation.call.silence.begin(due.set)
    await asyncio.sleep(9)
    assert not due.is_set()
    await asyncio.sleep(2)
    assert due.is_set()
    turn = conversation.nudge()
    assert turn is not None
    assert conversation.nudge() is None, "one at a time"
    await conversation.run(turn=turn)
    assert heard_of(conversation) == ["Hello.", STILL]
    await conversation.aclose()


def heard_of(conversation: Conversation[Any]) -> list[str]:
    return [m.text for m in conversation.messages if m.type == "ai"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(2, 12), st.integers(2, 12), st.integers(0, 5))
def test_a_nudge_comes_only_after_as_much_silence_and_never_more_than_allowed(
    pauses: list[int], after: int, every: int, limit: int
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        graph = desk(*["Fine."] * 10, idle=Idle(after=after, every=every, say=STILL, limit=limit))
        conversation = Conversation(graph)
        said: list[float] = []

        async def nudge() -> None:
            if (turn := conversation.nudge()) is not None:
                said.append(loop.time())
                await conversation.run(turn=turn)

        running: set[Any] = set()
        conversation.call.silence.begin(lambda: running.add(asyncio.create_task(nudge())))
        await conversation.run()
        for pause in pauses:
            began = loop.time()
            said.clear()
            await asyncio.sleep(pause + 0.5)
            due = [after + every * n for n in range(limit) if after + every * n <= pause]
            assert [round(at - began) for at in said] == due
            await conversation.run("I am here.")
        await conversation.aclose()

    run(scenario())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Idle(after=0, say="x"), "above 0"),
        (lambda: Idle(every=-1, say="x"), "above 0"),
        (lambda: Idle(), "either what is said"),
        (lambda: Idle(say="x", generate="y"), "either what is said"),
        (lambda: Idle(say=Reply("x")), "generate="),  # type: ignore[arg-type]
        (lambda: Idle(say="x", limit=-1), "whole number"),
        (lambda: Agent("a", instructions="A", idle=10), "Idle"),  # type: ignore[arg-type]
        (lambda: create_voice_graph([Agent("a", instructions="A")], idle="Hello?"), "Idle"),  # type: ignore[arg-type]
    ],
)
def test_what_is_written_wrong_is_refused_with_what_to_write(wrong: Any, told: str) -> None:
    with pytest.raises(BuildError, match=told):
        wrong()


async def test_a_nudge_is_stored_and_traced_like_any_turn(langsmith: LangSmithSink) -> None:
    saver = InMemorySaver()
    graph = desk("Hello.", idle=Idle(after=10, say=STILL))
    async with Conversation(graph, thread_id="1", saver=saver) as conversation:
        await conversation.run()
        conversation.call.silence.begin(lambda: None)
        await asyncio.sleep(11)
        await conversation.run(turn=conversation.nudge())
        await conversation.flush()
        stored = await graph.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": "1"}})
        assert [m.text for m in stored.values["messages"]] == ["Hello.", STILL]
    langsmith.wait()
    assert STILL in str([root.outputs for root in langsmith.roots])
