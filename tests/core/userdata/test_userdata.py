"""Userdata: typed, shared by the tools of a batch, plain in checkpoints, an instance in the state."""

import copy
import datetime
import enum
import logging
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START
from pydantic import (
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool
from graph_voice.errors import UserdataError
from graph_voice.secrets.values import Redacted
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.userdata.channel import UserdataChannel
from graph_voice.userdata.working_copy import Assignments, WorkingCopy


class Color(enum.Enum):
    RED = "red"


class Place(NamedTuple):
    x: int
    y: int


class Address(BaseModel):
    zip: str = Field("", max_length=5)


@dataclass
class Pet:
    name: str
    age: int = 0


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str = ""


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = ""


RUNS: list[str] = []


def with_prefix(value: str) -> str:
    RUNS.append(value)
    return f"+1 {value}"


class Rich(BaseModel):
    name: str | None = None
    age: int = Field(0, alias="Age", ge=0)
    color: Color | None = None
    pin: SecretStr = SecretStr("1234")
    site: AnyUrl | None = None
    born: datetime.date | None = None
    place: Place | None = None
    numbers: tuple[int, ...] = ()
    seen: set[str] = set()
    address: Address = Address()
    pets: list[Pet] = []
    animal: Cat | Dog | None = None
    by_color: dict[Color, Address] = {}
    hidden: str = Field("h", exclude=True)
    phone: Annotated[str, BeforeValidator(with_prefix)] = ""
    _visits: int = PrivateAttr(0)


def rich() -> Rich:
    found = Rich(
        name="Ann",
        Age=3,
        color=Color.RED,
        pin=SecretStr("0000"),
        site=AnyUrl("https://a.b/"),
        born=datetime.date(2000, 1, 2),
        place=Place(1, 2),
        numbers=(1, 2),
        seen={"x"},
        address=Address(zip="123"),
        pets=[Pet("Rex", 2)],
        animal=Dog(name="Bo"),
        by_color={Color.RED: Address(zip="9")},
        hidden="secret",
        phone="555",
    )
    found._visits = 7
    return found


@dataclass
class Plain:
    name: str = ""
    age: int = 0
    tags: list[str] = field(default_factory=list)
    pet: Pet | None = None
    made: str = field(default="m", init=False)


@dataclass(slots=True)
class Slotted:
    name: str = ""
    tags: list[str] = field(default_factory=list)


def channel_of(value: Any) -> UserdataChannel:
    # This serializer encrypts nothing, so that secrets are kept: tests/core/secrets/test_secrets.py has one that does.
    channel = UserdataChannel(type(value), secrets=JsonPlusSerializer())
    channel.update([value])
    return channel


def stored(value: Any) -> Any:
    """Through a checkpoint that is strict about classes."""
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    data = serde.loads_typed(serde.dumps_typed(channel_of(value).checkpoint()))
    return channel_of(value).from_checkpoint(data).get()


# ---- the channel


@pytest.mark.parametrize(
    "value",
    [rich(), Plain("Ann", 3, ["x"], Pet("Rex")), Slotted("Ann", ["x"])],
    ids=lambda v: type(v).__name__,
)
def test_a_strict_checkpoint_gives_back_an_equal_instance(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        back = stored(value)
    assert back == value
    assert type(back) is type(value)
    assert not caplog.records


def test_private_attributes_secrets_and_excluded_fields_survive_a_checkpoint() -> None:
    back = stored(rich())
    assert (back._visits, back.pin.get_secret_value(), back.hidden) == (7, "0000", "secret")
    assert (type(back.animal), type(back.pets[0]), type(back.place)) == (Dog, Pet, Place)


def test_no_validator_runs_again_on_what_is_stored() -> None:
    value = rich()
    RUNS.clear()
    channel = channel_of(value)
    work = WorkingCopy({"userdata": value})
    work.value.name = "Bob"
    work.value.address.zip = "777"
    work.undo_invalid()
    channel.update([work.changes()])
    assert stored(channel.get()).phone == "+1 555"
    assert channel.get().phone == "+1 555"
    assert RUNS == ["+1 555"], "only the check of the whole, whose result nobody keeps"


def test_a_checkpoint_of_an_older_class_takes_the_defaults_of_new_fields() -> None:
    back = UserdataChannel(Rich).from_checkpoint({"name": "Ann", "phone": "+1 555"}).get()
    assert (back.name, back.age, back.pin.get_secret_value(), back.phone) == ("Ann", 0, "1234", "+1 555")


def test_two_patches_of_one_step_both_survive() -> None:
    channel = channel_of(Rich())
    assert channel.update([{"name": "Ann"}, {"age": 4}])
    assert (channel.get().name, channel.get().age) == ("Ann", 4)


def test_a_patch_is_validated_as_a_whole_and_may_use_aliases() -> None:
    class Limits(BaseModel):
        low: int = 0
        high: int = Field(3, alias="High")

        @model_validator(mode="after")
        def ordered(self) -> "Limits":
            assert self.low <= self.high
            return self

    channel = channel_of(Limits())
    channel.update([{"low": "5", "High": 9}])
    assert (channel.get().low, channel.get().high) == (5, 9)
    with pytest.raises(UserdataError, match="Limits"):
        channel.update([{"low": 50}])
    assert channel.get().low == 5


def test_a_patch_keeps_what_is_no_field() -> None:
    channel = channel_of(rich())
    channel.update([{"name": "Bob"}])
    assert (channel.get()._visits, channel.get().pin.get_secret_value()) == (7, "0000")


def test_a_patch_changes_nobody_elses_instance() -> None:
    value = rich()
    channel = channel_of(value)
    channel.update([{"name": "Bob"}])
    assert value.name == "Ann"


def test_what_is_no_userdata_is_refused_by_name() -> None:
    with pytest.raises(UserdataError, match="an instance of Rich"):
        channel_of(Rich()).update([5])


def test_a_dict_patch_of_a_frozen_model_makes_a_new_one() -> None:
    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)
        name: str = ""

    channel = channel_of(Frozen())
    channel.update([{"name": "Ann"}])
    assert channel.get() == Frozen(name="Ann")


# ---- the working copy


def test_assignments_are_validated_where_they_happen_though_the_class_does_not_ask_for_it() -> None:
    user = WorkingCopy({"userdata": Rich()}).value
    with pytest.raises(ValidationError, match=r"Age|age"):
        user.age = -1
    assert user.age == 0
    user.age = "12"
    assert user.age == 12


def test_a_dataclass_validates_assignments_too() -> None:
    for value in (Plain(), Slotted()):
        user = WorkingCopy({"userdata": value}).value
        with pytest.raises(ValidationError, match="tags"):
            user.tags = 5
        assert user.tags == []


def test_a_validator_of_the_whole_may_set_fields() -> None:
    class Named(BaseModel):
        first: str = ""
        full: str = ""

        @model_validator(mode="after")
        def fill(self) -> "Named":
            self.full = f"{self.first}!"
            return self

    work = WorkingCopy({"userdata": Named()})
    work.value.first = "Ann"
    assert work.changes() == {"first": "Ann", "full": "Ann!"}


def test_a_class_that_names_a_local_class_works() -> None:
    namespace: dict[str, Any] = {"dataclass": dataclass}
    source = """
    from __future__ import annotations

    def make():
        class Toy: ...
        @dataclass
        class Child:
            toy: Toy | None = None
            name: str = ""
        return Child
    """
    exec(textwrap.dedent(source), namespace)
    child = namespace["make"]()
    work = WorkingCopy({"userdata": child()})
    work.value.name = "Ann"
    channel = channel_of(child())
    channel.update([work.changes()])
    assert UserdataChannel(child).from_checkpoint(channel.checkpoint()).get() == child(name="Ann")


def test_a_frozen_model_stays_frozen() -> None:
    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)
        name: str = ""

    work = WorkingCopy({"userdata": Frozen()})
    with pytest.raises(ValidationError, match="frozen"):
        work.value.name = "x"
    assert not work.changes()


