"""A thread of a store, told to the page."""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from page_support import page, running, served, shelf_of
from postgres_support import a_postgres, why_not
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, Conversation, Handoff, RunContext, Task, create_voice_graph, function_tool
from graph_voice.errors import GraphVoiceError, ThreadTakenError
from graph_voice.launch.model_choice import ModelChoice
from graph_voice.storage.ownership import OWNER, put_claim
from graph_voice.testing import Call, ScriptedModel, call
from graph_voice_livekit.page.commands import serve
from graph_voice_livekit.page.parts import GraphParts
from graph_voice_livekit.page.replay import Replay
from graph_voice_livekit.page.thread import load_thread, replay_of


class Caller(BaseModel):
    name: str | None = None
    pin: SecretStr | None = None


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> str:
    """Record the caller's name."""
    ctx.userdata.name = name
    return "Noted."


SCRIPT = {
    "desk": [
        "Hello, who is there?",
        call("record_name", {"name": "Ada"}),
        "Thank you, Ada.",
        call("transfer_to_billing"),
    ],
    "billing": ["Billing here, how can I help you today?", "It is nine euros."],
}


def a_graph() -> Any:
    billing = Handoff("billing", say="One moment.")
    desk = Agent("desk", instructions="Help.", tools=[record_name], handoffs=[billing], on_enter="Greet.")
    return create_voice_graph(
        [desk, Agent("billing", instructions="Bill.", on_enter="Greet.")], userdata=Caller, llm=ScriptedModel(SCRIPT)
    )


def parts_of(graph: Any) -> GraphParts:
    return GraphParts.of("desk", graph, ModelChoice(None, "scripted"))


async def told(saver: BaseCheckpointSaver[Any], graph: Any, thread_id: str = "call-7") -> Replay:
    return await replay_of(saver, thread_id, parts_of(graph))


async def talk(saver: BaseCheckpointSaver[Any], *lines: str, graph: Any = None) -> Conversation[Any]:
    conversation: Conversation[Any] = Conversation(graph or a_graph(), thread_id="call-7", saver=saver)
    await conversation.open()
    await conversation.run()
    for text in lines:
        await conversation.run(text)
    await conversation.aclose()
    return conversation


LINES = ("I am Ada.", "My bill, please.", "How much is it?")


def turns_at(replay: Replay, second: float) -> list[dict[str, Any]]:
    """Each turn as the page shows it then, in the order in which the page got them."""
    seen = {m["id"]: m for at, m in replay.moments if m["type"] == "turn" and at <= second}
    return list(seen.values())


def last_turns(replay: Replay) -> list[dict[str, Any]]:
    return turns_at(replay, replay.duration)


