"""LiveKit's own MCP servers in a call on a graph. LiveKit needs `mcp` 2 for them, and LangChain's adapters `mcp` 1."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AnyMessage, ToolMessage
from livekit.agents import AgentSession

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent

mcp = pytest.importorskip("livekit.agents.llm.mcp", exc_type=ImportError)
SERVER = """
import os
from mcp.server import MCPServer

mcp = MCPServer("orders")

@mcp.tool()
def order_status(number: int) -> str:
    "The status of an order."
    if number == 0:
        os._exit(1)
    return f"Order {number} is on its way."

mcp.run()
"""


def answers(messages: Sequence[AnyMessage]) -> Any:
    last = messages[-1]
    return last.text if isinstance(last, ToolMessage) else call("order_status", {"number": int(last.text)})


async def test_the_sessions_mcp_servers_are_every_agents_and_one_that_dies_is_told_to_the_model(
    tmp_path: Path,
) -> None:
    file = tmp_path / "server.py"
    file.write_text(textwrap.dedent(SERVER))
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    server = mcp.MCPServerStdio(command=sys.executable, args=[str(file)], env=path)
    model = ScriptedModel(answers)
    agent = GraphAgent(create_voice_graph([Agent("clerk", instructions="Tell the status.")], llm=model))
    heard = []
    async with AgentSession[Any](vad=None, mcp_servers=[server]) as session:
        await session.start(agent)
        for number in (7, 0, 7):
            await session.run(user_input=str(number))
            heard.append(agent.conversation.messages[-1].text)
    assert model.prompts[0].tools == ("order_status",)
    assert "Order 7 is on its way." in heard[0]  # LiveKit gives its model the whole part as JSON
    assert heard[1:] == ["An internal error occurred"] * 2
