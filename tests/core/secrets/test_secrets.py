"""Secrets: a card number that a caller gives to a tool is nowhere to be read but in the tool and in the userdata."""

import copy
import json
import logging
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from history_support import thorough
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool as langchain_tool
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command, interrupt
from langsmith_sink import LangSmithSink
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr, field_validator
from secrets_support import Gcm, Watcher, sqlite_bytes

from graph_voice import Agent, Conversation, RunContext, ToolError, create_voice_graph, events, function_tool, history
from graph_voice.errors import BuildError, UserdataError
from graph_voice.secrets.arguments import redact_arguments, secret_schemas
from graph_voice.secrets.values import MASK, Redacted, opened, redact_with, secret_texts
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.userdata.channel import UserdataChannel, public_fields
from graph_voice.userdata.plain import to_plain
from graph_voice.userdata.reading import from_plain
from graph_voice.userdata.working_copy import WorkingCopy

CARD = "4111222233334444"


class Card(BaseModel):
    number: SecretStr
    holder: str = ""


@dataclass
class Door:
    code: SecretStr = field(default_factory=lambda: SecretStr(""))
    floor: int = 0


class Caller(BaseModel):
    name: str = ""
    card: SecretStr | None = None
    cards: list[Card] = []
    key: SecretBytes = SecretBytes(b"")
    limit: Secret[int] | None = None
    door: Door = Field(default_factory=Door)


# ---- the whole call: everything that leaves the process is searched


@function_tool
async def store_card(ctx: RunContext[Caller], number: SecretStr, holder: str = "") -> str:
    """Store the caller's card."""
    ctx.userdata.card = number
    ctx.userdata.cards.append(Card(number=number, holder=holder))
    ctx.userdata.limit = Secret[int](4111222233334444)
    ctx.userdata.key = SecretBytes(CARD.encode())
    ctx.userdata.door.code = number
    ctx.userdata.name = holder
    return f"Stored {number.get_secret_value()} of {holder}."


@function_tool
async def charge(ctx: RunContext[Caller], euros: int) -> dict[str, Any]:
    """Charge the card."""
    CHARGED.append(ctx.userdata.card.get_secret_value() if ctx.userdata.card else None)
    return {"charged": euros, "card": str(CHARGED[-1]), "door": ctx.userdata.door}


@function_tool
async def fail_with(ctx: RunContext[Caller], how: str) -> str:
    """Fail."""
    number = ctx.userdata.card.get_secret_value() if ctx.userdata.card else ""
    if how == "validation":
        Strict(number=number)
    if how == "assignment":
        ctx.userdata.card = [number]  # type: ignore[assignment]
    if how == "tool_error":
        raise ToolError(f"{number} was refused")
    raise ValueError(f"no such card: {number}")


