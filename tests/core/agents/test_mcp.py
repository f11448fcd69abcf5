"""Tools of a real MCP server (a process of its own, on its standard input and output) in an agent of a graph."""

import contextlib
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AnyMessage, ToolMessage

from graph_voice import Agent, Conversation, create_voice_graph
from graph_voice.testing import ScriptedModel, call

client = pytest.importorskip("langchain_mcp_adapters.client")
tools_of = pytest.importorskip("langchain_mcp_adapters.tools")
SERVER = """
import os
from mcp.server.fastmcp import FastMCP

mcp = FastMCP("orders")

@mcp.tool()
def order_status(number: int) -> str:
    "The status of an order."
    if number < 0:
        raise ValueError("No such order.")
    if number == 0:
        os._exit(1)
    return f"Order {number} is on its way."

mcp.run()
"""
FAILED = "An internal error occurred."


@pytest.fixture
def servers(tmp_path: Path) -> Any:
    file = tmp_path / "server.py"
    file.write_text(textwrap.dedent(SERVER))
    return client.MultiServerMCPClient(
        {"orders": {"transport": "stdio", "command": sys.executable, "args": [str(file)]}}
    )


def answers(messages: Sequence[AnyMessage]) -> Any:
    """Calls the tool with the number that the caller says, and tells the result."""
    last = messages[-1]
    return last.text if isinstance(last, ToolMessage) else call("order_status", {"number": int(last.text)})


async def talk(tools: Sequence[Any], *numbers: int) -> list[str]:
    """What the caller hears for each number."""
    agent = Agent("clerk", instructions="Tell the status.", tools=tools)
    async with Conversation(create_voice_graph([agent], llm=ScriptedModel(answers))) as conversation:
        heard = []
        for number in numbers:
            await conversation.run(str(number))
            heard.append(conversation.messages[-1].text)
    return heard


async def test_a_server_that_dies_is_told_to_the_model_and_the_next_tool_call_has_a_new_one(servers: Any) -> None:
    heard = await talk(await servers.get_tools(), -1, 0, 7)
    assert "No such order." in heard[0]
    assert heard[1:] == [FAILED, "Order 7 is on its way."]


async def test_a_session_whose_server_has_died_is_told_at_each_tool_call(servers: Any) -> None:
    with contextlib.suppress(BaseExceptionGroup):  # the client's own, when it leaves a session that is broken
        async with servers.session("orders") as session:
            heard = await talk(await tools_of.load_mcp_tools(session), 7, 0, 7)
    assert heard == ["Order 7 is on its way.", FAILED, FAILED]
