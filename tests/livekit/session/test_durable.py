"""A call through LiveKit that is stored while it goes on, and taken up by another process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from durable_support import Down, Slow, a_call_again, a_crash, left_behind
from graph_agent_support import (
    a_call,
    a_text_call,
    earlier_handoffs_in_livekit,
    outputs_in_graph,
    outputs_in_livekit,
    spoken,
    told_by_graph,
    told_by_livekit,
    voice,
)
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import interrupt
from livekit.agents import Agent as LiveKitAgent
from livekit.agents.voice.events import CloseEvent
from native_support import LiveKitModel
from pydantic import BaseModel

from graph_voice import Agent, Handoff, LiveSaver, RunContext, create_voice_graph, function_tool, history
from graph_voice.call.durable import UNKNOWN, Resumed
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS

pytestmark = pytest.mark.virtual_clock


class Caller(BaseModel):
    name: str | None = None


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> str:
    """Record the name."""
    ctx.userdata.name = name
    return "Noted."


def graph(*script: Any, tools: Any = (record_name,), **handoff: Any) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(list(script))
    to_billing = Handoff("billing", "To billing.", history=history.full(), **handoff)
    host = Agent("host", instructions="Host.", tools=list(tools), handoffs=[to_billing], voice=voice("host"))
    billing = Agent("billing", instructions="Billing.", on_enter="Greet.", voice=voice("billing"))
    return create_voice_graph([host, billing], userdata=Caller, llm=model), model


async def first_call(saver: Any) -> list[tuple[str, str]]:
    built, model = graph(
        say(call("record_name", {"name": "Ann"})), "Hello Ann.", say(call("transfer_to_billing")), "Billing here."
    )
    ga = GraphAgent(built, thread_id="t", saver=saver)
    async with a_call(ga, model) as rig:
        await rig.user_says("i am ann", at=0.5)
        await rig.until_idle()
        await rig.user_says("my bill please")
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing here.")
    await ga.aclose()
    return told_by_graph(ga)


# ---- the same thread again


async def test_the_same_thread_goes_on_with_its_agent_its_history_and_its_userdata() -> None:
    saver = InMemorySaver()
    before = await first_call(saver)
    built, model = graph("We were cut off. Your bill?", "It is three.")
    ga = GraphAgent(built, thread_id="t", saver=saver)
    async with a_call_again(ga, model, userdata=Caller(name="Nobody")) as rig:
        await rig.until_idle()
        assert rig.session.current_agent.id == "billing"
        assert earlier_handoffs_in_livekit(rig.session) == [("host", "billing")]
        assert rig.session.userdata == Caller(name="Ann")
        await rig.user_says("how much")
        await rig.until_idle()
        assert [name for name, _ in spoken(rig)] == ["billing"]
        told = [*before[:-1], ("assistant", f"{before[-1][1]} We were cut off. Your bill?"), ("user", "how much")]
        assert told_by_graph(ga) == told_by_livekit(rig.session) == [*told, ("assistant", "It is three.")]
    assert "connected again" in str(model.prompts[0])


async def test_a_caller_who_is_back_before_the_old_job_has_ended_has_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saver = InMemorySaver()
    built, model = graph("One.", "Lost.")
    old = GraphAgent(built, thread_id="t", saver=saver)
    async with a_text_call(old, model) as dropped:
        await dropped.run(user_input="one")
        await old.conversation.flush()
        built, model = graph("We were cut off.", "Two.")
        new = GraphAgent(built, thread_id="t", saver=saver)
        async with a_text_call(new, model) as back:
            await asyncio.sleep(1)
            await back.run(user_input="two")
            await dropped.run(user_input="nobody reads this")
            await asyncio.sleep(1)
            assert old.conversation.durable_lag > 0
            assert new.conversation.durable_lag == 0
        await new.aclose()
    await old.aclose()
    assert "call t: the durable copy lacks its end" in caplog.text
    assert "another call has taken it up" in caplog.text
    found = await built.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": "t"}})
    assert [m.text for m in found.values["messages"]] == ["one", "One.", "We were cut off.", "two", "Two."]


async def test_a_call_goes_on_from_sqlite(tmp_path: Path) -> None:
    path = str(tmp_path / "calls.db")
    with SqliteSaver.from_conn_string(path) as saver:  # in a thread that the virtual clock knows of
        before = await first_call(saver)
    built, model = graph("We were cut off.")
    with SqliteSaver.from_conn_string(path) as saver:
        ga = GraphAgent(built, thread_id="t", saver=saver)
        async with a_call_again(ga, model) as rig:
            await rig.until_idle()
            assert spoken(rig) == [("billing", "We were cut off.")]
            assert told_by_livekit(rig.session)[:-1] == before[:-1]
        await ga.aclose()


@pytest.mark.parametrize("says", [True, False])
async def test_the_hook_says_what_is_said_or_that_nothing_is(says: bool) -> None:
    saver = InMemorySaver()
    await first_call(saver)
    found: list[Resumed] = []

    def hook(resumed: Resumed) -> str | None:
        found.append(resumed)
        return "Apologise in one word." if says else None

    built, model = graph(*(["Sorry."] if says else []), "It is three.")
    ga = GraphAgent(built, thread_id="t", saver=saver, on_resume=hook)
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert spoken(rig) == ([("billing", "Sorry.")] if says else [])
        await rig.user_says("how much")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("It is three.")
    assert found == [Resumed(unanswered=False)]
    assert ("Apologise in one word." in str(model.prompts[0])) == says


async def test_instructions_may_be_given_as_a_text() -> None:
    saver = InMemorySaver()
    await first_call(saver)
    built, model = graph("Here I am.")
    async with a_call_again(GraphAgent(built, thread_id="t", saver=saver, on_resume="Say where you are."), model):
        pass
    assert "Say where you are." in str(model.prompts[0])
    assert "connected again" not in str(model.prompts[0])


async def test_a_new_call_is_greeted_and_stored() -> None:
    saver = InMemorySaver()
    model = ScriptedModel(["Good morning.", "Yes."])
    built = create_voice_graph([Agent("host", instructions="Host.", on_enter="Greet.")], llm=model)
    ga = GraphAgent(built, thread_id="t", saver=saver)
    async with a_text_call(ga, model) as session:
        await session.run(user_input="are you there")
    await ga.aclose()
    found = await built.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": "t"}})
    assert [m.text for m in found.values["messages"]] == [m.text for m in ga.conversation.messages]
    assert [m.text for m in found.values["messages"]] == ["are you there", "Good morning.", "Yes."]


async def test_a_call_in_which_nothing_was_said_yet_is_greeted_again() -> None:
    saver = InMemorySaver()
    greets = Agent("host", instructions="Host.", on_enter="Greet.", voice=voice("host"))
    for words in ("Good morning, this is the first process.", "Good morning, this is the second one."):
        model = ScriptedModel([words])
        ga = GraphAgent(create_voice_graph([greets], llm=model), thread_id="t", saver=saver, userdata={"a": 1})
        async with a_crash(ga) as rig:
            await rig.until_speaking()
            await asyncio.sleep(1.0)
            saver = left_behind(saver)
    assert ga.conversation.resumed is not None
    assert "Greet." in str(model.prompts[0])


async def test_the_agent_that_had_the_floor_is_the_only_one_that_enters_and_leaves() -> None:
    seen: list[str] = []

    class Desk(LiveKitAgent):
        async def on_enter(self) -> None:
            seen.append(f"{self.id} enters")

        async def on_exit(self) -> None:
            seen.append(f"{self.id} leaves")

    saver = InMemorySaver()
    await first_call(saver)
    built, model = graph("We were cut off.")
    ga = GraphAgent(built, thread_id="t", saver=saver, bases={"host": Desk, "billing": Desk})
    async with a_call_again(ga, model):
        pass
    assert seen == ["billing enters", "billing leaves"]


@pytest.mark.parametrize("seconds", [1.2, 2.3, 2.6])
async def test_what_the_caller_says_meanwhile_is_answered_by_the_agent_that_had_the_floor(seconds: float) -> None:
    saver = Slow(read=seconds)
    await first_call(saver)
    built, model = graph(*["Yes, I can hear you."] * 3)
    ga = GraphAgent(built, thread_id="t", saver=saver)
    async with a_call_again(ga) as rig:
        await rig.user_says("hello can you hear me", at=0.0)
        await rig.until_idle(quiet=4)
        assert {name for name, _ in spoken(rig)} == {"billing"}
        told = told_by_graph(ga)
        assert ("user", "hello can you hear me") in told
        assert told[-1][1].endswith("Yes, I can hear you.")
    assert not model.errors


# ---- a process that ends in the middle


async def test_the_reply_that_was_being_spoken_is_given_again() -> None:
    saver = InMemorySaver()
    built, _ = graph("Your bill is three hundred dollars and it is due on the first of May.")
    async with a_crash(GraphAgent(built, thread_id="t", saver=saver)) as rig:
        await rig.user_says("how much", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(1.0)
        left = left_behind(saver)
    built, model = graph("We were cut off. It is three hundred.")
    ga = GraphAgent(built, thread_id="t", saver=left)
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert spoken(rig) == [("host", "We were cut off. It is three hundred.")]
        assert told_by_livekit(rig.session) == [
            ("user", "how much"),
            ("assistant", "We were cut off. It is three hundred."),
        ]
    assert ga.conversation.resumed == Resumed(unanswered=True)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_tool_that_ran_runs_again_or_is_unknown(idempotent: bool) -> None:
    ran: list[str] = []

    @function_tool(idempotent=idempotent)
    async def book(ctx: RunContext[Caller]) -> str:
        """Book."""
        ran.append(str(ctx.tool_call_id))
        if len(ran) == 1:
            await asyncio.sleep(30)
        ctx.userdata.name = "Booked"
        return "Booked."

    saver = InMemorySaver()
    built, _ = graph(say("One moment.", call("book", id="c")), "Never said.", tools=[book])
    async with a_crash(GraphAgent(built, thread_id="t", saver=saver)) as rig:
        await rig.user_says("please book", at=0.5)
        await asyncio.sleep(5)
        assert ran == ["c"]
        left = left_behind(saver)
    told: list[Resumed] = []
    built, model = graph("It is done.", tools=[book])
    ga = GraphAgent(built, thread_id="t", saver=left, on_resume=lambda resumed: told.append(resumed))
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert spoken(rig) == ([("host", "It is done.")] if idempotent else [])
        if not idempotent:
            await rig.user_says("and")
            await rig.until_idle()
            assert spoken(rig) == [("host", "It is done.")]
        wanted = {"c": "Booked." if idempotent else UNKNOWN}
        assert outputs_in_graph(ga) == outputs_in_livekit(rig.session) == wanted
        assert rig.session.userdata.name == ("Booked" if idempotent else None)
    assert ran == ["c", "c"][: 1 + idempotent]
    assert told == [Resumed(True, ("book",), ())] if idempotent else [Resumed(True, (), ("book",))]


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("on_interruption", ["cancel", "complete"])
async def test_a_transfer_whose_line_was_being_spoken_runs_again(interrupted: bool, on_interruption: Any) -> None:
    saver = InMemorySaver()
    line = {"say": "One moment, I am putting you through to billing right now.", "on_interruption": on_interruption}
    built, _ = graph(say(call("transfer_to_billing", id="c")), "Never said.", **line)
    async with a_crash(GraphAgent(built, thread_id="t", saver=saver)) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(1.0)
        assert rig.session.current_agent.id == "host"
        left = left_behind(saver)
    built, model = graph("Billing here." if not interrupted else "Yes?", "Go on.", **line)
    ga = GraphAgent(built, thread_id="t", saver=left)
    async with a_call_again(ga) as rig:
        await rig.until_speaking()
        if interrupted:
            await asyncio.sleep(0.5)
            await rig.user_says("wait a moment")
        await rig.until_idle(quiet=3)
        moved = not interrupted or on_interruption == "complete"
        assert rig.session.current_agent.id == ("billing" if moved else "host")
        assert spoken(rig)[0][1].startswith("One moment")
        assert len(ga.conversation.handoffs) == moved
        if not interrupted:
            assert spoken(rig)[-1] == ("billing", "Billing here.")
        else:
            assert told_by_graph(ga)[-2] == ("user", "wait a moment")
            assert spoken(rig)[-1][0] == ("billing" if moved else "host")
    assert ga.conversation.resumed == Resumed(True, ("transfer_to_billing",))
    assert not [e for e in model.errors if "one more was asked for" not in str(e)]


async def test_a_handoff_that_happened_is_kept_and_the_new_agent_speaks() -> None:
    saver = InMemorySaver()
    built, _ = graph(say(call("transfer_to_billing", id="c")), "Billing here, and what I say is long enough to cut.")
    async with a_crash(GraphAgent(built, thread_id="t", saver=saver)) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(0.8)
        assert rig.session.current_agent.id == "billing"
        left = left_behind(saver)
    built, model = graph("Billing here again.")
    ga = GraphAgent(built, thread_id="t", saver=left)
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert spoken(rig) == [("billing", "Billing here again.")]


@function_tool
async def confirm(ctx: RunContext[Caller]) -> str:
    """Ask."""
    return f"The caller said {interrupt('Shall I really book it?')}."


async def test_a_question_that_was_open_is_asked_again_and_answered() -> None:
    saver = InMemorySaver()
    built, _ = graph(say(call("confirm", id="c")), tools=[confirm])
    async with a_crash(GraphAgent(built, thread_id="t", saver=saver)) as rig:
        await rig.user_says("book it", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Shall I really book it?")]
        left = left_behind(saver)
    built, model = graph("We were cut off.", "It is booked.", tools=[confirm])
    ga = GraphAgent(built, thread_id="t", saver=left)
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert spoken(rig) == [("host", "We were cut off. Shall I really book it?")]
        await rig.user_says("yes please")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("It is booked.")
        assert outputs_in_livekit(rig.session) == {"c": "The caller said yes please."}
    assert "nothing else" in str(model.prompts[0])


# ---- a store that is slow or down


async def test_a_store_that_is_down_stalls_no_word_and_the_end_of_the_call_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    built, model = graph(say(call("record_name", {"name": "Ann"})), "Hello Ann.")
    ga = GraphAgent(built, thread_id="t", saver=LiveSaver(Down()))
    loop = asyncio.get_running_loop()
    async with a_call(ga, model, accident="lacks its end") as rig:
        await rig.user_says("i am ann", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Hello Ann.")]
        began = loop.time()
        await rig.session.aclose()
        await ga.aclose()
        assert loop.time() - began < 8  # LiveKit kills the process two seconds later
    assert "disk full" in caplog.text


async def test_a_store_that_can_not_be_read_does_not_keep_the_caller_waiting() -> None:
    class Unreadable(InMemorySaver):
        async def aget_tuple(self, config: Any) -> Any:
            raise OSError("no route to host")

    for saver in (Unreadable(), Slow(read=60)):
        model = ScriptedModel(["Good morning.", "Yes."])
        ga = GraphAgent(create_voice_graph([Agent("host", instructions="H.", on_enter="G.")], llm=model), saver=saver)
        async with a_call(ga, model) as rig:
            await rig.until_speaking(timeout=4)
            await rig.user_says("hello")
            await rig.until_idle()
            assert spoken(rig)[-1][1].endswith("Yes.")
        await ga.aclose()


@pytest.mark.parametrize("policy", ["go_on", "end_call"])
async def test_a_store_that_is_too_late_ends_the_call_politely_if_it_is_told_to(policy: Any) -> None:
    saver = LiveSaver(Down(), max_lag=10, at_max_lag=policy, closing_message="We have to end this call. Goodbye.")
    built, model = graph("Hello.", "Still here.")
    ga = GraphAgent(built, thread_id="t", saver=saver)
    closed: list[CloseEvent] = []
    async with a_call(ga, accident="lacks its end") as rig:
        rig.session.on("close", closed.append)
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Hello.")]
        await asyncio.sleep(20)
        await rig.user_says("are you there")
        await rig.until_idle()
        await asyncio.sleep(10)
        said = "Still here." if policy == "go_on" else "We have to end this call. Goodbye."
        assert spoken(rig) == [("host", f"Hello. {said}")]
        assert [event.reason for event in closed] == ([] if policy == "go_on" else ["user_initiated"])
        assert told_by_graph(ga)[-2:] == [("user", "are you there"), ("assistant", said)]
        await rig.session.aclose()
        await ga.aclose()
    assert not model.errors


# ---- other agents and other graphs


async def test_an_agent_that_is_not_the_graphs_has_the_floor_again_and_is_shown_the_call() -> None:
    class Desk(LiveKitAgent):
        def __init__(self) -> None:
            super().__init__(instructions="You are the desk.", llm=LiveKitModel(["Desk."]), tts=FakeTTS("desk"))

        async def on_enter(self) -> None:
            self.session.say("The desk is here.")

    def build(*script: Any) -> tuple[Any, ScriptedModel]:
        model = ScriptedModel(list(script))
        host = Agent("host", instructions="Host.", handoffs=[Handoff("desk", "To the desk.")], voice=voice("host"))
        return create_voice_graph([host], llm=model, external=["desk"]), model

    saver = InMemorySaver()
    built, model = build(say(call("transfer_to_desk", id="c")))
    async with a_crash(GraphAgent(built, thread_id="t", saver=saver, agents={"desk": Desk})) as rig:
        await rig.user_says("a human please", at=0.5)
        await rig.until_idle()
        assert spoken(rig)[-1] == ("desk", "The desk is here.")
        left = left_behind(saver)
    built, model = build()
    ga = GraphAgent(built, thread_id="t", saver=left, agents={"desk": Desk})
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert isinstance(rig.session.current_agent, Desk)
        assert spoken(rig) == [("desk", "The desk is here.")]
        shown = [item.text_content for item in rig.session.current_agent.chat_ctx.items if item.type == "message"]
        # The transfer carried nothing, LiveKit's default; what was said since then is the desk's own.
        assert shown == ["You are the desk.", "The desk is here.", "The desk is here."]
        await rig.user_says("hello")
        await rig.until_idle()
        assert spoken(rig) == [("desk", "The desk is here. Desk.")]
        assert ("user", "hello") in told_by_graph(ga)


async def test_a_graph_that_was_not_made_here_goes_on_too() -> None:
    saver = InMemorySaver()
    told: list[tuple[str, str]] = []
    for words in ("It is sunny.", "Still sunny."):
        model = ScriptedModel([words])
        graph = create_agent(model, tools=[], system_prompt="You know the weather.")
        ga = GraphAgent(graph, speak=["model"], thread_id="t", saver=saver, on_resume=lambda resumed: None)
        async with a_call(ga, model) as rig:
            assert told_by_livekit(rig.session) == told
            await rig.user_says("how is the weather", at=0.5)
            await rig.until_idle()
            told += [("user", "how is the weather"), ("assistant", words)]
            assert told_by_livekit(rig.session) == told_by_graph(ga) == told
        await ga.aclose()