def test_in_place_changes_count_and_invalid_ones_are_set_back_to_the_last_valid_value() -> None:
    work = WorkingCopy({"userdata": rich()})
    work.value.address.zip = "77777"
    work.value.seen.add("y")
    assert work.undo_invalid() is None
    work.value.address.zip = "much too long"
    work.value.seen.add("z")
    wrong = work.undo_invalid()
    assert wrong is not None
    assert "address.zip" in wrong
    assert "much too long" not in wrong
    assert work.changes() == {"address": {"zip": "77777"}, "seen": {"x", "y", "z"}}


def test_a_whole_that_does_not_validate_is_undone() -> None:
    @dataclass
    class Range:
        parts: list[int] = field(default_factory=list)

        def __post_init__(self) -> None:
            if sum(self.parts) > 10:
                raise ValueError("too much")

    work = WorkingCopy({"userdata": Range([1])})
    work.value.parts.append(50)
    assert "too much" in (work.undo_invalid() or "")
    assert work.value.parts == [1]


def test_changes_hold_only_what_changed_and_as_plain_data() -> None:
    work = WorkingCopy({"userdata": rich()})
    work.value.pin = SecretStr("9")
    work.value.color = None
    work.value.name = "Ann"
    work.value._visits += 1
    assert work.changes() == {"pin": Redacted(SecretStr("9")), "color": None, "__private__": {"_visits": 8}}