def shown(turns: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What a page shows, flat."""
    made: list[tuple[Any, ...]] = []
    for turn in turns:
        if turn["user"] is not None:
            made.append(("caller", turn["user"]))
        for step in turn["steps"]:
            made += [(step["agent"], words["heard"]) for words in step["words"]]
            made += [(step["agent"], c["name"], json.loads(c["args"] or "{}"), c["result"]) for c in step["calls"]]
    return made


def remembered(messages: Sequence[BaseMessage]) -> list[tuple[Any, ...]]:
    """The same from what a call remembers."""
    results = {m.tool_call_id: m.text for m in messages if isinstance(m, ToolMessage)}
    made: list[tuple[Any, ...]] = []
    for message in messages:
        if isinstance(message, HumanMessage):
            made.append(("caller", message.text))
        elif isinstance(message, AIMessage):
            made += [(message.name, message.text)] if message.text.strip() else []
            made += [(message.name, c["name"], c["args"], results.get(str(c["id"]))) for c in message.tool_calls]
    return made


async def test_a_call_is_told_as_it_is_remembered_and_as_it_went() -> None:
    saver = InMemorySaver()
    conversation = await talk(saver, *LINES)
    replay = await told(saver, a_graph())
    assert shown(last_turns(replay)) == remembered(conversation.messages)
    times = [at for at, _ in replay.moments]
    assert times == sorted(times)
    assert times[-1] == replay.duration
    agents = [(m["before"], m["name"]) for _, m in replay.moments if m["type"] == "agent"]
    assert agents == [("", "desk"), ("desk", "billing")]
    handoffs = [(h["old"], h["new"], h["call"]) for turn in last_turns(replay) for h in turn["handoffs"]]
    (transfer,) = (
        c["id"] for m in conversation.messages if isinstance(m, AIMessage) for c in m.tool_calls[:1] if m.text
    )
    assert handoffs == [("desk", "billing", transfer)]
    assert {m["kind"] for _, m in replay.moments if m["type"] == "notice"} == {"info"}
    assert replay.sound is None


async def test_userdata_and_tool_calls_change_along_the_timeline() -> None:
    saver = InMemorySaver()
    await talk(saver, *LINES)
    replay = await told(saver, a_graph())
    facts = [m["fields"] for _, m in replay.moments if m["type"] == "userdata"]
    assert facts == [{}, {"name": "Ada"}]
    statuses = [
        (c["status"], c["result"])
        for _, m in replay.moments
        if m["type"] == "turn"
        for step in m["steps"]
        for c in step["calls"]
        if c["name"] == "record_name"
    ]
    assert statuses[0] == ("running", None)  # its intent was stored before it ran
    assert statuses[-1] == ("done", "Noted.")


async def test_a_task_begins_and_gives_the_conversation_back() -> None:
    class Email(BaseModel):
        address: str

    get_email = Task("get_email", result=Email, instructions="Find out the email address.")

    @function_tool(needs={"email": get_email})
    async def book(email: Email) -> str:
        """Book."""
        return f"Booked for {email.address}."

    desk = Agent("desk", instructions="Help.", tools=[book], handoffs=[Handoff("billing")])
    script = {
        "desk": [call("book"), "It is yours.", call("transfer_to_billing")],
        "get_email": ["Your email?", call("complete_get_email", {"address": "ada@example.org"})],
        "billing": ["Yes?"],
    }
    billing = Agent("billing", instructions="Bill.")
    graph = create_voice_graph([desk, get_email, billing], llm=ScriptedModel(script))
    saver = InMemorySaver()
    conversation: Conversation[Any] = Conversation(graph, thread_id="call-7", saver=saver)
    await conversation.open()
    for text in ("A table.", "ada at example dot org", "My bill."):
        await conversation.run(text)
    await conversation.aclose()
    replay = await told(saver, graph)
    handoffs = [(h["old"], h["new"], h["task"]) for turn in last_turns(replay) for h in turn["handoffs"]]
    assert handoffs == [("desk", "get_email", "begin"), ("get_email", "desk", "end"), ("desk", "billing", None)]
    assert shown(last_turns(replay)) == remembered(conversation.messages)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_a_spoken_call_with_a_barge_in(front_end: str) -> None:
    saver, graph = InMemorySaver(), a_graph()
    async with Call(graph, front_end=front_end, saver=saver, thread_id="call-7") as phone:
        await phone.says("I am Ada.")
        phone.barge_in("How much is it?", after_words=7)
        await phone.says("My bill, please.")
        messages = phone.messages
    replay = await told(saver, graph)
    assert shown(last_turns(replay)) == remembered(messages)
    words = [each for turn in last_turns(replay) for step in turn["steps"] for each in step["words"]]
    assert [each["state"] for each in words].count("cut") == 1
    assert {each["state"] for each in words} == {"heard", "cut"}
    assert [turn["interrupted"] for turn in last_turns(replay)].count(True) == 1
    states = {
        each["state"] for _, m in replay.moments if m["type"] == "turn" for s in m["steps"] for each in s["words"]
    }
    assert states <= {"playing", "heard", "cut"}


async def test_a_line_that_is_stored_while_it_is_spoken_is_not_cut_off() -> None:
    saver = InMemorySaver()
    await put(saver, [said := AIMessage("Hello, who", id="a", name="desk", additional_kwargs={"interrupted": True})])
    await put(saver, [said.model_copy(update={"content": "Hello, who is there?", "additional_kwargs": {}})])
    replay = await told(saver, a_graph())
    words = [m["steps"][0]["words"][0] for _, m in replay.moments if m["type"] == "turn"]
    assert words == [
        {"id": "a", "heard": "Hello, who", "unheard": " is there?", "state": "playing"},
        {"id": "a", "heard": "Hello, who is there?", "unheard": "", "state": "heard"},
    ]


# ---- what was written without a call, and what is taken out again


async def put(saver: BaseCheckpointSaver[Any], messages: Sequence[BaseMessage], **more: Any) -> None:
    """One more checkpoint, as a graph that runs without a call writes it."""
    where: RunnableConfig = {"configurable": {"thread_id": "call-7"}}
    await a_graph().compile(checkpointer=saver).aupdate_state(where, {"messages": messages, **more}, as_node="desk")


def a_message(number: int, kind: str) -> BaseMessage:
    name = f"m{number}"
    return (
        HumanMessage(f"said {number}", id=name)
        if kind == "human"
        else AIMessage(f"answer {number}", id=name, name="desk")
    )


KINDS = st.sampled_from(["human", "ai"])
STEPS = st.lists(
    st.tuples(st.lists(KINDS, min_size=1, max_size=3), st.sets(st.integers(0, 9), max_size=2)), min_size=1, max_size=5
)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_what_was_said_is_told_once_though_the_graph_takes_it_out_later(steps: Any) -> None:
    async def played() -> tuple[Replay, list[BaseMessage]]:
        saver, said, there = InMemorySaver(), list[BaseMessage](), dict[str, BaseMessage]()
        for kinds, gone in steps:
            made = [a_message(len(said) + place, kind) for place, kind in enumerate(kinds)]
            removed = [RemoveMessage(name) for number in gone if (name := f"m{number}") in there]
            await put(saver, [*removed, *made])
            said += made
            there = {k: m for k, m in there.items() if k not in {r.id for r in removed}} | {str(m.id): m for m in made}
        return await told(saver, a_graph()), said

    replay, said = asyncio.run(played())
    assert shown(last_turns(replay)) == remembered(said)
    numbers = [turn["number"] for turn in last_turns(replay)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_long_pause_is_played_as_a_short_one_and_said() -> None:
    saver = InMemorySaver()
    await put(saver, [HumanMessage("Hello?", id="h")])
    await put(saver, [AIMessage("Yes.", id="a", name="desk")])
    replay = await told(Later(saver, 3 * 3600.0), a_graph())
    pauses = [m["text"] for _, m in replay.moments if m["type"] == "notice"][1:]
    assert pauses == ["3 hours pass."]
    assert 10.0 <= replay.duration < 12.0


class Later(InMemorySaver):
    """The same checkpoints; before the last one much time has passed."""

    def __init__(self, other: InMemorySaver, seconds: float) -> None:
        super().__init__()
        self.storage, self.writes, self.blobs = other.storage, other.writes, other.blobs
        self._seconds = seconds

    async def alist(self, config: Any, **more: Any) -> Any:
        for place, found in enumerate([each async for each in super().alist(config, **more)]):
            made = datetime.fromisoformat(found.checkpoint["ts"]) + timedelta(seconds=0 if place else self._seconds)
            yield found._replace(checkpoint={**found.checkpoint, "ts": made.isoformat()})


async def test_a_branch_that_was_left_is_not_told() -> None:
    saver = InMemorySaver()
    graph = a_graph().compile(checkpointer=saver)
    where: RunnableConfig = {"configurable": {"thread_id": "call-7"}}
    fork = await graph.aupdate_state(where, {"messages": [HumanMessage("Hello?", id="h")]}, as_node="desk")
    await put(saver, [AIMessage("No.", id="no", name="desk")])
    await graph.aupdate_state(fork, {"messages": [AIMessage("Yes.", id="yes", name="desk")]}, as_node="desk")
    assert shown(last_turns(await told(saver, a_graph()))) == [("caller", "Hello?"), ("desk", "Yes.")]


async def test_a_call_that_another_process_took_up_is_told_to_its_end() -> None:
    saver, graph = InMemorySaver(), a_graph()
    await talk(saver, LINES[0], graph=graph)
    first: Conversation[Any] = Conversation(graph, thread_id="call-7", saver=saver)
    await first.open()
    second: Conversation[Any] = Conversation(graph, thread_id="call-7", saver=saver)
    await second.open()
    await second.run(LINES[1])
    first.add(HumanMessage("Nobody was there."))
    with pytest.raises(ThreadTakenError):
        await first.aclose()
    await second.aclose()
    assert shown(last_turns(await told(saver, graph))) == remembered(second.messages)


def store(saver: InMemorySaver, name: int, parent: int | None, words: str, at: int, owner: str | None = None) -> None:
    """A checkpoint with these words, one message each."""
    there = {} if parent is None else {"checkpoint_id": str(uuid.UUID(int=parent))}
    where: RunnableConfig = {"configurable": {"thread_id": "call-7", "checkpoint_ns": "", **there}}
    checkpoint = empty_checkpoint()
    checkpoint["id"], checkpoint["ts"] = str(uuid.UUID(int=name)), f"2026-01-01T00:00:0{at}+00:00"
    checkpoint["channel_values"] = {"messages": [AIMessage(w, id=w, name="desk") for w in words.split()]}
    versions = checkpoint["channel_versions"] = {"messages": str(name)}
    metadata: Any = {"source": "update", "step": name, "parents": {}} | ({OWNER: owner} if owner else {})
    saver.put(where, checkpoint, metadata, versions)


async def test_what_an_earlier_owner_stored_last_is_not_told() -> None:
    saver = InMemorySaver()
    before, now = str(uuid.UUID(int=10)), str(uuid.UUID(int=20))
    store(saver, 11, None, "one", 1, before)
    store(saver, 21, 11, "one two", 2, now)
    store(saver, 99, 11, "one stale", 3, before)  # a run that waits has an id of its own
    await put_claim(saver, "call-7", now)
    assert shown(last_turns(await told(saver, a_graph()))) == [("desk", "one"), ("desk", "two")]


async def test_what_was_stored_before_a_run_that_began_earlier_is_told_at_its_time() -> None:
    saver = InMemorySaver()
    store(saver, 5, None, "one", 1)
    store(saver, 6, 5, "one two", 3)
    store(saver, 4, None, "one two three", 5)  # this run waits now, and keeps the id of its own time
    store(saver, 7, 4, "one two three four", 8)
    replay = await told(saver, a_graph())
    firsts = {
        words: min(at for at, m in replay.moments if words in json.dumps(m))
        for words in ("one", "two", "three", "four")
    }
    assert firsts == {"one": 0.0, "two": 2.0, "three": 4.0, "four": 7.0}


# ---- only read


async def test_the_thread_is_not_taken_up_and_its_call_goes_on() -> None:
    saver, graph = InMemorySaver(), a_graph()
    conversation: Conversation[Any] = Conversation(graph, thread_id="call-7", saver=saver)
    await conversation.open()
    await conversation.run()
    await conversation.run(LINES[0])
    await conversation.flush()
    before = [found.checkpoint["id"] for found in saver.list(None)]
    first = await told(saver, graph)
    assert [found.checkpoint["id"] for found in saver.list(None)] == before
    await conversation.run(LINES[1])
    await conversation.aclose()
    again = await told(saver, graph)
    assert shown(last_turns(again))[: len(shown(last_turns(first)))] == shown(last_turns(first))
    assert shown(last_turns(again)) == remembered(conversation.messages)


def in_a_file(path: Path, work: Callable[[AsyncSqliteSaver], Any]) -> Any:
    async def opened() -> Any:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            return await work(saver)

    return asyncio.run(opened())


def test_secrets_are_not_told(tmp_path: Path) -> None:
    async def written(saver: AsyncSqliteSaver) -> Replay:
        await put(
            saver, [AIMessage("Your code is 4 7 1 1 9.", id="a", name="desk")], userdata=Caller(pin=SecretStr("47119"))
        )
        return await told(saver, a_graph())

    replay = in_a_file(tmp_path / "calls.db", written)
    assert "47119" not in json.dumps(replay.moments)
    assert [m["fields"] for _, m in replay.moments if m["type"] == "userdata"] == [{}]


async def test_the_page_gets_the_thread_and_holds_no_call() -> None:
    saver, graph = InMemorySaver(), a_graph()
    conversation = await talk(saver, *LINES)
    async with served(shelf_of(graph), replay=await told(saver, graph)) as client:
        got = await (await client.get("/replay.json")).json()
        assert got["name"] == "call-7"
        assert got["sound"] is False
        assert got["agents"] == ["desk", "billing"]
        assert "data-node" in got["svg"]
        turns = {m["id"]: m for _, m in got["moments"] if m["type"] == "turn"}
        assert shown(list(turns.values())) == remembered(conversation.messages)
        assert (await client.get("/replay.wav")).status == 404
        async with page(client) as opened:
            assert opened.last("welcome")["replay"]


# ---- the command


def problem(place: str, thread_id: str | None) -> str:
    with pytest.raises(GraphVoiceError) as raised:
        asyncio.run(load_thread(place, thread_id, parts_of(a_graph())))
    return str(raised.value)


def test_what_is_no_thread_is_said(tmp_path: Path) -> None:
    store = tmp_path / "calls.db"
    in_a_file(store, lambda saver: talk(saver, LINES[0]))
    assert "there is no call under the thread 'call-8'" in problem(str(store), "call-8")
    for thread in ("call-8", None, ""):
        assert "Name one of the store's with --thread: call-7." in problem(str(store), thread)
    assert "there is no file" in problem(str(tmp_path / "none.db"), "call-7")
    (tmp_path / "text").write_text(
        "no database, but a text that is long enough to be read as one" * 20, encoding="utf-8"
    )
    assert "can't be read as a SQLite file" in problem(str(tmp_path / "text"), "call-7")
    shut = problem("postgresql://ada:hush-hush@127.0.0.1:1/calls", "call-7")
    assert "this Postgres store can't be read" in shut
    assert "hush-hush" not in shut


def test_another_database_is_left_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as opened:
        opened.execute("CREATE TABLE people (name TEXT)")
    before = other.read_bytes()
    assert "holds no checkpoints" in problem(str(other), "call-7")
    assert other.read_bytes() == before


async def test_the_command_plays_a_thread(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(GRAPH, encoding="utf-8")
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "calls.db")) as saver:
        await talk(
            saver,
            "Hello?",
            graph=create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel(["Yes?"] * 2)),
        )
    async with running(tmp_path, "--replay", "calls.db", "--thread", "call-7") as address, ClientSession() as client:
        got = await (await client.get(f"{address}replay.json")).json()
    turns = {m["id"]: m for _, m in got["moments"] if m["type"] == "turn"}
    assert ("caller", "Hello?") in shown(list(turns.values()))


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_a_thread_in_postgres() -> None:
    with a_postgres() as server:

        async def played() -> tuple[Replay, list[BaseMessage]]:
            async with AsyncPostgresSaver.from_conn_string(server.uri) as saver:
                await saver.setup()
                conversation = await talk(saver, *LINES)
            return await load_thread(server.uri, "call-7", parts_of(a_graph())), list(conversation.messages)

        replay, messages = asyncio.run(played())
        assert shown(last_turns(replay)) == remembered(messages)
        assert "there is no call under the thread 'x'" in problem(server.uri, "x")


def test_the_command_refuses_what_names_no_call(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(GRAPH, encoding="utf-8")

    def refused(**options: Any) -> str:
        with pytest.raises(GraphVoiceError) as raised:
            serve(str(tmp_path / "my_agent.py"), text=True, port=0, open_browser=False, **options)
        return str(raised.value)

    assert "--replay calls.db" in refused(thread="call-7")
    assert "--replay calls.db" in refused(thread="call-7", replay=str(tmp_path))
    assert "there is no" in refused(replay=str(tmp_path / "nothing"), thread="call-7")


GRAPH = """
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

graph = create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel(["Hello."]))
"""