class Strict(BaseModel):
    number: int

    @field_validator("number", mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        raise ValueError("refused")


CHARGED: list[str | None] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    CHARGED.clear()


def desk(model: ScriptedModel, **options: Any) -> Any:
    agent = Agent("desk", instructions=lambda u: f"Help {u.name}.", tools=[store_card, charge, fail_with])
    return create_voice_graph([agent], userdata=Caller, llm=model, **options)


def script() -> ScriptedModel:
    return ScriptedModel(
        [
            say("One moment.", call("store_card", {"number": CARD, "holder": "Ann"})),
            "Stored. Shall I charge it?",
            call("charge", {"euros": 40}),
            call("fail_with", {"how": "validation"}),
            call("fail_with", {"how": "assignment"}),
            call("fail_with", {"how": "tool_error"}),
            call("fail_with", {"how": "anything"}),
            "Done.",
        ]
    )


WORDS = ["My card is four one one one, and so on.", "Yes please."]


async def test_no_run_that_leaves_for_langsmith_holds_the_number() -> None:
    with LangSmithSink() as langsmith:
        tracer = LangChainTracer(client=langsmith.client())
        conversation = Conversation(desk(script()), config={"callbacks": [tracer]})
        for text in WORDS:
            await conversation.run(text)
        await conversation.aclose()
        langsmith.wait()
        assert {"chain", "tool", "llm"} == {run.kind for run in langsmith.runs.values()}
        nowhere(langsmith.received.decode(errors="replace"))
        assert MASK.encode() in langsmith.received


def nowhere(found: Any) -> None:
    text = found if isinstance(found, str) else "\n".join(map(str, found))
    for secret in (CARD, str(int(CARD))):
        at = text.find(secret)
        assert at < 0, f"...{text[max(0, at - 200) : at + 60]}..."


async def test_a_card_number_is_in_no_prompt_trace_event_log_or_memory_and_the_tools_have_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    watcher, model = Watcher(), script()
    conversation = Conversation(desk(model), config={"callbacks": [watcher]})
    seen: list[events.Event] = []
    for text in WORDS:
        seen += await conversation.run(text)
    assert conversation.userdata.card == SecretStr(CARD)
    assert conversation.userdata.cards[0].number.get_secret_value() == CARD
    assert conversation.userdata.limit == Secret[int](int(CARD))
    assert CHARGED == [CARD]
    nowhere(watcher.seen)
    assert {"chain", "tool", "prompt", "tool error"} <= set(watcher.names)
    nowhere(map(repr, seen))
    nowhere(str(p) for p in model.prompts)
    nowhere(json.dumps([m.model_dump() for m in conversation.messages], default=str))
    nowhere(repr(conversation.state))
    nowhere(caplog.text)
    await conversation.aclose()
    results = [m.text for m in conversation.messages if isinstance(m, ToolMessage)]
    assert results[0] == f"Stored {MASK} of Ann."
    assert json.loads(results[1])["card"] == MASK
    assert results[4] == f"{MASK} was refused"
    asked = conversation.messages[1]
    assert isinstance(asked, AIMessage)
    assert asked.tool_calls[0]["args"] == {"number": MASK, "holder": "Ann"}
    assert not model.errors


@pytest.mark.parametrize("kept", [False, True], ids=["left out", "encrypted"])
async def test_a_checkpoint_file_holds_no_secret_and_the_next_process_has_it_only_if_it_was_encrypted(
    tmp_path: Path, kept: bool
) -> None:
    secrets = EncryptedSerializer(Gcm()) if kept else None
    path = tmp_path / "calls.sqlite"
    config: Any = {"configurable": {"thread_id": "1"}}
    watcher = Watcher()
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        graph = desk(script(), secrets=secrets).compile(checkpointer=saver)
        modes: list[Any] = ["updates", "values", "debug", "tasks", "checkpoints", "custom"]
        streamed = [
            repr(part)
            async for part in graph.astream(
                {"messages": WORDS[:1]}, {**config, "callbacks": [watcher]}, stream_mode=modes
            )
        ]
        snapshots = [repr(s) async for s in graph.aget_state_history(config)]
    assert any("store_card" in part for part in streamed)
    nowhere(streamed)
    nowhere(snapshots)
    nowhere(watcher.seen)
    assert CARD.encode() not in sqlite_bytes(path)
    assert str(int(CARD)).encode() not in sqlite_bytes(path)
    # Another process: nothing but the file.
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        model = ScriptedModel([call("charge", {"euros": 40}), "Done."])
        again = desk(model, secrets=secrets).compile(checkpointer=saver)
        userdata = (await again.aget_state(config)).values["userdata"]
        assert userdata.name == "Ann"
        await again.ainvoke({"messages": WORDS[1:]}, config)
    if kept:
        assert userdata.card == SecretStr(CARD)
        assert (userdata.cards, userdata.key) == (
            [Card(number=SecretStr(CARD), holder="Ann")],
            SecretBytes(CARD.encode()),
        )
        assert (userdata.limit, userdata.door.code) == (Secret[int](int(CARD)), SecretStr(CARD))
        assert CHARGED == [CARD]
    else:
        assert (userdata.card, userdata.limit) == (None, None), "the class's own default"
        assert userdata.cards == [], "no card is better than one without a number"
        assert CHARGED == [None]
    assert CARD.encode() not in sqlite_bytes(path)


async def test_langgraphs_own_encrypted_checkpoints_keep_secrets_that_are_not_left_out(tmp_path: Path) -> None:
    """The whole checkpoint is encrypted by the saver, so its readable part may hold them."""
    path = tmp_path / "calls.sqlite"
    config: Any = {"configurable": {"thread_id": "1"}}
    serde = EncryptedSerializer(Gcm())
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        saver.serde = serde
        graph = desk(script(), secrets=JsonPlusSerializer()).compile(checkpointer=saver)
        await graph.ainvoke({"messages": WORDS[:1]}, config)
        assert (await graph.aget_state(config)).values["userdata"].card == SecretStr(CARD)
    assert CARD.encode() not in sqlite_bytes(path)
    assert b"store_card" not in sqlite_bytes(path)


async def test_another_key_is_as_none() -> None:
    saver = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "1"}}
    await (
        desk(script(), secrets=EncryptedSerializer(Gcm()))
        .compile(checkpointer=saver)
        .ainvoke({"messages": WORDS[:1]}, config)
    )
    other = desk(script(), secrets=EncryptedSerializer(Gcm())).compile(checkpointer=saver)
    userdata = (await other.aget_state(config)).values["userdata"]
    assert (userdata.name, userdata.card) == ("Ann", None)


