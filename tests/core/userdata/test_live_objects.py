"""Userdata holds data. What is alive is refused where it is put, with the field's name and the place for it."""

import asyncio
import collections
import concurrent.futures
import contextvars
import functools
import io
import logging
import queue
import random
import re
import socket
import sqlite3
import subprocess
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError, UserdataError
from graph_voice.testing import Call, ScriptedModel, call
from graph_voice.userdata.data import trouble


class Client:
    """As programs have it: a class of their own around something that lives."""

    def __init__(self) -> None:
        self.url = "https://shop"
        self.lock = threading.Lock()


class Session:
    """A resource: it holds nothing yet, but it is one."""

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *args: Any) -> None: ...


class Shop(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    client: Any = None


def a_generator() -> Iterator[int]:
    yield 1


def a_connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def a_socket() -> socket.socket:
    return socket.socket()


ALIVE: dict[str, Callable[[], Any]] = {
    "a Client (its lock is a lock)": Client,
    "a Session": Session,
    "a Connection": a_connection,
    "a socket": a_socket,
    "a lock": threading.Lock,
    "a RLock": threading.RLock,
    "a Thread": threading.Thread,
    "an Event": asyncio.Event,
    "a Lock": asyncio.Lock,
    "a Queue": asyncio.Queue,
    "a SimpleQueue": queue.SimpleQueue,
    "a ThreadPoolExecutor": concurrent.futures.ThreadPoolExecutor,
    "a generator": a_generator,
    "a list_iterator": lambda: iter([1]),
    "a module": lambda: threading,
    "a function": lambda: a_generator,
    "a method": lambda: Client().__init__,
    "a builtin_function_or_method": lambda: len,
    "a partial": lambda: functools.partial(len),
    "a type": lambda: Client,
    "a ModelMetaclass": lambda: Shop,
    "a ContextVar": lambda: contextvars.ContextVar("x"),
    "a ReferenceType": lambda: weakref.ref(Client),
    "a WeakValueDictionary": weakref.WeakValueDictionary,
    "a Logger": lambda: logging.getLogger("x"),
    "a StringIO": io.StringIO,
    "a Random": random.Random,
    "a Popen": lambda: subprocess.Popen.__new__(subprocess.Popen),
    "a ValueError": lambda: ValueError("x"),
    "an AsyncClient": httpx.AsyncClient,
    "an object": object,
}
alive = pytest.mark.parametrize(("what", "make"), list(ALIVE.items()), ids=list(ALIVE))


@pytest.fixture
def made() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Makes a live object that is closed again."""
    found: list[Any] = []

    def make(kind: Callable[[], Any]) -> Any:
        found.append(kind())
        return found[-1]

    yield make
    for one in found:
        if isinstance(one, sqlite3.Connection | socket.socket | io.StringIO):
            one.close()


@dataclass
class Caller:
    shop: Shop = field(default_factory=Shop)
    things: dict[str, Any] = field(default_factory=dict)
    client: Any = None
    name: str = ""


PLACES: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "field": lambda one: (Caller(client=one), "userdata.client"),
    "field of a model": lambda one: (Caller(shop=Shop(client=one)), "userdata.shop.client"),
    "entry": lambda one: (Caller(things={"a": [one]}), "userdata.things['a'][0]"),
    "tuple": lambda one: (Caller(client=(1, one)), "userdata.client[1]"),
    "deque": lambda one: (Caller(client=collections.deque([one])), "userdata.client[0]"),
    "subclass": lambda one: (Caller(client=Case(one)), "userdata.client.inside"),
}


class Case(dict[str, Any]):
    def __init__(self, inside: Any) -> None:
        self.inside = inside


# ---- where it is put


@alive
@pytest.mark.parametrize("place", list(PLACES))
async def test_it_is_refused_when_the_call_is_made(what: str, make: Any, place: str, made: Any) -> None:
    userdata, where = PLACES[place](made(make))
    graph = create_voice_graph([Agent("a", instructions="A.")], userdata=Caller, llm=ScriptedModel([]))
    with pytest.raises(UserdataError, match=rf"{re.escape(where)} can't hold {re.escape(what)}: .*context="):
        Conversation(graph, userdata=userdata)


@alive
async def test_it_is_refused_in_a_runs_input_and_from_a_node(what: str, make: Any, made: Any) -> None:
    one = made(make)
    builder = create_voice_graph([Agent("a", instructions="A.")], userdata=Caller, llm=ScriptedModel(["Hi."]))
    builder.add_node("look_up", lambda state: {"userdata": {"client": one}})
    builder.add_edge("a", "look_up")
    with pytest.raises(UserdataError, match=rf"\['client'\] can't hold {re.escape(what)}"):
        await builder.compile().ainvoke({"messages": [HumanMessage("x")]})
    with pytest.raises(UserdataError, match=rf"userdata.client can't hold {re.escape(what)}"):
        await builder.compile().ainvoke({"messages": [HumanMessage("x")], "userdata": Caller(client=one)})


def graph_with(tool: Any, kind: Any = Caller) -> Any:
    model = ScriptedModel(lambda ms: call("put") if ms[-1].type == "human" else "All right.")
    return create_voice_graph([Agent("a", instructions="A.", tools=[tool])], userdata=kind, llm=model)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "stored"])
@pytest.mark.parametrize("how", ["assigned", "in place", "in a dict", "private"])
async def test_a_tool_that_puts_it_there_is_told_so_and_the_call_goes_on(
    front_end: str, stored: bool, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    @function_tool
    async def put(ctx: RunContext[Any]) -> str:
        """Put."""
        if how == "in a dict":
            ctx.userdata["client"] = Client()
        elif how == "in place":
            ctx.userdata.shop.client = Client()
        elif how == "private":
            ctx.userdata._client = Client()
        else:
            ctx.userdata.client = Client()
        return "done"

    class Hiding(BaseModel):
        name: str = ""
        _client: Any = PrivateAttr(None)

    kind: Any = {"in a dict": None, "private": Hiding}.get(how, Caller)
    saver = InMemorySaver() if stored else None
    async with Call(graph_with(put, kind), front_end=front_end, saver=saver) as phone:
        for _ in range(2):
            result = await phone.says("Go.")
            assert result.heard == "All right."
            told = next(m for m in reversed(phone.messages) if m.type == "tool")
            assert "client" in told.text
            assert "can't hold a Client (its lock is a lock)" in told.text
        assert trouble(phone.userdata) is None
    assert "context=" in caplog.text


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_what_lives_has_its_place_in_the_context(front_end: str) -> None:
    @function_tool
    async def put(ctx: RunContext[Caller]) -> str:
        """Use it."""
        ctx.userdata.name = ctx.context.url
        return "done"

    async with Call(graph_with(put), front_end=front_end, context=Client()) as phone:
        await phone.says("Go.")
        assert phone.userdata.name == "https://shop"


async def test_it_is_refused_as_a_default() -> None:
    class Named(BaseModel):
        client: Any = Client()

    @dataclass
    class Plain:
        client: Any = len

    class Made(BaseModel):
        name: str = ""
        client: Any = None
        _client: Any = PrivateAttr(default_factory=Client)

    @dataclass
    class MadeToo:
        client: Any = field(default_factory=Client)

    with pytest.raises(BuildError, match=r"Named\.client can't hold a Client"):
        create_voice_graph([Agent("a", instructions="A.")], userdata=Named)
    with pytest.raises(BuildError, match=r"Plain\.client can't hold a builtin"):
        create_voice_graph([Agent("a", instructions="A.")], userdata=Plain)
    for kind, name in ((Made, "_client"), (MadeToo, "client")):
        graph = create_voice_graph([Agent("a", instructions="A.")], userdata=kind, llm=ScriptedModel(["Hi."]))
        with pytest.raises(UserdataError, match=rf"userdata\.{name} can't hold a Client"):
            Conversation(graph)
        with pytest.raises(UserdataError, match=rf"userdata\.{name} can't hold a Client"):
            await graph.compile().ainvoke({"messages": ["x"]})


async def test_what_the_program_puts_in_by_hand_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can see an assignment outside of a tool; the next turn can."""

    @function_tool
    async def put(ctx: RunContext[Caller]) -> str:
        """Put."""
        return ctx.userdata.name

    conversation: Conversation[Caller] = Conversation(graph_with(put))
    conversation.userdata.client = Client()
    await conversation.run("Go.")
    await conversation.aclose()
    assert "userdata.client can't hold a Client (its lock is a lock)" in caplog.text


def test_a_structure_that_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append({"a": ring})
    assert "contains itself" in str(trouble(Caller(client=ring)))
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert "nested more than" in str(trouble(Caller(client=deep)))


async def test_a_cached_property_may_hold_what_lives() -> None:
    """It is no part of the userdata: it is made anew where it is needed."""

    class Part:
        n = 1

        @functools.cached_property
        def client(self) -> Client:
            return Client()

    class Inner(BaseModel):
        @functools.cached_property
        def client(self) -> Client:
            return Client()

    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        n: int = 0
        inner: Inner = Inner()
        part: Part = Field(default_factory=Part)

        @functools.cached_property
        def client(self) -> Client:
            return Client()

    @dataclass
    class Plain:
        n: int = 0

        @functools.cached_property
        def client(self) -> Client:
            return Client()

    for kind in (Holder, Plain):

        @function_tool
        async def put(ctx: RunContext[Any]) -> str:
            """Put."""
            assert ctx.userdata.client.url
            if isinstance(ctx.userdata, Holder):
                assert ctx.userdata.inner.client.url
                assert ctx.userdata.part.client.url
            ctx.userdata.n += 1
            return "done"

        conversation: Conversation[Any] = Conversation(graph_with(put, kind))
        for _ in range(2):
            assert conversation.userdata.client.url
            if isinstance(conversation.userdata, Holder):
                assert conversation.userdata.inner.client.url
                assert conversation.userdata.part.client.url
            await conversation.run("Go.")
        assert conversation.userdata.n == 2
        await conversation.aclose()


DATA: list[Any] = [
    {"a": {"b": [1, (2, 3), {4}, frozenset({5})]}},
    collections.deque([1], maxlen=2),
    collections.defaultdict(list, a=[1]),
    collections.Counter("ab"),
    collections.OrderedDict(a=1),
    collections.ChainMap({"a": 1}),
    collections.UserDict(a=1),
    types.SimpleNamespace(a=1),
    re.compile("x"),
    bytearray(b"x"),
    HumanMessage("x"),
    1j,
    2**200,
]


@pytest.mark.parametrize("value", DATA, ids=lambda v: type(v).__name__)
def test_data_is_not_refused(value: Any) -> None:
    assert trouble(Caller(client=value, things={"a": [value]})) is None
