"""Values of any kind on each store: what comes back is what was there, or the call has said what is lost.

Whatever it is, it costs nothing else: every word before, beside and after it is stored.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from postgres_support import Postgres, a_postgres, why_not
from pydantic import BaseModel
from value_support import any_values, data, deep, json_values, ring, same, texts

from graph_voice import (
    Agent,
    Conversation,
    LiveSaver,
    RunContext,
    VoiceState,
    create_voice_graph,
    function_tool,
)
from graph_voice.errors import SaverError
from graph_voice.storage.storable import Storing, stored
from graph_voice.storage.write_behind import Lag
from graph_voice.testing import Call, ScriptedModel, call, say

STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)
quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres | None]:
    if why_not() is not None:
        yield None
        return
    with a_postgres() as server:
        yield server


@asynccontextmanager
async def a_store(kind: str, postgres: Postgres | None) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    if kind == "memory":
        yield InMemorySaver()
    elif kind == "strict":
        yield InMemorySaver(serde=STRICT)
    elif kind == "sqlite":
        async with AsyncSqliteSaver.from_conn_string(":memory:") as sqlite:
            yield sqlite
    else:
        if postgres is None:
            pytest.skip(why_not() or "")
        async with AsyncPostgresSaver.from_conn_string(postgres.uri) as saver:
            await saver.setup()
            yield saver


STORES = ["memory", "strict", "sqlite", "postgres"]
on_each_store = pytest.mark.parametrize("kind", STORES)


# ---- the forms alone


@settings(max_examples=400, deadline=None, suppress_health_check=quiet)
@given(any_values)
def test_each_value_has_a_form_that_comes_back_or_its_loss_is_told(value: Any) -> None:
    for serde in (STRICT, JsonPlusSerializer()):
        form, lost = Storing(serde).form({"value": [value], "beside": "kept"}, "channel")
        back = stored(serde.loads_typed(serde.dumps_typed(form)))
        assert back["beside"] == "kept"
        assert same(back, {"value": [value], "beside": "kept"}) or lost
        assert all(str(loss).startswith("channel") or "channel" in str(loss) for loss in lost)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_what_a_model_may_pass_comes_back_as_it_was_but_for_half_characters_and_great_depth(value: Any) -> None:
    message = AIMessage("", tool_calls=[{"name": "act", "args": {"value": value}, "id": "1"}], id="m")
    form, lost = Storing(STRICT).form([message], "messages")
    (back,) = stored(STRICT.loads_typed(STRICT.dumps_typed(form)))
    if not lost:
        assert same(back.tool_calls[0]["args"], {"value": value})
    assert all("half a character" in loss.what or "nested more than" in loss.what for loss in lost)


def test_what_is_simple_is_not_copied() -> None:
    values = {
        "messages": [HumanMessage("hello"), AIMessage("", tool_calls=[{"name": "a", "args": {"b": 1}, "id": "1"}])]
    }
    form, lost = Storing(STRICT).form(values, "channel")
    assert form is values
    assert stored(form) is form
    assert lost == []


# ---- in calls


class Caller(BaseModel):
    anything: Any = None
    name: str = ""


class State(VoiceState[Caller]):
    extra: Any


class Values:
    """What one call meets."""

    def __init__(self, args: Any, artifact: Any, extra: Any, userdata: Any, words: str) -> None:
        self.args, self.artifact, self.extra, self.userdata, self.words = args, artifact, extra, userdata, words


def desk(values: Values) -> Any:
    @tool(response_format="content_and_artifact")
    async def act(value: Any) -> tuple[str, Any]:
        """Act."""
        return "done", values.artifact

    @function_tool
    async def note(ctx: RunContext[Caller], value: Any) -> str:
        """Note."""
        ctx.userdata.anything = values.userdata
        ctx.userdata.name = "Ann"
        return "noted"

    def answer(messages: list[AnyMessage]) -> Any:
        last = messages[-1]
        if last.type == "human" and last.text.startswith("act"):
            return say(
                "", *(call(name, {"value": values.args}, id=f"{name}-{len(messages)}") for name in ("act", "note"))
            )
        return "Done." if last.type == "tool" else "I see."

    desk_agent = Agent("desk", instructions="x", tools=[act, note])
    builder = create_voice_graph([desk_agent], userdata=Caller, state_schema=State, llm=ScriptedModel(answer))
    builder.add_node("keep", lambda state: {"extra": values.extra})
    builder.add_edge("desk", "keep")
    return builder


values_of_a_call = st.builds(Values, json_values, any_values, any_values, data, texts)


async def stored_and_told(kind: str, postgres: Postgres | None, values: Values) -> None:
    told: list[str] = []

    def on_lag(lag: Lag) -> None:
        told.extend(lag.lost)

    thread = f"t-{uuid.uuid4()}"
    async with a_store(kind, postgres) as durable:
        saver = LiveSaver(durable, on_lag=on_lag)
        graph = desk(values)
        first: Conversation[Caller] = await Conversation(graph, thread_id=thread, saver=saver).open()
        for words in ("hello", "act", values.words or "my name is Ann", "please call me back at noon"):
            await first.run(words)
        try:
            await first.flush(30)
        except SaverError as error:
            told.append(str(error))
        assert not told or "is not durable" not in told[-1]
        assert first.durable_lag == 0
        await first.aclose()
        await saver.aclose()
        said = " ".join(told)
        async with Conversation(desk(values), thread_id=thread, saver=durable) as second:
            compare(first, second, said)
            await second.run("one more")
            assert second.messages[-1].text == "I see."


def compare(first: Conversation[Caller], second: Conversation[Caller], said: str) -> None:
    mine, theirs = first.messages, second.messages
    assert [(m.id, m.type) for m in mine] == [(m.id, m.type) for m in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert a.text == b.text or f"messages[{a.id}].content" in said
        if isinstance(a, AIMessage) and isinstance(b, AIMessage):
            assert same(a.tool_calls, b.tool_calls) or f"messages[{a.id}].tool_calls" in said
        if isinstance(a, ToolMessage) and isinstance(b, ToolMessage):
            assert same(a.artifact, b.artifact) or f"messages[{a.id}].artifact" in said
    assert same(first.state.get("extra"), second.state.get("extra")) or "extra" in said
    assert same(first.userdata, second.userdata) or "userdata" in said
    assert second.userdata.name == first.userdata.name


@on_each_store
@settings(max_examples=40, deadline=None, suppress_health_check=quiet)
@given(values=values_of_a_call)
def test_what_comes_back_is_what_was_there_or_the_call_has_said_what_is_lost(
    kind: str, postgres: Postgres | None, values: Values
) -> None:
    asyncio.run(stored_and_told(kind, postgres, values))


KINDS: dict[str, Any] = {
    "64 bits": 2**64,
    "22 digits": 9400110200881234567890,
    "thousands of digits": 10**5000,
    "not a number": float("nan"),
    "half a character": "\ud83d",
    "half a character as a key": {"\ud83d": 1},
    "zero": "a\x00b",
    "a mark of ours": "graph_voice:int:5",
    "deep": deep(230),
    "deeper": deep(900),
    "bytes": b"\xff",
    "set": {1, 2**70},
    "tuple": (1, 2),
    "tuple as a key": {(1, 2**70): 1},
    "lock": threading.Lock(),
    "lock as a key": {threading.Lock(): 1},
    "ring": ring(),
    "generator": (n for n in range(3)),
}


@on_each_store
@pytest.mark.parametrize("what", list(KINDS))
async def test_it_costs_nothing_else(kind: str, what: str, postgres: Postgres | None) -> None:
    in_data = what in ("lock", "lock as a key", "ring", "generator", "deep", "deeper")
    value = KINDS[what]
    args = (
        None
        if what
        in ("lock", "lock as a key", "ring", "generator", "set", "tuple as a key", "bytes", "thousands of digits")
        else value
    )
    await stored_and_told(kind, postgres, Values(args, value, value, None if in_data else value, "my name is Ann"))


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize(
    "what", ["22 digits", "thousands of digits", "half a character", "deep", "lock", "ring", "tuple"]
)
async def test_a_call_through_either_front_end_stores_every_word(
    front_end: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    saver, value = InMemorySaver(), KINDS[what]
    args = None if what in ("lock", "ring", "thousands of digits", "deep") else value
    values = Values(args, value, value, None, "")
    async with Call(desk(values), front_end=front_end, saver=saver, thread_id="t") as phone:
        for words in ("hello", "act", "my name is Ann", "please call me back at noon"):
            await phone.says(words)
        await asyncio.sleep(2)
        mine = phone.messages
    async with Conversation(desk(values), thread_id="t", saver=saver) as second:
        assert [(m.id, m.text) for m in mine] == [(m.id, m.text) for m in second.messages]
        assert [m.text for m in second.messages if m.type == "human"][-1] == "please call me back at noon"
        if what in ("22 digits", "thousands of digits"):
            asked = [m.tool_calls[0]["args"] for m in second.messages if isinstance(m, AIMessage) and m.tool_calls]
            assert asked == [{"value": args}]
            assert second.state["extra"] == value
            assert not [r for r in caplog.records if "durable copy" in r.getMessage()]
        else:
            assert "in the durable copy, messages[" in caplog.text


# ---- flush, durable_lag, on_lag


async def test_what_is_lost_is_said_by_flush_by_on_lag_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Lag] = []
    saver = LiveSaver(InMemorySaver(), on_lag=told.append)
    values = Values(1, {"a": [threading.Lock(), "beside"]}, (1, 2), None, "")
    async with Conversation(desk(values), thread_id="t", saver=saver) as conversation:
        await conversation.run("act")
        with pytest.raises(
            SaverError, match=r"is stored, but for this: messages\[result-act-\d\]\.artifact\['a'\]\[0\] is a lock"
        ):
            await conversation.flush(5)
        await conversation.flush(5)
        assert conversation.durable_lag == 0
        await conversation.run("and now?")
        await conversation.flush(5)
    lost = [one for lag in told for one in lag.lost]
    assert any("artifact['a'][0] is a lock, which can't be stored" in one for one in lost)
    assert any("extra is a tuple, and comes back as a list" in one for one in lost), "and that is no reason to raise"
    said = [r for r in caplog.records if "in the durable copy" in r.getMessage()]
    assert [r.levelno for r in said if "lock" in r.getMessage()] == [logging.ERROR], "once"
    assert [r.levelno for r in said if "tuple" in r.getMessage()] == [logging.WARNING]


class Refusing(InMemorySaver):
    """A store that refuses data, whatever its form, for as long as it likes."""

    def __init__(self, refuses: Callable[[str], bool]) -> None:
        super().__init__()
        self.refuses: Callable[[str], bool] = refuses

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if self.refuses("put"):
            raise TypeError("not that")
        return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        if self.refuses("writes"):
            raise ValueError("not that")
        await super().aput_writes(*args, **kwargs)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("refused", ["put", "writes"])
async def test_a_store_that_refuses_everything_is_told_truly_and_has_all_when_it_takes_it(refused: str) -> None:
    refusing = {"now": False}
    store = Refusing(lambda what: refusing["now"] and what == refused)
    graph = desk(Values(1, None, None, None, ""))
    first: Conversation[Caller] = await Conversation(graph, thread_id="t", saver=store).open()
    await first.run("hello")
    await first.flush(5)
    refusing["now"] = True
    await first.run("my name is Ann")
    if refused == "put":
        with pytest.raises(SaverError, match="is not durable"):
            await first.flush(5)
        await asyncio.sleep(3)
        assert first.durable_lag > 2.9
    else:
        await first.flush(5)  # the whole is written in place of the differences
    refusing["now"] = False
    await first.run("call me back")
    await first.flush(5)
    assert first.durable_lag == 0
    async with Conversation(graph, thread_id="t", saver=store) as second:
        assert [m.text for m in second.messages] == [m.text for m in first.messages]
        assert [m.text for m in second.messages if m.type == "human"] == ["hello", "my name is Ann", "call me back"]
    await first.aclose()
