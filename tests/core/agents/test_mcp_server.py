"""`McpServer` with real servers: on standard input and output, and on HTTP."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.tools import StructuredTool

from graph_voice import Agent, Conversation, McpServer, create_voice_graph
from graph_voice.agents.slow_tool import slow_tool
from graph_voice.errors import BuildError, MissingDependencyError
from graph_voice.testing import ScriptedModel, call

pytest.importorskip("langchain_mcp_adapters.client")
LIMIT = 120
"""Seconds within which a server starts, on a machine that does much else."""
SERVER = """
import os, sys
from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.types import ToolAnnotations

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
mcp = FastMCP("orders", port=port, log_level="ERROR")

@mcp.tool(annotations=ToolAnnotations(readOnlyHint=True))
def order_status(number: int) -> str:
    "The status of an order."
    if number < 0:
        raise ValueError("No such order.")
    if number == 0:
        os._exit(1)
    return f"Order {number} is on its way."

@mcp.tool(name="picture.of")
def picture(number: int) -> Image:
    "A picture of an order."
    return Image(data=b"pixels", format="png")

@mcp.tool()
async def change(number: int, context: Context) -> str:
    "Changes the tools."
    mcp.remove_tool("picture.of")
    mcp.add_tool(lambda number: f"{number} canceled", name="cancel", description="Cancel an order.")
    await context.session.send_tool_list_changed()
    return "changed"

@mcp.tool()
def pid(number: int) -> int:
    "The process."
    return os.getpid()

mcp.run("streamable-http" if len(sys.argv) > 1 else "stdio")
"""
LOST = "orders was lost while it ran"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "orders.py"
    found.write_text(SERVER)
    return found


def answers(messages: Sequence[AnyMessage]) -> Any:
    """Calls the tool with the number that the caller says ("order_status 7"), and tells the result."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return last.text
    tool, _, number = last.text.partition(" ")
    return call(tool, {"number": int(number)}) if number else "Hello."


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110  # a server tells nobody
            await asyncio.sleep(0.02)


def offered(server: McpServer) -> list[str]:
    return [tool.name for tool in server.tools]


@asynccontextmanager
async def talking(server: McpServer) -> AsyncIterator[Conversation[Any]]:
    agent = Agent("clerk", instructions="Tell the status.", tools=[server])
    async with Conversation(create_voice_graph([agent], llm=ScriptedModel(answers))) as conversation:
        await until(lambda: bool(server.tools))
        yield conversation


async def heard(conversation: Conversation[Any], words: str) -> str:
    await conversation.run(words)
    return conversation.messages[-1].text


async def test_a_server_on_standard_input_and_output(file: Path) -> None:
    server = McpServer({"command": sys.executable, "args": [str(file)]}, timeout=LIMIT)
    assert server.name == "orders"
    async with talking(server) as conversation:
        assert offered(server) == ["order_status", "picture_of", "change", "pid"]
        assert await heard(conversation, "order_status 7") == "Order 7 is on its way."
        assert "No such order." in await heard(conversation, "order_status -1")
        await conversation.run("picture_of 7")
        (block,) = conversation.messages[-2].content
        assert isinstance(block, dict)
        assert block["type"] == "image"
        assert await heard(conversation, "change 0") == "changed"
        await until(lambda: "cancel" in offered(server))
        assert offered(server) == ["order_status", "change", "pid", "cancel"]
        assert await heard(conversation, "cancel 7") == "7 canceled"
        first = int(await heard(conversation, "pid 0"))
        assert LOST in await heard(conversation, "order_status 0")
        assert await heard(conversation, "order_status 8") == "Order 8 is on its way."
        assert offered(server) == ["order_status", "picture_of", "change", "pid"]  # it has started anew
        second = int(await heard(conversation, "pid 0"))
    for process in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


async def test_a_server_on_http_that_goes_and_comes_back(file: Path, caplog: Any) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(file), str(port)], stderr=subprocess.DEVNULL)

    server = McpServer({"url": f"http://127.0.0.1:{port}/mcp"}, name="orders")
    process = start()
    try:
        async with talking(server) as conversation:
            assert await heard(conversation, "order_status 7") == "Order 7 is on its way."
            assert LOST in await heard(conversation, "order_status 0")
            await until(lambda: not server.tools)
            assert await heard(conversation, "Hello?") == "Hello."
            process.wait()
            process = start()
            await until(lambda: bool(server.tools))
            assert await heard(conversation, "order_status 8") == "Order 8 is on its way."
    finally:
        process.kill()
        process.wait()
    told = [r.getMessage() for r in caplog.records if r.name == "graph_voice" and "MCP server" in r.getMessage()]
    assert len([line for line in told if "can't be reached" in line or "was lost" in line]) <= 2
    assert told[-1] == "MCP server orders: it is there again"