async def test_userdata_that_is_a_dict_keeps_its_secrets_to_itself_too(tmp_path: Path) -> None:
    @function_tool
    async def store(ctx: RunContext[Any], number: SecretStr) -> str:
        """Store."""
        ctx.userdata["card"] = {"numbers": [number]}
        return "ok"

    path = tmp_path / "calls.sqlite"
    config: Any = {"configurable": {"thread_id": "1"}}
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        agent = Agent("desk", instructions="Help.", tools=[store])
        model = ScriptedModel([call("store", {"number": CARD}), "ok"])
        builder = create_voice_graph([agent], llm=model, secrets=EncryptedSerializer(Gcm()))
        graph = builder.compile(checkpointer=saver)
        streamed = [repr(p) async for p in graph.astream({"messages": ["x"]}, config, stream_mode=["updates", "debug"])]
        userdata = (await graph.aget_state(config)).values["userdata"]
    nowhere(streamed)
    assert userdata == {"card": {"numbers": [SecretStr(CARD)]}}
    assert CARD.encode() not in sqlite_bytes(path)


# ---- a tool's arguments


def seen_by(tool: Any, args: dict[str, Any]) -> ScriptedModel:
    return ScriptedModel([call(tool.name if hasattr(tool, "name") else tool.__name__, args), "Done."])


class Order(BaseModel):
    what: str
    cards: list[Card]


async def answered(tool: Any, args: dict[str, Any]) -> tuple[str, AIMessage]:
    model, watcher = seen_by(tool, args), Watcher()
    graph = create_voice_graph([Agent("a", instructions="A.", tools=[tool])], llm=model)
    conversation = Conversation(graph, config={"callbacks": [watcher]})
    await conversation.run("x")
    nowhere(watcher.seen)
    await conversation.aclose()
    assert not model.errors
    nowhere(str(p) for p in model.prompts)
    asked, result = conversation.messages[1:3]
    assert isinstance(asked, AIMessage)
    return result.text, asked


async def test_secrets_inside_of_an_argument_are_sealed_too() -> None:
    got = []

    @function_tool
    async def order(order: Order, pins: dict[str, SecretStr], note: str | None = None) -> str:
        """Order."""
        got.append((order, pins, note))
        return "Ordered."

    args = {
        "order": {"what": "pizza", "cards": [{"number": CARD, "holder": "Ann"}]},
        "pins": {"a": CARD},
        "note": "thin",
    }
    result, asked = await answered(order, args)
    assert result == "Ordered."
    assert got[0][0].cards[0].number.get_secret_value() == CARD
    assert got[0][1]["a"].get_secret_value() == CARD
    assert asked.tool_calls[0]["args"] == {
        "order": {"what": "pizza", "cards": [{"number": MASK, "holder": "Ann"}]},
        "pins": {"a": MASK},
        "note": "thin",
    }


async def test_a_langchain_tool_may_take_a_secret() -> None:
    got = []

    @langchain_tool
    async def store(number: SecretStr | None = None, count: int = 1) -> str:
        """Store."""
        got.append(number.get_secret_value() if number else None)
        return "ok"

    result, asked = await answered(store, {"number": CARD})
    assert (result, got, asked.tool_calls[0]["args"]) == ("ok", [CARD], {"number": MASK})
    assert (await answered(store, {"number": None}))[1].tool_calls[0]["args"] == {"number": None}


async def test_an_argument_that_does_not_validate_is_told_without_the_value(caplog: pytest.LogCaptureFixture) -> None:
    @function_tool
    async def store(number: Annotated[SecretStr, Field(max_length=4)], count: int) -> str:
        """Store."""
        return "ok"

    result, _ = await answered(store, {"number": CARD, "count": 1})
    assert "number" in result
    assert "at most 4" in result
    nowhere(result)
    nowhere(caplog.text)