def test_a_batch_that_never_asks_for_the_userdata_copies_nothing() -> None:
    class Heavy(BaseModel):
        def __deepcopy__(self, memo: Any = None) -> Any:
            raise AssertionError("copied")

    work = WorkingCopy({"userdata": Heavy()})
    assert work.current == Heavy()
    assert work.undo_invalid() is None
    assert not work.changes()


def test_the_working_copy_is_not_the_states_own_instance() -> None:
    value = rich()
    before = copy.deepcopy(value)
    work = WorkingCopy({"userdata": value})
    work.value.seen.add("y")
    work.value._visits = 0
    assert value == before


def test_the_copy_behaves_as_an_instance_of_the_class() -> None:
    for value in (rich(), Plain("Ann"), Slotted("Ann")):
        user = WorkingCopy({"userdata": value}).value
        assert isinstance(user, type(value))
        assert user == value
        assert value == user
        assert repr(user) == repr(value)
        back = pickle.loads(pickle.dumps(user))
        assert type(back) is type(value)
        assert back == value


def test_removed_entries_of_a_dict_are_removed() -> None:
    work = WorkingCopy({"userdata": {"a": 1, "b": [1]}})
    del work.value["a"]
    work.value["b"].append(2)
    channel = UserdataChannel(dict)
    channel.update([{"a": 1, "b": [1], "c": 0}])
    channel.update([work.changes()])
    assert channel.get() == {"b": [1, 2], "c": 0}


def test_what_a_finished_call_sets_later_is_not_stored() -> None:
    work = WorkingCopy({"userdata": Rich()})
    over = Assignments()
    with work.assigned_by(over):
        work.value.name = "Ann"
        over.over = True
        with pytest.raises(RuntimeError, match="after the tool call had been answered"):
            work.value.name = "Bob"
    assert work.changes() == {"name": "Ann"}