async def test_names_a_prefix_and_approval(file: Path, caplog: Any) -> None:
    server = McpServer(
        {"command": sys.executable, "args": [str(file)]},
        allowed_tools=["order_status", "refund"],
        prefix="shop",
        approve={"order_status": "Shall I look up {number}?", "pay": "Shall I pay?"},
        filler="One moment.",
    )
    async with talking(server) as conversation:
        (tool,) = server.tools
        assert (tool.name, slow_tool(tool).filler) == ("shop_order_status", "One moment.")
        await conversation.run("shop_order_status 7")
        assert [asked.value for asked in conversation.interrupts] == ["Shall I look up 7?"]
        assert await heard(conversation, "yes") == "Order 7 is on its way."
        assert server.tools[0] is tool  # so a model's tools are not bound anew, and its prompt can be cached
    assert "MCP server shop has no tool refund, which allowed_tools names" in caplog.text
    assert "MCP server shop has no tool pay, which approve names" in caplog.text


@pytest.mark.virtual_clock
async def test_a_tool_call_has_a_limit_if_one_is_declared() -> None:
    class Played(McpServer):
        """A server that is played: its session answers at once, its tool after so many seconds."""

        @asynccontextmanager
        async def _open(self, changed: Callable[[], None]) -> AsyncIterator[Any]:
            yield AsyncMock()

        async def _load(self, session: Any) -> list[Any]:
            async def sleep(number: int) -> str:
                await asyncio.sleep(number)
                return "slept"

            return [StructuredTool.from_function(coroutine=sleep, description="Sleep.")]

    async with talking(Played({"command": "python"}, tool_timeout=60)) as conversation:
        assert await heard(conversation, "sleep 59") == "slept"
        assert await heard(conversation, "sleep 61") == "The tool did not answer within 60 seconds."
        assert await heard(conversation, "sleep 1") == "slept"


async def test_one_that_cant_be_reached_leaves_the_call_as_it_is(caplog: Any) -> None:
    server = McpServer({"command": "no-such-program"})
    agent = Agent("clerk", instructions="Tell the status.", tools=[server])
    model = ScriptedModel(["Hello.", "Still here."])
    async with Conversation(create_voice_graph([agent], llm=model)) as conversation:
        assert [await heard(conversation, "Hello."), await heard(conversation, "Hello?")] == ["Hello.", "Still here."]
    assert [prompt.tools for prompt in model.prompts] == [(), ()]
    assert caplog.text.count("MCP server no-such-program: it can't be reached") == 1


@pytest.mark.parametrize(
    ("connection", "options", "why"),
    [
        ({}, {}, "needs a url"),
        ({"transport": "stdio", "url": "http://x"}, {}, "needs a command"),
        ({"transport": "pigeon"}, {}, "is unknown: write stdio"),
        ("python server.py", {}, "write its connection"),
        ({"command": "python", "args": "server.py"}, {}, "write a list of texts"),
        ({"command": "python"}, {"allowed_tools": "look"}, "write a list"),
        ({"command": "python"}, {"timeout": 0}, "seconds above 0"),
        ({"command": "python"}, {"timeout": None}, "seconds above 0"),
        ({"command": "python"}, {"tool_timeout": -1}, "seconds above 0"),
        ({"command": "python"}, {"approve": "Shall I?"}, "write {"),
        ({"command": "python"}, {"approve": {"look": None}}, "write {"),
        ({"command": "python"}, {"filler": 7}, "can't be said"),
    ],
)
def test_what_cant_work_is_refused_where_it_is_written(connection: Any, options: Any, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        McpServer(connection, **options)


@pytest.mark.parametrize(
    ("connection", "name"),
    [
        ({"command": "python", "args": ["-m", "orders_server"]}, "orders_server"),
        ({"command": "npx", "args": ["-y", "@acme/server-crm"]}, "server-crm"),
        ({"command": "/usr/bin/orders"}, "orders"),
        ({"url": "https://user:secret@example.com:8000/mcp?key=secret"}, "example.com"),
    ],
)
def test_its_name_is_a_part_of_the_connection_without_credentials(connection: Any, name: str) -> None:
    server = McpServer(connection)
    assert (server.name, "secret" in repr(server)) == (name, False)


async def test_without_the_package_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr("graph_voice.agents.mcp_server._is_installed", lambda: False)
    graph = create_voice_graph([Agent("clerk", instructions="x", tools=[McpServer({"command": "python"})])])
    graph.compile()  # it can be built, drawn and checked without
    conversation = Conversation(graph, config={"configurable": {"llm": ScriptedModel([])}})
    with pytest.raises(MissingDependencyError, match=r"pip install 'graph-voice\[mcp\]'"):
        conversation.turn("Hello.")