async def test_a_model_that_repeats_the_mask_is_told_to_ask_again() -> None:
    @function_tool
    async def store(number: SecretStr) -> str:
        """Store."""
        raise AssertionError("it must not run")

    result, _ = await answered(store, {"number": MASK})
    assert result == "number is secret and was not stored: ask the caller for it again, then call store."


async def test_a_call_that_another_process_takes_up_has_lost_its_secret_and_says_so(tmp_path: Path) -> None:
    ran = []

    @function_tool
    async def confirm(number: SecretStr) -> str:
        """Confirm."""
        ran.append(number.get_secret_value())
        return str(interrupt("Really?"))

    def build(saver: Any) -> Any:
        agent = Agent("a", instructions="A.", tools=[confirm])
        model = ScriptedModel([("", [call("confirm", {"number": CARD}), "Again, please."])])
        return create_voice_graph([agent], llm=model).compile(checkpointer=saver)

    config: Any = {"configurable": {"thread_id": "1"}}
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "db")) as saver:
        await build(saver).ainvoke({"messages": ["x"]}, config)
        assert ran == [CARD]
        state = await build(saver).ainvoke(Command(resume="yes"), config)
    assert ran == [CARD]
    assert "ask the caller for it again" in state["messages"][-2].text
    assert CARD.encode() not in sqlite_bytes(tmp_path / "db")


async def test_within_a_conversation_a_call_that_asks_keeps_its_secret() -> None:
    ran = []

    @function_tool
    async def confirm(number: SecretStr) -> str:
        """Confirm."""
        ran.append(number.get_secret_value())
        return str(interrupt("Really?"))

    model = ScriptedModel([call("confirm", {"number": CARD}), "Done."])
    conversation = Conversation(create_voice_graph([Agent("a", instructions="A.", tools=[confirm])], llm=model))
    await conversation.run("x")
    await conversation.run("yes")
    assert ran == [CARD, CARD]
    assert conversation.messages[-1].text == "Done."
    await conversation.aclose()


def test_the_providers_own_copy_of_the_arguments_is_sealed_and_its_signatures_stay() -> None:
    schemas = secret_schemas(Agent("a", instructions="A.", tools=[store_card]).own_tools)
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    blocks: list[Any] = [
        thought,
        {"type": "tool_use", "id": "1", "name": "store_card", "input": {"number": CARD}, "partial_json": CARD},
        {
            "type": "function_call",
            "id": "fc",
            "call_id": "2",
            "name": "store_card",
            "arguments": json.dumps({"number": CARD}),
        },
        {"type": "tool_call", "id": "3", "name": "store_card", "args": {"number": CARD}},
    ]
    message = AIMessage(
        blocks,
        tool_calls=[{"name": "store_card", "args": {"number": CARD}, "id": i} for i in ("1", "2", "3")],
        additional_kwargs={
            "tool_calls": [{"function": {"arguments": CARD}}],
            "invalid_arguments": {"1": '{"number": ' + CARD},
            "signatures": {"1": "x"},
        },
    )
    redacted = redact_arguments(message, schemas)
    nowhere(json.dumps(redacted.model_dump()))
    assert redacted.content[0] == thought
    assert [b["type"] for b in redacted.content] == ["thinking", "tool_use", "function_call", "tool_call"]  # type: ignore[index]
    assert redacted.additional_kwargs["signatures"] == {"1": "x"}
    nowhere(repr(redacted))
    assert CARD in repr(message), "the model's own message stays as it is"


# ---- the userdata's fields


class Marked(BaseModel):
    card: str = Field("", json_schema_extra={"secret": True})


class Inside(BaseModel):
    marked: list[Marked] = []


@dataclass
class MarkedDataclass:
    pin: str = field(default="", metadata={"secret": True})


@dataclass
class AnnotatedDataclass:
    pin: Annotated[str, Field(json_schema_extra={"secret": True})] = ""


@pytest.mark.parametrize("kind", [Marked, Inside, MarkedDataclass, AnnotatedDataclass])
def test_a_field_that_is_marked_secret_and_is_none_by_its_type_is_refused(kind: Any) -> None:
    with pytest.raises(BuildError, match=r"\.(card|pin) is marked secret.*SecretStr"):
        create_voice_graph([Agent("a", instructions="A.")], userdata=kind, llm=ScriptedModel([]))


