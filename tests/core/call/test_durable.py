"""A call that survives its process: what another `Conversation` of the same thread takes up."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import interrupt
from pydantic import BaseModel
from turn_support import told

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    LiveSaver,
    RunContext,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.errors import SaverError, TurnError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants


class Caller(BaseModel):
    name: str | None = None


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> str:
    """Record the name."""
    ctx.userdata.name = name
    return "Noted."


def graph(*script: Any, tools: Any = (record_name,)) -> Any:
    billing = Handoff("billing", "To billing.", history=history.full(), say="One moment.")
    return create_voice_graph(
        [
            Agent("host", instructions="Host.", tools=list(tools), handoffs=[billing]),
            Agent("billing", instructions="B."),
        ],
        userdata=Caller,
        llm=ScriptedModel(list(script)),
    )


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncSqliteSaver]:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "calls.db")) as saver:
        yield saver


async def test_the_same_thread_goes_on_in_another_process(sqlite: AsyncSqliteSaver) -> None:
    script = [
        say(call("record_name", {"name": "Ann"})),
        "Hello Ann.",
        say(call("transfer_to_billing")),
        "Billing here.",
    ]
    async with Conversation(graph(*script), thread_id="t", userdata=Caller(), saver=sqlite) as first:
        assert first.resumed is None
        await first.run("I am Ann")
        await first.run("a bill, please")
        before, said = first.state, told(first)
    async with Conversation(graph("Your bill is 3."), thread_id="t", userdata=Caller(), saver=sqlite) as second:
        assert second.resumed is not None
        assert not second.resumed.unanswered
        assert second.userdata == Caller(name="Ann")
        assert second.active_agent == "billing"
        assert [(h["old_agent_id"], h["new_agent_id"]) for h in second.handoffs] == [("host", "billing")]
        assert {k: v for k, v in second.state.items() if v} == {k: v for k, v in before.items() if v}
        assert second.chat_ctx == first.chat_ctx
        seen = await second.run("and?")
        assert next(e.agent for e in seen if isinstance(e, events.Text)) == "billing"
        assert told(second) == [*said, "human: and?", "ai: Your bill is 3."]
        check_invariants(second)


async def test_langgraph_shows_the_call_as_it_was_heard(sqlite: AsyncSqliteSaver) -> None:
    built = graph("Hello there, caller.", "Yes.")
    async with Conversation(built, thread_id="t", saver=sqlite) as conversation:
        turn = conversation.turn("hi")
        turn.commit()
        async for event in turn:
            if isinstance(event, events.Text) and event.text.startswith("Hello"):
                turn.heard(event.message_id, "Hello")
                turn.interrupt()
        turn.close()
        await conversation.flush()
        state = await built.compile(checkpointer=sqlite).aget_state({"configurable": {"thread_id": "t"}})
        assert [m.text for m in state.values["messages"]] == ["hi", "Hello"]
        assert state.next == ()
    # And plain LangGraph goes on with the thread.
    ended = await built.compile(checkpointer=sqlite).ainvoke(
        {"messages": [("user", "more")]}, {"configurable": {"thread_id": "t"}}
    )
    assert [m.text for m in ended["messages"]] == ["hi", "Hello", "more", "Yes."]


async def test_a_discarded_turn_is_not_stored(sqlite: AsyncSqliteSaver) -> None:
    async with Conversation(graph("No.", "Yes."), thread_id="t", saver=sqlite) as conversation:
        guess = conversation.turn("maybe")
        async for event in guess:
            if isinstance(event, events.Text):
                break
        guess.discard()
        await conversation.run("surely")
    async with Conversation(graph(), thread_id="t", saver=sqlite) as again:
        assert told(again) == ["human: surely", "ai: Yes."]


def left_behind(saver: InMemorySaver) -> InMemorySaver:
    """What is durable at this moment: all that a crash leaves."""
    left = InMemorySaver()
    for thread, lines in saver.storage.items():
        for line, found in lines.items():
            left.storage[thread][line].update(found)
    left.writes.update(copy.deepcopy(saver.writes))
    left.blobs.update(saver.blobs)
    return left


@pytest.mark.virtual_clock
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_call_that_was_running_runs_again_or_is_unknown(idempotent: bool) -> None:
    ran: list[str] = []
    hangs = asyncio.Event()

    @function_tool(idempotent=idempotent)
    async def charge(ctx: RunContext[Caller], amount: int) -> str:
        """Charge."""
        ran.append(ctx.tool_call_id or "")
        if ran.count("c") == 1:
            await hangs.wait()
        return f"charged {amount}"

    @function_tool
    async def note() -> str:
        """Note."""
        ran.append("note")
        return "noted"

    saver = InMemorySaver()
    tools = [charge, note]
    ask = say("Right away.", call("note", id="n"), call("charge", {"amount": 3}, id="c"))
    first = await Conversation(graph(ask, "Never heard.", tools=tools), thread_id="t", saver=saver).open()
    turn = first.turn("charge me")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.Text):
            turn.heard(event.message_id, "Right away.")
        if isinstance(event, events.ToolCalls):
            for one in event.calls:
                turn.allow(one.id)
        if isinstance(event, events.ToolResult):
            break
    await asyncio.sleep(1)
    assert sorted(ran) == ["c", "note"]
    left = left_behind(saver)
    stored = await graph().compile(checkpointer=left).aget_state({"configurable": {"thread_id": "t"}})
    assert [m.text for m in stored.values["messages"]] == [
        "charge me",
        "Right away.",
        "noted",
        "The tool call is still in progress.",
    ]

    second = await Conversation(graph("It is done.", tools=tools), thread_id="t", saver=left).open()
    assert second.resumed is not None
    assert second.resumed.unanswered
    assert second.resumed.again == (("charge",) if idempotent else ())
    assert second.resumed.unknown == (() if idempotent else ("charge",))
    back = second.resume()
    async for event in back:
        if isinstance(event, events.Text):
            back.heard(event.message_id, "It is done.")
    back.close()
    assert ran.count("c") == (2 if idempotent else 1)
    assert ran.count("note") == 1
    result = next(m for m in second.messages if isinstance(m, ToolMessage) and m.tool_call_id == "c")
    if idempotent:
        assert result.text == "charged 3"
    else:
        assert "whether it took effect is unknown" in result.text
        assert result.status == "error"
    assert told(second)[-1] == "ai: It is done."
    check_invariants(second)
    await second.aclose()
    hangs.set()
    await first.aclose()


async def test_a_question_of_an_interrupt_is_answered_in_another_process(sqlite: AsyncSqliteSaver) -> None:
    @function_tool
    async def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}: {interrupt(f'Really pay {amount}?')}"

    ask = say("One moment.", call("pay", {"amount": 3}))
    async with Conversation(graph(ask, tools=[pay]), thread_id="t", saver=sqlite) as first:
        await first.run("pay")
        assert [i.value for i in first.interrupts] == ["Really pay 3?"]
    shown = await graph(tools=[pay]).compile(checkpointer=sqlite).aget_state({"configurable": {"thread_id": "t"}})
    assert [i.value for i in shown.interrupts] == ["Really pay 3?"]
    async with Conversation(graph("Done.", tools=[pay]), thread_id="t", saver=sqlite) as second:
        assert [i.value for i in second.interrupts] == ["Really pay 3?"]
        await second.run("yes")
        assert second.interrupts == ()
        assert told(second) == [
            "human: pay",
            "ai: One moment. Really pay 3? +call_1",
            "tool: paid 3: yes",
            "human: yes",
            "ai: Done.",
        ]
    async with Conversation(graph(tools=[pay]), thread_id="t", saver=sqlite) as third:
        assert third.interrupts == ()
        assert told(third)[-1] == "ai: Done."


async def test_a_turn_before_open_says_what_to_write() -> None:
    conversation = Conversation(graph("Hi."), saver=InMemorySaver())
    with pytest.raises(TurnError, match=r"await conversation.open\(\)"):
        conversation.turn("hi")


async def test_two_calls_share_a_saver_and_do_not_mix(sqlite: AsyncSqliteSaver) -> None:
    async with LiveSaver(sqlite) as saver:
        one = await Conversation(graph("One."), thread_id="1", saver=saver).open()
        two = await Conversation(graph("Two."), thread_id="2", saver=saver).open()
        await one.run("a")
        await two.run("b")
        await one.aclose()
        await two.aclose()
    for thread, words in (("1", ["human: a", "ai: One."]), ("2", ["human: b", "ai: Two."])):
        async with Conversation(graph(), thread_id=thread, saver=sqlite) as again:
            assert told(again) == words


class Down(InMemorySaver):
    """A store in which nothing can be written, until it is `up`."""

    up = False

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        if not self.up:
            raise OSError("disk full")
        return await super().aput(*args, **kwargs)


@pytest.mark.virtual_clock
async def test_a_store_that_is_down_stalls_no_word_and_the_end_says_so() -> None:
    loop = asyncio.get_running_loop()
    script = [say(call("record_name", {"name": "Ann"})), "Hello Ann.", say(call("record_name", {"name": "Bo"})), "Bo."]
    conversation = await Conversation(graph(*script), thread_id="t", saver=LiveSaver(Down())).open()
    began = loop.time()
    await conversation.run("I am Ann")
    await conversation.run("no, Bo")
    assert loop.time() - began < 0.7  # waited for once, and not again
    assert told(conversation)[-1] == "ai: Bo."
    with pytest.raises(SaverError, match="disk full"):
        await conversation.flush(timeout=3)
    with pytest.raises(SaverError, match="disk full"):
        await conversation.aclose(timeout=3)


class Slow(InMemorySaver):
    """A store that takes its time, and notes when what was durable."""

    def __init__(self) -> None:
        super().__init__()
        self.durable: list[str] = []

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await asyncio.sleep(0.1)
        await super().aput_writes(config, writes, task_id, task_path)

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0.1)
        return await super().aput(*args, **kwargs)


@pytest.mark.virtual_clock
async def test_a_tool_acts_when_its_intent_is_durable_and_its_result_is_durable_before_the_reply() -> None:
    saver = Slow()
    seen: dict[str, list[str]] = {}

    async def durable() -> list[str]:
        state = await graph().compile(checkpointer=left_behind(saver)).aget_state({"configurable": {"thread_id": "t"}})
        return [m.text for m in state.values.get("messages", ())]

    @function_tool
    async def act() -> str:
        """Act."""
        seen["act"] = await durable()
        return "acted"

    conversation = await Conversation(
        graph(say("Now.", call("act", id="c")), "It is done.", tools=[act]), thread_id="t", saver=saver
    ).open()
    turn = conversation.turn("act")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            turn.allow("c")
        if isinstance(event, events.Text):
            seen.setdefault(event.text, await durable())
            turn.heard(event.message_id, event.text)
    turn.close()
    assert "The tool call is still in progress." in seen["act"]
    assert "acted" in seen["It"]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_one_task_writes_a_call_and_none_when_it_is_over() -> None:
    saver, writing = Slow(), set[str]()

    def writers() -> set[str]:
        return {name for t in asyncio.all_tasks() if "journal" in (name := t.get_name()) or "write-behind" in name}

    @function_tool
    async def act() -> str:
        """Act."""
        writing.update(writers())
        await asyncio.sleep(1)
        return "acted"

    conversation = await Conversation(
        graph(say("Now.", call("act", id="c")), "It is done.", tools=[act]), thread_id="t", saver=saver
    ).open()
    turn = conversation.turn("act")
    turn.commit()
    async for event in turn:
        writing |= writers()
        if isinstance(event, events.ToolCalls):
            turn.allow("c")
        elif isinstance(event, events.Text):
            turn.heard(event.message_id, event.text)
            await asyncio.sleep(0.55)  # the change is on its way
            writing |= writers()
    turn.close()
    await conversation.aclose()
    assert writing == {"graph_voice write-behind"}
    assert writers() == set()


@pytest.mark.virtual_clock
async def test_what_a_front_end_reports_when_the_call_is_over_is_stored_at_once() -> None:
    saver = Slow()
    conversation = await Conversation(graph("Goodbye then."), thread_id="t", saver=saver).open()
    turn = conversation.turn("bye")
    turn.commit()
    said, *_ = [event async for event in turn if isinstance(event, events.Text)]
    await conversation.aclose()
    turn.heard(said.message_id, "Goodbye")  # it was still being played
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.25)
    async with Conversation(graph(), thread_id="t", saver=left_behind(saver)) as again:
        assert told(again) == told(conversation) == ["human: bye", "ai: Goodbye"]
    await conversation.flush()
    assert asyncio.get_running_loop().time() - began < 0.5


async def _first_words(script: list[Any], tools: Any, saver: Any, call_id: str) -> float:
    """Virtual seconds from the permission to the first words behind the call. Each write takes 0.1 seconds."""
    loop = asyncio.get_running_loop()
    made = graph(tools=tools)
    model = ScriptedModel(script, first_token=0.5)
    conversation = await Conversation(made, thread_id="t", saver=saver, config={"configurable": {"llm": model}}).open()
    turn = conversation.turn("go")
    turn.commit()
    began = 0.0
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            await conversation.flush()
            began = loop.time()
            turn.allow(call_id)
        if isinstance(event, events.Say):
            turn.heard(event.message_id, event.text)
        if isinstance(event, events.HandedOff):
            turn.confirm_handoff(event.call_id)
        if isinstance(event, events.Text) and began:
            break
    took = loop.time() - began
    turn.close()
    await conversation.aclose()
    return took


@pytest.mark.virtual_clock
async def test_a_result_is_written_while_the_next_model_thinks() -> None:
    script = [call("record_name", {"name": "Ann"}, id="c"), "Hello."]
    took = await _first_words(script, [record_name], Slow(), "c")
    assert took == pytest.approx(0.5 + 0.2)  # the model, and the intent's two writes in front of the tool


@pytest.mark.virtual_clock
async def test_a_transfer_waits_for_no_store() -> None:
    script = [call("transfer_to_billing", id="c"), "Billing here."]
    assert await _first_words(script, [record_name], Slow(), "c") == pytest.approx(0.5)


# ---- the bound


@pytest.mark.virtual_clock
@pytest.mark.parametrize("policy", ["go_on", "end_call"])
async def test_at_the_bound_the_call_goes_on_or_ends_with_a_word(policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = Down()
    saver = LiveSaver(store, max_lag=10, at_max_lag=policy, closing_message=lambda u: f"Goodbye {u.name}.")
    script = [say(call("record_name", {"name": "Ann"})), "Hello Ann.", "Yes.", "Still here."]
    conversation = await Conversation(graph(*script), thread_id="t", saver=saver).open()
    await conversation.run("I am Ann")
    await conversation.run("are you there")
    assert told(conversation)[-1] == "ai: Yes."  # not so late yet
    assert "s behind" not in caplog.text
    await asyncio.sleep(20)
    assert 19 <= conversation.durable_lag <= 21
    assert caplog.text.count("s behind") == 1
    turn = conversation.turn("and now")
    seen = await conversation.run(turn=turn)
    assert told(conversation)[-2:] == ["human: and now", "ai: Still here." if policy == "go_on" else "ai: Goodbye Ann."]
    assert seen[-1] == events.Ended(ends_call=policy == "end_call")
    check_invariants(conversation)
    with pytest.raises(SaverError, match="disk full"):
        await conversation.aclose(flush_timeout=3)


@pytest.mark.virtual_clock
async def test_a_store_that_is_back_ends_no_call() -> None:
    store = Down()
    saver = LiveSaver(store, max_lag=10, at_max_lag="end_call")
    async with Conversation(graph("Yes.", "Still here."), thread_id="t", saver=saver) as conversation:
        await conversation.run("are you there")
        await asyncio.sleep(20)
        store.up = True
        await asyncio.sleep(6)
        await conversation.run("and now")
        assert told(conversation)[-1] == "ai: Still here."


@pytest.mark.virtual_clock
async def test_a_function_of_last_words_that_fails_is_no_silence(caplog: pytest.LogCaptureFixture) -> None:
    saver = LiveSaver(Down(), max_lag=1, at_max_lag="end_call", closing_message=lambda u: u.nothing)
    conversation = await Conversation(graph("Yes."), thread_id="t", saver=saver).open()
    await conversation.run("are you there")
    await asyncio.sleep(5)
    await conversation.run("and now")
    assert "technical problem" in told(conversation)[-1]
    with pytest.raises(SaverError):
        await conversation.aclose(flush_timeout=1)


def test_another_policy_is_refused() -> None:
    with pytest.raises(SaverError, match='write "go_on" or "end_call"'):
        LiveSaver(InMemorySaver(), at_max_lag="hang up")  # type: ignore[arg-type]


@pytest.mark.virtual_clock
async def test_a_turn_whose_copy_is_late_says_so_in_its_trace() -> None:
    seen: list[dict[str, Any]] = []

    class Listener(AsyncCallbackHandler):
        async def on_chain_start(self, *_: Any, metadata: Any = None, parent_run_id: Any = None, **__: Any) -> None:
            if parent_run_id is None:
                seen.append(dict(metadata))

    config: Any = {"callbacks": [Listener()]}
    conversation = Conversation(graph("Yes.", "Still."), thread_id="t", saver=LiveSaver(Down()), config=config)
    await conversation.open()
    await conversation.run("are you there")
    await asyncio.sleep(4)
    await conversation.run("and now")
    assert "durable_lag_ms" not in seen[0]
    assert 3000 <= seen[1]["durable_lag_ms"] <= 4000
    with pytest.raises(SaverError):
        await conversation.aclose(flush_timeout=1)


# ---- opening


class Unreadable(InMemorySaver):
    """A store that answers from the n-th time on."""

    def __init__(self, fails: int) -> None:
        super().__init__()
        self.fails = fails

    async def aget_tuple(self, config: Any) -> Any:
        self.fails -= 1
        if self.fails >= 0:
            raise OSError("no route to host")
        return await super().aget_tuple(config)


@pytest.mark.virtual_clock
async def test_a_store_that_can_not_be_read_is_waited_for_as_long_as_was_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OSError, match="no route"):
        await Conversation(graph("Hi."), saver=Unreadable(1)).open()
    loop = asyncio.get_running_loop()
    began = loop.time()
    store = Unreadable(10**9)
    conversation = await Conversation(graph("Hi."), thread_id="t", saver=store).open(patience=2)
    assert 1.9 < loop.time() - began < 2.1
    assert "thread t can't be read, and the call goes on as a new one: OSError('no route to host')" in caplog.text
    await conversation.run("hello")
    with pytest.raises(SaverError, match="no route"):
        await conversation.flush(timeout=1)  # nobody knows whether another call has taken the thread up
    store.fails = 0
    await conversation.aclose()
    assert told(conversation) == ["human: hello", "ai: Hi."]


@pytest.mark.virtual_clock
async def test_a_store_that_is_back_in_time_is_read() -> None:
    store = Unreadable(0)
    async with Conversation(graph("Hi."), thread_id="t", saver=store) as first:
        await first.run("hello")
    store.fails = 3
    second = await Conversation(graph("Hi."), thread_id="t", saver=store).open(patience=2)
    assert told(second) == ["human: hello", "ai: Hi."]
    await second.aclose()


@pytest.mark.virtual_clock
async def test_what_is_said_before_the_thread_was_read_comes_behind_what_it_holds() -> None:
    store = InMemorySaver()
    async with Conversation(graph("Hi."), thread_id="t", saver=store) as first:
        await first.run("hello")
    second = Conversation(graph("Yes."), thread_id="t", saver=store, userdata=Caller(name="Nobody"))
    second.add({"role": "user", "content": "are you there"})
    await second.open()
    assert told(second) == ["human: hello", "ai: Hi.", "human: are you there"]
    assert second.userdata == Caller()
    await second.aclose()
    third = await Conversation(graph(), thread_id="t", saver=store).open()
    assert told(third) == told(second)


@pytest.mark.virtual_clock
async def test_a_saver_without_asynchronous_methods_is_asked_in_a_thread(tmp_path: Path) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "calls.db")) as store:
        async with Conversation(graph("Hi."), thread_id="t", saver=store) as first:
            await first.run("hello")
        async with Conversation(graph("Yes."), thread_id="t", saver=store) as second:
            assert told(second) == ["human: hello", "ai: Hi."]


# ---- transfers


@pytest.mark.virtual_clock
@pytest.mark.parametrize("tool", ["transfer_to_billing", "leave"])
async def test_a_transfer_that_was_answered_before_the_floor_changed_is_still_running(tool: str) -> None:
    @function_tool(handoffs=["billing"])
    async def leave(ctx: RunContext[Caller]) -> Any:
        """Leave."""
        return ctx.handoff("billing", say="One moment.")

    saver = InMemorySaver()
    first = await Conversation(graph(say(call(tool, id="c")), tools=[leave]), thread_id="t", saver=saver).open()
    turn = first.turn("my bill")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            turn.allow("c")
        if isinstance(event, events.HandedOff):
            break
    await first.flush()
    left = left_behind(saver)

    second = await Conversation(graph("Here I am.", tools=[leave]), thread_id="t", saver=left).open()
    assert second.resumed is not None
    assert second.resumed.again == (("transfer_to_billing",) if tool != "leave" else ())
    assert second.resumed.unknown == ()  # the tool has ended, only the floor is where it was
    await second.run(turn=second.resume())
    assert second.active_agent == ("billing" if tool != "leave" else "host")
    answers = [m.text for m in second.messages if isinstance(m, ToolMessage)]
    assert answers == ["Transferring to billing." if tool != "leave" else "The transfer did not take place."]
    check_invariants(second)
    turn.close()
    await first.aclose()
    await second.aclose()


@pytest.mark.virtual_clock
async def test_a_transfer_that_runs_again_can_be_rejected() -> None:
    saver = InMemorySaver()
    first = await Conversation(graph(say(call("transfer_to_billing", id="c"))), thread_id="t", saver=saver).open()
    turn = first.turn("my bill")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            turn.allow("c")
        if isinstance(event, events.HandedOff):
            break
    await first.flush()
    second = await Conversation(graph("Never said."), thread_id="t", saver=left_behind(saver)).open()
    back = second.resume()
    async for event in back:
        if isinstance(event, events.HandedOff):
            back.reject_handoff(event.call_id, "no")
    back.close()
    assert second.active_agent == "host"
    assert [m.text for m in second.messages if isinstance(m, ToolMessage)] == ["no"]
    check_invariants(second)
    turn.close()
    await first.aclose()
    await second.aclose()
