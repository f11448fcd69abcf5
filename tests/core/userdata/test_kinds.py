"""Userdata keeps its kinds: in its process all of them, through a store all that the class names; the rest is told."""

import collections
import copy
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from value_support import Card, Cart, Case, Color, Point, data, same

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool
from graph_voice.errors import UserdataError
from graph_voice.testing import Call, ScriptedModel, call
from graph_voice.userdata.channel import UserdataChannel
from graph_voice.userdata.working_copy import WorkingCopy

thorough = settings(deadline=None, max_examples=150)
STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)


def counting() -> Any:
    return collections.defaultdict(int)


@dataclass
class Plain:
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=2))
    bare: deque = field(default_factory=lambda: deque(maxlen=2))  # type: ignore[type-arg]
    by: dict = field(default_factory=lambda: collections.defaultdict(list))  # type: ignore[type-arg]
    nested: dict[str, Any] = field(default_factory=lambda: collections.defaultdict(counting))
    counts: Any = field(default_factory=lambda: collections.defaultdict(int))
    cart: Cart = field(default_factory=Cart)
    case: Case = field(default_factory=Case)
    carts: list[Cart] = field(default_factory=list)
    by_key: dict[str, Cart] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    letters: collections.Counter[str] = field(default_factory=collections.Counter)
    ordered: collections.OrderedDict[str, int] = field(default_factory=collections.OrderedDict)
    big: int = 0
    raw: bytearray = field(default_factory=bytearray)


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    recent: deque[int] = Field(default_factory=lambda: deque(maxlen=2))
    by: dict[str, list[int]] = Field(default_factory=lambda: collections.defaultdict(list))
    counts: Any = Field(default_factory=lambda: collections.defaultdict(int))
    cart: Cart = Field(default_factory=Cart)
    case: Case = Field(default_factory=Case)
    carts: list[Cart] = []


def through_a_store(value: Any) -> tuple[Any, Any]:
    """What another process reads, and what the process that stored it says is lost."""
    channel = UserdataChannel(type(value))
    channel.update([value])
    written = channel.checkpoint()
    read = STRICT.loads_typed(STRICT.dumps_typed(written))
    return channel.from_checkpoint(read).get(), written.lost(read)


def fill(u: Any) -> None:
    u.recent.extend([1, 2, 3])
    u.by["a"].append(1)
    u.counts["x"] += 1
    u.cart.items.append("kettle")
    u.case["said"] = u.case.shout()
    u.carts.append(Cart(["cup"]))


def fill_plain(u: Any) -> None:
    fill(u)
    u.bare.extend([1, 2, 3])
    u.nested["a"]["b"] += 1
    u.by_key.setdefault("a", Cart()).items.append("cup")
    u.cases.append(Case(a=1))
    u.points.append(Point(1, 2))
    u.letters.update("ab")
    u.ordered["z"] = 1
    u.big = 9400110200881234567890
    u.raw.extend(b"\xff")


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "stored"])
@pytest.mark.parametrize("kind", [Plain, Model])
async def test_a_tool_of_the_next_turn_finds_what_the_first_left(front_end: str, stored: bool, kind: Any) -> None:
    make = fill_plain if kind is Plain else fill

    @function_tool
    async def step(ctx: RunContext[Any]) -> str:
        """Step."""
        make(ctx.userdata)
        return "done"

    model = ScriptedModel(lambda ms: call("step") if ms[-1].type == "human" else "All right.")
    graph = create_voice_graph([Agent("a", instructions="A.", tools=[step])], userdata=kind, llm=model)
    expected = kind()
    saver = InMemorySaver() if stored else None
    async with Call(graph, front_end=front_end, saver=saver, thread_id="1") as phone:
        for _ in range(2):
            await phone.says("Go.")
            make(expected)
            assert same(vars(phone.userdata), vars(expected))
    if saver is not None:
        async with Conversation(graph, thread_id="1", saver=saver) as again:
            assert same(vars(again.userdata), vars(expected))
            await again.run("Go.")
            make(expected)
            assert same(vars(again.userdata), vars(expected))


@pytest.mark.parametrize("kind", [Plain, Model])
def test_what_the_class_names_comes_back_from_a_strict_store(kind: Any) -> None:
    value = kind()
    (fill_plain if kind is Plain else fill)(value)
    back, lost = through_a_store(value)
    assert same(vars(back), vars(value))
    assert lost == []


class Open(BaseModel):
    """A class that says nothing of its values."""

    anything: Any = None
    entries: dict[Any, Any] = {}
    listed: list[Any] = []
    card: Card = Card()
    _private: Any = None