@dataclass
class Mixed:
    shown: str = "yes"
    pin: SecretStr = field(default_factory=lambda: SecretStr(CARD))
    marked: Annotated[str, Field(json_schema_extra={"secret": True})] = CARD
    noted: str = field(default=CARD, metadata={"secret": True})
    cards: list[Card] = field(default_factory=lambda: [Card(number=SecretStr(CARD), holder="Ann")])
    nested: dict[str, Any] = field(default_factory=lambda: {"m": Marked(card=CARD), "s": SecretStr(CARD), "n": 1})


@pytest.mark.parametrize("format", ["yaml", "json"])
async def test_a_userdata_summary_leaves_secrets_out_at_any_depth(format: Any) -> None:
    (summary,) = await history.apply(history.userdata_summary(format), [], userdata=Mixed())
    nowhere(summary.text)
    assert public_fields(Mixed()) == {
        "shown": "yes",
        "cards": [{"holder": "Ann"}],
        "nested": {"m": {}, "n": 1},
    }


@pytest.mark.parametrize("value", [CARD, [CARD]], ids=["too short", "wrong type"])
async def test_an_error_of_the_userdata_does_not_show_what_came(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Short(BaseModel):
        card: Annotated[SecretStr, Field(max_length=4)] = SecretStr("")

    def store(state: Any) -> Any:
        return {"userdata": {"card": value}}

    builder = create_voice_graph([Agent("a", instructions="A.")], userdata=Short, llm=ScriptedModel(["ok"]))
    builder.add_node("store", store)
    builder.add_edge("a", "store")
    with pytest.raises(UserdataError) as caught:
        await builder.compile().ainvoke({"messages": ["x"]})
    error: BaseException | None = caught.value
    while error is not None:
        nowhere(repr(error) + str(error))
        error = error.__cause__
    nowhere(caplog.text)


def test_a_patch_is_validated_though_it_holds_secrets() -> None:
    channel = UserdataChannel(Caller)
    with pytest.raises(UserdataError, match="number"):
        channel.update([{"cards": [{"number": 5}]}])
    channel.update([{"cards": [{"number": CARD}], "card": SecretStr(CARD)}])
    assert channel.get().cards == [Card(number=SecretStr(CARD))]


@pytest.mark.parametrize("secrets", [None, EncryptedSerializer(Gcm())], ids=["left out", "encrypted"])
def test_a_batchs_changes_that_were_stored_before_they_counted_change_what_they_can(secrets: Any) -> None:
    """LangGraph keeps the writes of a step that did not end, and applies them when it is taken up again."""
    work = WorkingCopy({"userdata": Caller(name="Ann", card=SecretStr("old"))})
    work.value.card = SecretStr(CARD)
    work.value.cards.append(Card(number=SecretStr(CARD), holder="Ann"))
    work.value.name = "Bob"
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    written = strict.loads_typed(strict.dumps_typed(work.changes()))
    channel = UserdataChannel(Caller, secrets=secrets)
    channel.update([Caller(name="Ann", card=SecretStr("old"))])
    channel.update([written])
    assert channel.get().name == "Bob"
    assert channel.get().card == SecretStr("old"), "what was left out changes nothing"
    assert channel.get().cards == [], "no card is better than one without a number"


@pytest.mark.parametrize("kind", ["model", "dataclass"])
async def test_a_value_that_a_field_refuses_is_in_no_trace_though_nobody_said_before_that_it_is_secret(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The tool takes it as plain text; that the field is a secret is what makes it one."""
    caplog.set_level(logging.DEBUG)

    @function_tool
    async def store(ctx: RunContext[Any], digits: int) -> str:
        """Store."""
        (ctx.userdata if kind == "model" else ctx.userdata.door).card = [f"{CARD[:8]}{digits}"]
        return "ok"

    @dataclass
    class Holder:
        card: SecretStr = field(default_factory=lambda: SecretStr(""))

        @property
        def door(self) -> "Holder":
            return self

    watcher, model = Watcher(), ScriptedModel([call("store", {"digits": int(CARD[8:])}), "Done."])
    graph = create_voice_graph(
        [Agent("a", instructions="A.", tools=[store])], userdata=Caller if kind == "model" else Holder, llm=model
    )
    conversation = Conversation(graph, config={"callbacks": [watcher]})
    await conversation.run("x")
    await conversation.aclose()
    assert "tool error" in watcher.names
    nowhere(watcher.seen)
    nowhere(caplog.text)
    assert "card" in conversation.messages[2].text
    nowhere(conversation.messages[2].text)


# ---- what a redacted value is

secret_values: st.SearchStrategy[Any] = st.one_of(
    st.text(min_size=1).map(SecretStr), st.binary(min_size=1).map(SecretBytes)
)
callers = st.builds(
    Caller,
    name=st.sampled_from(["", "Ann", MASK, "redacted:x:y"]),
    card=st.none() | st.text(min_size=1).map(SecretStr),
    cards=st.lists(st.builds(Card, number=st.text().map(SecretStr)), max_size=2),
    key=st.binary().map(SecretBytes),
    limit=st.none() | st.integers(0, 10**6).map(Secret[int]),
    door=st.builds(Door, code=st.text().map(SecretStr), floor=st.integers(0, 3)),
)
SERDE = EncryptedSerializer(Gcm())


@thorough
@given(callers)
def test_within_the_process_nothing_is_lost_and_through_a_checkpoint_nothing_that_was_encrypted(caller: Caller) -> None:
    assert from_plain(Caller, to_plain(caller)) == caller
    assert from_plain(Caller, copy.deepcopy(to_plain(caller))) == caller
    channel = UserdataChannel(Caller, secrets=SERDE)
    channel.update([caller])
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert channel.from_checkpoint(strict.loads_typed(strict.dumps_typed(channel.checkpoint()))).get() == caller
    assert channel.from_checkpoint(channel.checkpoint()).get() == caller


@thorough
@given(secret_values)
def test_every_way_of_writing_a_sealed_value_down_writes_the_mask(secret: Any) -> None:
    redacted = Redacted(secret)
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    for written in (
        json.loads(json.dumps(redacted)),
        str(redacted),
        f"{redacted}",
        pickle.loads(pickle.dumps(redacted)),
        strict.loads_typed(strict.dumps_typed(redacted)),
        AIMessage("", tool_calls=[{"name": "x", "args": {"a": redacted}, "id": "1"}]).model_dump(mode="json")[
            "tool_calls"
        ][0]["args"]["a"],
    ):
        assert type(written) is str
        assert written == MASK
    assert redacted == Redacted(type(secret)(secret.get_secret_value()))
    assert redacted != Redacted(SecretStr("another one"))
    assert opened(json.loads(json.dumps(redact_with(SERDE)(secret))), SERDE) == redacted


def test_texts_are_masked_by_what_is_long_enough_to_be_recognised() -> None:
    assert secret_texts([SecretStr("12"), Card(number=SecretStr("123456")), {"a": (SecretBytes(b"1234567"),)}]) == [
        "1234567",
        "123456",
    ]


async def test_what_the_caller_says_is_remembered_as_heard() -> None:
    """Said plainly in the docs: the front end can commit other words."""
    conversation = Conversation(desk(ScriptedModel(["Thanks."])))
    turn = conversation.turn(f"It is {CARD}")
    turn.commit(f"It is {MASK}")
    async for _ in turn:
        pass
    turn.close()
    assert [m.text for m in conversation.messages if isinstance(m, HumanMessage)] == [f"It is {MASK}"]
    await conversation.aclose()


@pytest.mark.parametrize("kept", [False, True], ids=["left out", "encrypted"])
async def test_the_durable_copy_of_a_call_holds_no_secret_and_the_call_has_it_all_along(
    tmp_path: Path, kept: bool
) -> None:
    path = tmp_path / "calls.sqlite"
    secrets = EncryptedSerializer(Gcm()) if kept else None
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        conversation = Conversation(desk(script(), secrets=secrets), thread_id="1", saver=saver)
        await conversation.open()
        for text in WORDS:
            await conversation.run(text)
        assert CHARGED == [CARD], "the call itself goes on with it, from turn to turn"
        await conversation.aclose()
    assert CARD.encode() not in sqlite_bytes(path)
    assert b"store_card" in sqlite_bytes(path)
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        graph = desk(ScriptedModel([]), secrets=secrets).compile(checkpointer=saver)
        userdata = (await graph.aget_state({"configurable": {"thread_id": "1"}})).values["userdata"]
    assert (userdata.name, userdata.card) == ("Ann", SecretStr(CARD) if kept else None)