Values = st.one_of(st.none(), st.text(max_size=3))
Steps = st.lists(
    st.one_of(
        st.tuples(st.just("name"), Values),
        st.tuples(st.just("age"), st.integers(-3, 5)),
        st.tuples(st.just("zip"), st.text(alphabet="12", max_size=7)),
        st.tuples(st.just("seen"), st.text(max_size=2)),
        st.tuples(st.just("pets"), st.integers(0, 9)),
        st.tuples(st.just("visits"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.none()),
    ),
    max_size=12,
)


def apply_step(user: Any, step: tuple[str, Any]) -> None:
    kind, value = step
    match kind:
        case "name":
            user.name = value
        case "age":
            user.age = value
        case "zip":
            user.address.zip = value
        case "seen":
            user.seen.add(value)
        case "pets":
            user.pets.append(Pet("Rex", value))
        case "visits":
            user._visits = value


@settings(deadline=None, max_examples=60)
@given(st.lists(Steps, max_size=3))
def test_a_channel_that_took_a_batchs_changes_holds_what_the_batch_saw(batches: Sequence[Sequence[Any]]) -> None:
    """And that is what the same steps do to a plain instance, but for those that are not valid."""
    channel = channel_of(Rich())
    expected = Rich()
    valid_zip = ""
    for steps in batches:
        work = WorkingCopy({"userdata": channel.get()})
        for step in [*steps, ("end", None)]:
            if step[0] == "end":
                work.undo_invalid()
                if len(expected.address.zip) > 5:
                    expected.address.zip = valid_zip
                valid_zip = expected.address.zip
                continue
            if step[0] == "age" and step[1] < 0:
                with pytest.raises(ValidationError):
                    apply_step(work.value, step)
                continue
            apply_step(work.value, step)
            apply_step(expected, step)
        seen = copy.deepcopy(work.current)
        channel.update([work.changes()])
        assert channel.get() == seen
        assert channel.get() == expected
        assert type(channel.get()) is Rich
        channel = UserdataChannel(Rich).from_checkpoint(channel.checkpoint())
        assert channel.get() == expected


# ---- in graphs


def graph_for(kind: Any, tools: list[Any], replies: list[Any]) -> Any:
    agent = Agent("intake", instructions="Intake.", tools=tools)
    return create_voice_graph([agent], userdata=kind, llm=ScriptedModel(replies))


@pytest.mark.parametrize("where", ["memory", "sqlite"])
async def test_the_state_holds_an_instance_after_a_checkpoint(where: str, caplog: pytest.LogCaptureFixture) -> None:
    @function_tool
    async def learn(ctx: RunContext[Rich], name: str) -> str:
        """Learn."""
        ctx.userdata.name = name
        ctx.userdata.address = Address(zip="1")
        ctx.userdata.pets.append(Pet("Rex", 1))
        return "Noted."

    builder = graph_for(Rich, [learn], [say(call("learn", {"name": "Ann"})), "Hi.", "Bye."])
    config: Any = {"configurable": {"thread_id": "t"}}
    async with AsyncSqliteSaver.from_conn_string(":memory:") as sqlite:
        saver = InMemorySaver() if where == "memory" else sqlite
        graph = builder.compile(checkpointer=saver)
        with caplog.at_level(logging.WARNING):
            await graph.ainvoke({"messages": [HumanMessage("Ann")]}, config)
            await graph.ainvoke({"messages": [HumanMessage("Again")]}, config)
            values = (await graph.aget_state(config)).values
    assert type(values["userdata"]) is Rich
    assert values["userdata"].name == "Ann"
    assert values["userdata"].pets == [Pet("Rex", 1)]
    assert not [r for r in caplog.records if "msgpack" in r.getMessage().lower()]


def test_a_strict_process_keeps_the_userdata() -> None:
    """LANGGRAPH_STRICT_MSGPACK is read when langgraph is imported, so it takes a process of its own."""
    script = """
    import asyncio, tempfile, os
    from typing import Any
    from pydantic import BaseModel, SecretStr
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.types import Command, interrupt
    from graph_voice import Agent, RunContext, create_voice_graph, function_tool
    from graph_voice.testing import ScriptedModel, call, say

    class Address(BaseModel):
        zip: str = ""

    class Caller(BaseModel):
        name: str = ""
        pin: SecretStr = SecretStr("")
        address: Address = Address()

    @function_tool
    async def learn(ctx: RunContext[Caller], name: str) -> str:
        "Learn."
        ctx.userdata.name, ctx.userdata.pin = name, SecretStr("12")
        ctx.userdata.address = Address(zip="9")
        return "Noted."

    @function_tool
    async def ask(ctx: RunContext[Caller]) -> str:
        "Ask."
        return interrupt("Well?")

    async def main(saver: Any) -> None:
        model = ScriptedModel([say(call("learn", {"name": "Ann"}), call("ask")), "Hi."])
        agent = Agent("a", instructions="A.", tools=[learn, ask])
        graph = create_voice_graph([agent], userdata=Caller, llm=model, secrets=JsonPlusSerializer())
        compiled = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        await compiled.ainvoke({"messages": [("user", "x")], "userdata": {"name": "Bob"}}, config)
        await compiled.ainvoke(Command(resume="fine"), config)
        user = (await compiled.aget_state(config)).values["userdata"]
        assert type(user) is Caller and user.name == "Ann" and user.address == Address(zip="9"), user
        assert user.pin.get_secret_value() == "12"

    async def both() -> None:
        await main(InMemorySaver())
        with tempfile.TemporaryDirectory() as folder:
            async with AsyncSqliteSaver.from_conn_string(os.path.join(folder, "db")) as saver:
                await main(saver)

    asyncio.run(both())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()


async def test_nodes_of_one_step_write_different_fields() -> None:
    builder = graph_for(Rich, [], ["Hi."])
    builder.add_node("one", lambda state: {"userdata": {"name": "Ann"}})
    builder.add_node("two", lambda state: {"userdata": {"Age": 5}})
    builder.add_edge(START, "one")
    builder.add_edge(START, "two")
    result = await builder.compile().ainvoke({"messages": [HumanMessage("x")]})
    assert (result["userdata"].name, result["userdata"].age) == ("Ann", 5)


class Needs(BaseModel):
    name: str
    account: int


async def test_a_class_with_required_fields_says_what_to_pass() -> None:
    builder = graph_for(Needs, [], ["Hi."])
    with pytest.raises(UserdataError, match=r"Conversation\(graph, userdata=\.\.\.\)"):
        await builder.compile().ainvoke({"messages": [HumanMessage("x")]})


async def test_a_class_with_required_fields_works_when_they_are_given() -> None:
    builder = graph_for(Needs, [], ["Hi."])
    conversation: Conversation[Needs] = Conversation(builder, userdata=Needs(name="Ann", account=1))
    await conversation.run("Hello")
    assert conversation.userdata == Needs(name="Ann", account=1)
    result = (
        await graph_for(Needs, [], ["Hi."])
        .compile()
        .ainvoke({"messages": [HumanMessage("x")], "userdata": {"name": "Ann", "account": "1"}})
    )
    assert result["userdata"] == Needs(name="Ann", account=1)


async def test_what_does_not_validate_changes_nothing_and_the_model_is_told_without_the_value() -> None:
    @function_tool
    async def learn(ctx: RunContext[Rich], zip: str, age: int) -> str:
        """Learn."""
        ctx.userdata.name = "Ann"
        ctx.userdata.address.zip = zip
        ctx.userdata.age = age
        return "Noted."

    replies = [
        say(call("learn", {"zip": "1", "age": -7})),
        say(call("learn", {"zip": "123456", "age": 7})),
        "Sorry.",
    ]
    result = await graph_for(Rich, [learn], replies).compile().ainvoke({"messages": [HumanMessage("x")]})
    told = [m for m in result["messages"] if isinstance(m, ToolMessage)]
    assert [m.status for m in told] == ["error", "error"]
    assert all(m.text.startswith("Not stored, invalid: ") for m in told)
    assert "-7" not in told[0].text
    assert "123456" not in told[1].text
    user = result["userdata"]
    assert (user.name, user.age, user.address.zip) == ("Ann", 7, "1")
