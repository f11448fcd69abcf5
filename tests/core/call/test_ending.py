"""The end of a call: running tools finish, the active agent leaves once, and nothing is left running."""

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel
from trace_support import Recorder
from turn_support import one_agent, play, told, until

from graph_voice import Agent, Conversation, Handoff, RunContext, Turn, create_voice_graph, events, function_tool
from graph_voice.errors import TurnError
from graph_voice.testing import ScriptedModel, call, hang, say
from graph_voice.testing.invariants import check_invariants
from graph_voice.turn.state import TurnState

pytestmark = pytest.mark.virtual_clock


class Caller(BaseModel):
    name: str | None = None
    visits: int = 0


class Exits:
    """An `on_exit` that notes each time it ran."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []

    async def __call__(self, ctx: RunContext[Any]) -> None:
        self.seen.append((ctx.agent, ctx.close_reason))


def desk(on_exit: Any, script: Any = ("Hello.",), *tools: Any, **options: Any) -> Conversation[Any]:
    model = ScriptedModel(list(script))
    agent = Agent("desk", instructions="Help.", tools=list(tools), on_exit=on_exit)
    return Conversation(create_voice_graph([agent], userdata=Caller, llm=model), **options)


@function_tool
async def slow() -> str:
    """Be slow."""
    await asyncio.sleep(4)
    return "done"


@function_tool
async def endless() -> str:
    """Never end."""
    await asyncio.Event().wait()
    return "never"


async def running(conversation: Conversation[Any]) -> Turn:
    """A turn whose first call runs."""
    turn = conversation.turn("hi")
    turn.commit()
    asked = await until(turn, events.ToolCalls)
    turn.allow(asked.calls[0].id)
    await asyncio.sleep(1)
    return turn


# ---- on_exit


async def test_the_active_agent_leaves_once_and_is_told_why() -> None:
    exits = Exits()
    conversation = desk(exits)
    await conversation.run("hi")
    await asyncio.gather(conversation.aclose("participant_disconnected"), conversation.aclose("error"))
    await conversation.aclose()
    assert exits.seen == [("desk", "participant_disconnected")]


async def test_each_agent_that_had_the_floor_leaves_once() -> None:
    exits = Exits()
    model = ScriptedModel({"a": [call("transfer_to_b")], "b": ["B here."]})
    agents = [
        Agent("a", instructions="You are a.", handoffs=[Handoff("b")], on_exit=exits),
        Agent("b", instructions="You are b.", on_exit=exits),
    ]
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    await conversation.run("hi")
    assert exits.seen == [("a", None)]  # it handed over
    await conversation.aclose("task_completed")
    assert exits.seen == [("a", None), ("b", "task_completed")]


async def test_a_handoff_that_nobody_confirmed_leaves_the_old_agent_to_say_goodbye() -> None:
    exits = Exits()
    model = ScriptedModel({"a": [call("transfer_to_b")], "b": ["B here."]})
    agents = [
        Agent("a", instructions="You are a.", handoffs=[Handoff("b")], on_exit=exits),
        Agent("b", instructions="You are b.", on_exit=exits),
    ]
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    turn = await running(conversation)
    await until(turn, events.HandedOff)
    await conversation.aclose()
    assert exits.seen == [("a", "user_initiated")]
    assert conversation.active_agent == "a"
    check_invariants(conversation)


async def test_on_exit_sees_the_call_and_what_it_changes_counts() -> None:
    store = InMemoryStore()

    async def leave(ctx: RunContext[Caller]) -> None:
        assert ctx.store is not None
        ctx.userdata.visits += 1
        await ctx.store.aput(("calls",), "last", {"said": ctx.chat_ctx[-1].text, "context": ctx.context})

    conversation = desk(leave, ["Hello."], store=store, context={"shop": 7})
    given: list[int] = []
    conversation.call.on_userdata = lambda: given.append(conversation.userdata.visits)
    await conversation.run("hi")
    await conversation.aclose()
    assert conversation.userdata.visits == 1
    assert given == [1]
    found = await store.aget(("calls",), "last")
    assert found is not None
    assert found.value == {"said": "Hello.", "context": {"shop": 7}}


async def test_words_of_on_exit_are_neither_made_nor_remembered() -> None:
    said: list[str] = []

    async def leave(ctx: RunContext[Any]) -> None:
        await ctx.say("Goodbye.")
        said.append(await ctx.generate_reply("Say goodbye."))

    model = ScriptedModel(["Hello."])
    conversation: Conversation[Any] = Conversation(
        create_voice_graph([Agent("desk", instructions="Help.", on_exit=leave)], llm=model)
    )
    await conversation.run("hi")
    await conversation.aclose()
    assert said == [""]
    assert len(model.prompts) == 1
    assert told(conversation) == ["human: hi", "ai: Hello."]


async def test_an_on_exit_that_fails_does_not_break_the_close(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(ctx: RunContext[Caller]) -> None:
        ctx.userdata.name = "Ada"
        raise RuntimeError("no line")

    conversation = desk(leave)
    await conversation.run("hi")
    await conversation.aclose()
    assert "agent desk: on_exit failed" in caplog.text
    assert conversation.userdata.name == "Ada"


async def test_an_on_exit_that_hangs_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(ctx: RunContext[Caller]) -> None:
        await asyncio.Event().wait()

    conversation = desk(leave)
    await conversation.run("hi")
    before = asyncio.get_running_loop().time()
    await conversation.aclose(timeout=7)
    assert asyncio.get_running_loop().time() - before == pytest.approx(7)
    assert "on_exit did not end within 7" in caplog.text


async def test_invalid_userdata_of_on_exit_is_not_stored(caplog: pytest.LogCaptureFixture) -> None:
    class Strict(BaseModel):
        tags: list[str] = []

    async def leave(ctx: RunContext[Strict]) -> None:
        ctx.userdata.tags.append(7)  # type: ignore[arg-type]

    agent = Agent("desk", instructions="Help.", on_exit=leave)
    conversation: Conversation[Any] = Conversation(
        create_voice_graph([agent], userdata=Strict, llm=ScriptedModel(["Hello."]))
    )
    await conversation.run("hi")
    await conversation.aclose()
    assert "on_exit set invalid userdata" in caplog.text
    assert conversation.userdata.tags == []


async def test_on_exit_comes_behind_the_tools_and_sees_their_results() -> None:
    seen: list[Any] = []

    async def leave(ctx: RunContext[Any]) -> None:
        seen.extend(ctx.chat_ctx)

    conversation = desk(leave, [say("One moment.", call("slow"))], slow)
    await running(conversation)
    await conversation.aclose()
    assert [m.type for m in seen] == ["human", "ai", "tool"]
    assert seen[-1].text == "done"


# ---- what runs


async def test_running_tools_finish_and_are_remembered() -> None:
    conversation = one_agent([call("slow"), "Done."], slow)
    await running(conversation)
    await conversation.aclose()
    assert told(conversation)[-1] == "tool: done"
    check_invariants(conversation)


async def test_a_tool_that_never_ends_is_stopped_and_its_outcome_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    exits = Exits()
    conversation = desk(exits, [call("endless")], endless)
    await running(conversation)
    with caplog.at_level(logging.WARNING, "graph_voice"):
        await conversation.aclose(timeout=5)
    assert "did not end within 5 seconds" in caplog.text
    assert "whether it took effect is unknown" in told(conversation)[-1]
    assert exits.seen == [("desk", "user_initiated")]
    check_invariants(conversation)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_model_that_hangs_is_stopped_at_once() -> None:
    model = ScriptedModel([hang()])
    conversation = one_agent(model)
    conversation.turn("hi").commit()
    await asyncio.sleep(1)
    before = asyncio.get_running_loop().time()
    await conversation.aclose()
    assert asyncio.get_running_loop().time() - before < 1
    assert model.prompts[0].outcome == "cancelled"


async def test_a_speculation_is_discarded() -> None:
    conversation = one_agent(["Hello."])
    turn = conversation.turn("perhaps")
    await conversation.aclose()
    assert turn.state is TurnState.DISCARDED
    assert told(conversation) == []


@pytest.mark.parametrize("seconds", [0.0, 0.001, 5.0])
async def test_a_discarded_guess_is_dropped_and_its_trace_ends_also_when_its_run_is_over(seconds: float) -> None:
    recorder = Recorder()
    conversation = one_agent(["Hello."], config={"callbacks": [recorder]})
    turn = conversation.turn("perhaps")
    await asyncio.sleep(seconds)
    turn.discard()
    held = weakref.ref(turn)
    del turn
    await asyncio.sleep(1)
    assert all(run["ended"] for run in recorder.runs.values())
    assert all("discarded" in run["end_tags"] for run in recorder.roots)
    gc.collect()
    assert held() is None


async def test_no_turn_begins_after_the_end() -> None:
    conversation = one_agent(["Hello."])
    await conversation.run("hi")
    assert not conversation.closed
    await conversation.aclose()
    assert conversation.closed
    with pytest.raises(TurnError, match="call is over"):
        conversation.turn("hi again")
    with pytest.raises(TurnError, match="call is over"):
        conversation.enter()


@pytest.mark.parametrize("how", ["itself", "a task of its own", "a task of its own, two seconds later"])
async def test_a_tool_may_close_its_own_call_which_ends_behind_it(how: str) -> None:
    exits = Exits()
    started: list[asyncio.Task[None]] = []
    closing: list[Conversation[Any]] = []

    async def later(seconds: float) -> None:
        await asyncio.sleep(seconds)
        await closing[0].aclose("task_completed")
        assert exits.seen == [("desk", "task_completed")], "who waits outside of the tool waits for the end"

    @function_tool
    async def hang_up() -> str:
        """Hang up."""
        if how == "itself":
            await closing[0].aclose("task_completed")
        else:
            started.append(asyncio.create_task(later(2 if "later" in how else 0.5)))
        return "goodbye"

    conversation = desk(exits, [call("hang_up"), "Well."], hang_up)
    closing.append(conversation)
    await conversation.run("hi")
    await asyncio.gather(*started)
    await conversation.aclose()
    assert (exits.seen, conversation.closed) == ([("desk", "task_completed")], True)
    assert told(conversation)[:3] == ["human: hi", "ai:  +call_1", "tool: goodbye"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_close_that_is_cancelled_goes_on() -> None:
    exits = Exits()
    conversation = desk(exits, [call("slow")], slow)
    await running(conversation)
    closing = asyncio.create_task(conversation.aclose("error"))
    await asyncio.sleep(1)
    closing.cancel()
    await asyncio.wait([closing])
    assert exits.seen == []
    await conversation.aclose()
    assert exits.seen == [("desk", "error")]


async def test_nothing_is_left_running_and_nothing_is_held() -> None:
    conversation = desk(Exits(), [say("One moment.", call("slow")), "Done.", "Again."], slow)
    await play(conversation.turn("hi"))
    await play(conversation.turn("hello"))
    dropped = conversation.turn("perhaps")
    dropped.discard()
    await conversation.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    held = [weakref.ref(conversation), weakref.ref(dropped)]
    del conversation, dropped
    gc.collect()
    assert [ref() for ref in held] == [None, None]