@dataclass
class OpenToo:
    anything: Any = None
    listed: list = field(default_factory=list)  # type: ignore[type-arg]


@thorough
@given(data, data)
def test_any_value_is_kept_in_the_process_and_through_a_store_it_is_the_same_or_its_loss_is_told(
    one: Any, two: Any
) -> None:
    for value in (Open(anything=one, listed=[two], card=Card(note=one)), OpenToo(one, [two])):
        channel = UserdataChannel(type(value))
        channel.update([value])
        work = WorkingCopy({"userdata": channel.get()})
        work.value.listed.append(copy.deepcopy(one))
        work.undo_invalid()
        channel.update([work.changes()])
        channel = channel.from_checkpoint(channel.checkpoint())
        expected = copy.deepcopy(value)
        expected.listed.append(one)
        assert same(vars(channel.get()), vars(expected))
        back, lost = through_a_store(channel.get())
        assert same(vars(back), vars(expected)) or lost


@thorough
@given(data)
def test_userdata_that_is_a_dict_as_well(value: Any) -> None:
    channel = UserdataChannel(dict)
    channel.update([{"a": value, "b": [value]}])
    assert same(channel.from_checkpoint(channel.checkpoint()).get(), {"a": value, "b": [value]})
    written = channel.checkpoint()
    try:
        read = STRICT.loads_typed(STRICT.dumps_typed(written))
    except TypeError:
        return  # what the store can't hold is the store's matter: tests/core/storage/test_values.py
    assert same(channel.from_checkpoint(read).get(), channel.get()) or written.lost(read)


# ---- a class that has changed since


class Old(BaseModel):
    name: str = ""
    age: int = 0
    mood: Literal["good", "bad"] = "good"
    gone: str = "was here"
    cards: list[Card] = []


def stored_by_old() -> Any:
    channel = UserdataChannel(Old)
    channel.update([Old(name="Ada", age=36, mood="bad", cards=[Card(number=1)])])
    return STRICT.loads_typed(STRICT.dumps_typed(channel.checkpoint()))


def test_a_new_field_gets_its_default_wherever_it_is() -> None:
    class Inner(BaseModel):
        number: int = 0
        color: Color = Color.RED

    class New(BaseModel):
        name: str = ""
        city: str = "Graz"
        tags: list[str] = Field(default_factory=lambda: ["new"])
        cards: list[Inner] = []

    @dataclass
    class NewToo:
        name: str = ""
        city: str = "Graz"
        tags: list[str] = field(default_factory=lambda: ["new"])
        cards: list[Card] = field(default_factory=list)

    for kind in (New, NewToo):
        found = UserdataChannel(kind).from_checkpoint(stored_by_old()).get()
        assert (found.name, found.city, found.tags) == ("Ada", "Graz", ["new"])
        assert found.cards[0].number == 1
    assert UserdataChannel(New).from_checkpoint(stored_by_old()).get().cards == [Inner(number=1, color=Color.RED)]


@pytest.mark.parametrize("inside", [False, True])
async def test_a_new_field_without_a_default_is_named(inside: bool) -> None:
    class Inner(BaseModel):
        number: int
        expires: str

    class New(BaseModel):
        name: str = ""
        cards: list[Inner] = []

    class Flat(BaseModel):
        city: str
        name: str = ""

    @dataclass
    class FlatToo:
        city: str
        name: str = ""

    saver = InMemorySaver()
    model = ScriptedModel(lambda ms: "Hi.")
    old = create_voice_graph([Agent("a", instructions="A.")], userdata=Old, llm=model)
    async with Conversation(old, thread_id="1", saver=saver, userdata=Old(name="Ada", cards=[Card()])) as first:
        await first.run("Hello.")
    for kind in [New] if inside else [Flat, FlatToo]:
        field_ = r"userdata\.cards\[0\]\.expires" if inside else r"userdata\.city"
        new = create_voice_graph([Agent("a", instructions="A.")], userdata=kind, llm=model)
        with pytest.raises(UserdataError, match=rf"lacks {field_}, which \w+ requires.*give a new field a default"):
            await Conversation(new, thread_id="1", saver=saver).open()
        with pytest.raises(UserdataError, match=f"lacks {field_}"):
            await new.compile(checkpointer=saver).ainvoke({"messages": ["x"]}, {"configurable": {"thread_id": "1"}})


