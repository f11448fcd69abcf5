"""The connection to an MCP server, with sessions that are played: what dies when, and who waits for what."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, StructuredTool, ToolException

from graph_voice.agents.mcp_connection import LONGEST_PAUSE, PING_AFTER, PING_DURING_CALLS, Connection
from graph_voice.agents.tool_errors import ToolError

pytestmark = pytest.mark.virtual_clock
TIMEOUT = 10.0


class Server:
    """A server: it can die, be unreachable, answer nothing, and change its tools."""

    def __init__(self, *tools: str) -> None:
        self.tools = list(tools)
        self.reachable, self.mute = True, False
        self.opened = self.listed = self.pinged = 0
        self.attempts: list[float] = []
        self.ran: list[str] = []
        self.life = 0
        self.changed: Callable[[], None] = lambda: None

    def die(self, *, for_good: bool = False) -> None:
        self.life += 1
        self.reachable = not for_good

    @contextlib.asynccontextmanager
    async def open(self, changed: Callable[[], None]) -> AsyncIterator[Any]:
        self.attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.1)
        if not self.reachable:
            raise ConnectionError("nobody there")
        self.opened += 1
        self.changed = changed
        yield Life(self, self.life)

    async def load(self, session: Any) -> Sequence[BaseTool]:
        found = [self.tool(name) for name in self.tools]
        await session.answer()
        self.listed += 1
        return found

    def tool(self, name: str) -> BaseTool:
        async def run() -> str:
            return name

        return StructuredTool.from_function(coroutine=run, name=name, description=name)

    def connect(self) -> Connection:
        return Connection("orders", self.open, self.load, TIMEOUT)


class Life:
    """A session: it lives as long as its server does."""

    def __init__(self, server: Server, life: int) -> None:
        self.server, self.life = server, life

    async def answer(self) -> None:
        await asyncio.sleep(0.05)
        if self.server.mute:
            await asyncio.Event().wait()
        if self.server.life != self.life:
            raise ConnectionError("gone")

    async def initialize(self) -> None:
        await self.answer()

    async def send_ping(self) -> None:
        self.server.pinged += 1
        await self.answer()


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    connection = server.connect()
    try:
        await connection.decided()
        yield connection
    finally:
        await connection.aclose()


def names(connection: Connection) -> list[str]:
    return [tool.name for tool in connection.tools]


def taking(
    seconds: float, server: Server | None = None, *, dies: bool = False, says: BaseException | None = None
) -> Any:
    """A tool that takes so long. `dies`: its server dies then. `says`: what it raises."""

    async def run(tool: BaseTool) -> str:
        await asyncio.sleep(seconds)
        if server is not None:
            server.ran.append(tool.name)
            if dies:
                server.die()
        if says is not None:
            raise says
        return tool.name

    return run


async def test_the_list_is_read_once_and_again_when_it_has_changed() -> None:
    server = Server("look")
    async with connected(server) as connection:
        for _ in range(5):
            assert await connection.call("look", taking(1)) == "look"
        assert server.listed == 1
        server.tools = ["look", "book"]
        server.changed()
        await asyncio.sleep(1)
        assert (server.listed, names(connection)) == (2, ["look", "book"])


async def test_a_change_while_the_list_is_read_is_not_lost() -> None:
    server = Server("look")
    async with connected(server) as connection:
        server.changed()
        await asyncio.sleep(0.02)
        server.tools = ["book"]
        server.changed()
        await asyncio.sleep(1)
        assert names(connection) == ["book"]


async def test_a_tool_call_whose_server_dies_is_told_so_and_the_next_one_waits_for_the_new_one() -> None:
    server = Server("look")
    async with connected(server) as connection:
        with pytest.raises(ToolError, match=r"look failed: orders was lost while it ran. It is not known whether"):
            await connection.call("look", taking(1, server, dies=True, says=ConnectionError("closed")))
        assert names(connection) == ["look"]  # it may well be there again in a moment
        assert await connection.call("look", taking(1, server)) == "look"
        assert (server.opened, server.ran) == (2, ["look", "look"])


async def test_a_tool_call_that_never_hears_of_its_servers_end_is_told_within_seconds() -> None:
    server, loop = Server("look"), asyncio.get_running_loop()
    async with connected(server) as connection:
        await asyncio.sleep(5)
        running = asyncio.create_task(connection.call("look", taking(1000)))
        await asyncio.sleep(1)
        began = loop.time()
        server.die()
        with pytest.raises(ToolError, match="was lost while it ran"):
            await running
        assert loop.time() - began <= PING_DURING_CALLS + 0.1
        assert await connection.call("look", taking(1)) == "look"
        assert server.pinged == 1  # a quick tool call costs no question


async def test_all_tool_calls_that_ran_are_told() -> None:
    server = Server("look")
    async with connected(server) as connection:
        calls = [connection.call("look", taking(60)) for _ in range(3)]
        dying = connection.call("look", taking(1, server, dies=True, says=asyncio.CancelledError()))
        found = await asyncio.gather(*calls, dying, return_exceptions=True)
        assert [type(one) for one in found] == [ToolError] * 4


@pytest.mark.parametrize("says", [ToolException("No such order."), ValueError("no audio")])
async def test_what_a_tool_itself_raises_is_passed_on_and_nothing_is_connected_anew(says: Exception) -> None:
    server = Server("look")
    async with connected(server) as connection:
        with pytest.raises(type(says)):
            await connection.call("look", taking(1, says=says))
        assert server.opened == 1
        assert server.pinged == (0 if isinstance(says, ToolException) else 1)


async def test_while_it_cant_be_reached_it_has_no_tools_and_is_tried_ever_less_often(caplog: Any) -> None:
    server = Server("look")
    async with connected(server) as connection:
        server.die(for_good=True)
        with pytest.raises(ToolError):
            await connection.call("look", taking(1, says=ConnectionError("closed")))
        await asyncio.sleep(0.2)
        assert names(connection) == []
        with pytest.raises(ToolError, match="can't be reached now"):
            await connection.call("look", taking(1))
        await asyncio.sleep(300)
        pauses = [round(b - a - 0.1, 3) for a, b in zip(server.attempts[1:], server.attempts[2:], strict=False)]
        assert pauses[:8] == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]
        server.reachable = True
        await asyncio.sleep(LONGEST_PAUSE + 1)
        assert names(connection) == ["look"]
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        "it was lost, and is connected again: ConnectionError: gone",
        "it is there again",
    ]


async def test_one_that_ends_again_and_again_is_started_ever_less_often() -> None:
    server = Server("look")
    async with connected(server):
        for _ in range(400):
            server.die()
            server.changed()  # it says so, and ends before it can be asked
            await asyncio.sleep(0.5)
        assert server.opened < 15
        server.changed()
        await asyncio.sleep(2 * LONGEST_PAUSE)
        opened = server.opened
        server.die()
        server.changed()
        await asyncio.sleep(1)
        assert server.opened == opened + 1  # it had lasted, so it is started at once


async def test_one_that_cant_be_reached_at_the_start_is_told_once_and_comes_later(caplog: Any) -> None:
    server = Server("look")
    server.reachable = False
    async with connected(server) as connection:
        assert names(connection) == []
        await asyncio.sleep(60)
        server.reachable = True
        await asyncio.sleep(LONGEST_PAUSE)
        assert names(connection) == ["look"]
    assert caplog.text.count("can't be reached: ConnectionError: nobody there") == 1


async def test_a_server_that_dies_or_falls_silent_while_it_rests_is_noticed() -> None:
    for mute in (False, True):
        server = Server("look")
        async with connected(server) as connection:
            server.die(for_good=True)
            server.mute = mute
            await asyncio.sleep(PING_AFTER + TIMEOUT + 1)
            assert names(connection) == []


async def test_a_server_that_works_on_a_tool_call_and_on_nothing_else_is_not_given_up() -> None:
    server = Server("look")
    async with connected(server) as connection:
        calls = [asyncio.create_task(connection.call("look", taking(seconds))) for seconds in (300, 200)]
        await asyncio.sleep(1)
        server.mute = True
        server.tools = ["look", "book"]
        server.changed()
        assert await calls[1] == "look"
        assert await calls[0] == "look"
        server.mute = False
        await asyncio.sleep(PING_AFTER + TIMEOUT)
        assert (server.opened, names(connection)) == (1, ["look", "book"])


async def test_a_server_that_never_answers_is_given_up_and_tried_again() -> None:
    server = Server("look")
    server.mute = True
    async with connected(server) as connection:
        assert asyncio.get_running_loop().time() - server.attempts[0] == pytest.approx(TIMEOUT + 0.1)
        server.mute = False
        await asyncio.sleep(2)
        assert names(connection) == ["look"]


async def test_a_tool_call_that_waits_for_the_connection_can_be_canceled() -> None:
    server = Server("look")
    connection = server.connect()
    waiting = asyncio.create_task(connection.call("look", taking(1, server)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert await connection.call("look", taking(1, server)) == "look"
    assert server.ran == ["look"]
    await connection.aclose()


async def test_a_canceled_tool_call_leaves_the_connection_open() -> None:
    server = Server("look")
    async with connected(server) as connection:
        running = asyncio.create_task(connection.call("look", taking(60, server)))
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.wait({running})
        assert await connection.call("look", taking(1, server)) == "look"
        assert (server.opened, server.ran) == (1, ["look"])


@pytest.mark.parametrize("after", [0.0, 0.05, 0.12, 0.3, PING_AFTER + 0.18])
async def test_it_can_be_closed_at_any_moment(after: float) -> None:
    server = Server("look")
    connection = server.connect()
    await asyncio.sleep(after)
    await connection.aclose()
    assert names(connection) == []
    with pytest.raises(ToolError):
        await connection.call("look", taking(1, server))
    opened = len(server.attempts)
    await asyncio.sleep(100)
    assert len(server.attempts) == opened


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(["die", "die for good", "come back", "change", "call", "call"]), st.floats(0, 3)),
        max_size=15,
    )
)
async def test_whatever_happens_each_tool_call_ends_and_the_tools_are_the_servers(
    plan: list[tuple[str, float]],
) -> None:
    server = Server("look", "book")
    calls: list[asyncio.Task[Any]] = []
    async with connected(server) as connection:
        for what, pause in plan:
            if what == "come back":
                server.reachable = True
            elif what == "change":
                server.tools.reverse()
                server.changed()
            elif what == "call":
                calls.append(asyncio.create_task(connection.call("look", taking(pause, server))))
            else:
                server.die(for_good=what == "die for good")
            await asyncio.sleep(pause)
        server.reachable = True
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(one == "look" or isinstance(one, ToolError) for one in ended)
        assert server.ran.count("look") <= len(calls)
        await asyncio.sleep(2 * LONGEST_PAUSE)
        assert names(connection) == server.tools