@pytest.mark.virtual_clock
async def test_a_livekit_call_says_so_at_once_and_goes_on_as_a_new_one(caplog: pytest.LogCaptureFixture) -> None:
    class Flat(BaseModel):
        city: str
        name: str = ""

    class Counting(InMemorySaver):
        reads = 0

        async def aget_tuple(self, config: Any) -> Any:
            self.reads += not config["configurable"].get("checkpoint_ns")  # not who owns the thread
            return await super().aget_tuple(config)

    saver = Counting()
    model = ScriptedModel(lambda ms: "Hi.")
    old = create_voice_graph([Agent("a", instructions="A.")], userdata=Old, llm=model)
    async with Conversation(old, thread_id="1", saver=saver) as first:
        await first.run("Hello.")
    saver.reads = 0
    new = create_voice_graph([Agent("a", instructions="A.")], userdata=Flat, llm=model)
    async with Call(new, front_end="livekit", saver=saver, thread_id="1", userdata=Flat(city="Graz")) as phone:
        assert (await phone.says("Hello again.")).heard == "Hi."
        assert phone.userdata == Flat(city="Graz")
    assert saver.reads == 1, "nobody waits for what can't get better"
    assert "lacks userdata.city" in caplog.text
    assert len([r for r in caplog.records if "lacks userdata.city" in r.getMessage()]) == 1


def test_what_no_longer_fits_its_type_stays_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class New(BaseModel):
        name: int = 0
        mood: Literal["good"] = "good"
        cards: list[Card] = []
        notes: list[str] = []

    with caplog.at_level(logging.WARNING):
        channel = UserdataChannel(New).from_checkpoint(stored_by_old())
    assert (channel.get().name, channel.get().mood) == ("Ada", "bad")
    assert "userdata.name, userdata.mood" in caplog.text
    assert "Ada" not in caplog.text
    work = WorkingCopy({"userdata": channel.get()})
    work.value.notes.append("new")
    assert work.undo_invalid() is None, "an old value is not the fault of what a tool does"
    assert work.value.notes == ["new"]


# ---- secrets that are left out


class Paper(BaseModel):
    number: SecretStr
    kind: str = "visa"


class Wallet(BaseModel):
    paper: Paper
    name: str = ""


@dataclass
class Purse:
    paper: Paper


class Payer(BaseModel):
    name: str = ""
    card: Paper | None = None
    spare: Paper | None = Field(default=None)
    always: Paper | None
    wallet: Wallet | None = None
    purse: Purse | None = None
    house: Paper = Paper(number=SecretStr("house"), kind="house")
    cards: list[Paper] = []
    by_name: dict[str, Paper] = {}
    pair: tuple[Paper, int] | None = None
    soft: SecretStr | None = None


def test_a_nested_model_that_lost_its_secrets_is_its_fields_default() -> None:
    paper = Paper(number=SecretStr("4111"))
    full = Payer(
        name="Ann",
        card=paper,
        spare=paper,
        always=paper,
        wallet=Wallet(paper=paper, name="w"),
        purse=Purse(paper),
        house=paper,
        cards=[paper],
        by_name={"a": paper},
        pair=(paper, 1),
        soft=SecretStr("x"),
    )
    back, lost = through_a_store(full)
    assert back == Payer(name="Ann", always=None)
    assert back.house.number.get_secret_value() == "house"
    assert lost == [], "that secrets are left out is said in the docs"


def test_an_empty_secret_stands_only_where_there_is_nothing_else() -> None:
    class Must(BaseModel):
        pin: SecretStr
        wallet: Wallet

    back, _ = through_a_store(
        Must(pin=SecretStr("1234"), wallet=Wallet(paper=Paper(number=SecretStr("4111")), name="w"))
    )
    assert not back.pin
    assert (back.wallet.name, back.wallet.paper.kind) == ("w", "visa")
    assert not back.wallet.paper.number


@given(st.lists(st.sampled_from(["card", "cards", "by_name", "wallet"]), min_size=1, max_size=4))
def test_a_batchs_changes_lose_a_model_whole_too(names: list[str]) -> None:
    paper = Paper(number=SecretStr("4111"))
    values = {"card": paper, "cards": [paper], "by_name": {"a": paper}, "wallet": Wallet(paper=paper)}
    work = WorkingCopy({"userdata": Payer(always=None)})
    for name in names:
        setattr(work.value, name, values[name])
    written = STRICT.loads_typed(STRICT.dumps_typed(work.changes()))
    channel = UserdataChannel(Payer)
    channel.update([Payer(always=None)])
    channel.update([written])
    assert channel.get() == Payer(always=None)
