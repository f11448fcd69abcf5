"""Toolsets and MCP servers in LiveKit's `AgentSession`: its executor, `update_tools`, its own toolsets beside them."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import livekit.agents as lk
import pytest
from langchain_core.messages import AnyMessage, ToolMessage
from livekit.agents import AgentSession, llm

from graph_voice import Agent, McpServer, Toolset, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent


@function_tool
async def search(words: str) -> str:
    """Search."""
    return f"found {words}"


@lk.function_tool
async def theirs() -> str:
    """LiveKit's own."""
    return "theirs"


class Shop(Toolset):
    def __init__(self, *tools: Any) -> None:
        super().__init__("shop")
        self.now: Sequence[Any] = tools

    @property
    def tools(self) -> Sequence[Any]:
        return self.now


def told(messages: Sequence[AnyMessage]) -> Any:
    """Calls the tool that the caller names, with the rest as `words`, and tells the result."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return f"So: {last.text}"
    name, _, words = last.text.partition(" ")
    return call(name, {"words": words} if words else {}, unknown=True)


def main(*tools: Any) -> Agent:
    return Agent("main", instructions="x", tools=tools)


@pytest.mark.virtual_clock
async def test_livekit_executes_a_toolsets_tool_and_its_history_has_the_result() -> None:
    ga = GraphAgent(create_voice_graph([main(Shop(search))], llm=ScriptedModel(told)))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        result = await session.run(user_input="search tea")
        result.expect.next_event().is_function_call(name="search", arguments={"words": "tea"})
        result.expect.next_event().is_function_call_output(output="found tea")
        result.expect.next_event().is_message(role="assistant")
        again = await session.run(user_input="search for cake")  # the mirror is not taken for LiveKit's own tool
        again.expect.contains_function_call_output(output="found for cake")
    assert [m.text for m in ga.conversation.messages if isinstance(m, ToolMessage)] == ["found tea", "found for cake"]


@pytest.mark.virtual_clock
async def test_it_is_set_up_when_the_session_starts_and_closed_with_it() -> None:
    log: list[str] = []

    class Watched(Shop):
        async def setup(self) -> None:
            log.append("setup")

        async def aclose(self) -> None:
            log.append("closed")

    ga = GraphAgent(create_voice_graph([main(Watched())], llm=ScriptedModel(["Hello."])))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await asyncio.sleep(1)
        assert log == ["setup"]  # before the caller has said a word
    await ga.conversation.aclose()
    assert log == ["setup", "closed"]


@pytest.mark.virtual_clock
async def test_livekits_own_toolset_stands_beside_it() -> None:
    model = ScriptedModel(told)
    ga = GraphAgent(create_voice_graph([main(Shop(search))], llm=model))
    async with AgentSession[Any](vad=None, tools=[llm.Toolset(id="desk", tools=[theirs])]) as session:
        await session.start(ga)
        for words in ("search tea", "theirs", "search cake"):
            await session.run(user_input=words)
    assert model.prompts[0].tools == ("search", "theirs")
    results = [m.text for m in ga.conversation.messages if isinstance(m, ToolMessage)]
    assert results == ["found tea", "theirs", "found cake"]


@pytest.mark.virtual_clock
async def test_the_program_keeps_a_toolset_or_leaves_it_out() -> None:
    model = ScriptedModel(lambda ms: "Hello.")
    ga = GraphAgent(create_voice_graph([main(Shop(search))], llm=model))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        active = session.current_agent
        await active.update_tools([*active.tools, theirs])
        await session.run(user_input="one")
        await active.update_tools([theirs])
        await session.run(user_input="two")
    assert [prompt.tools for prompt in model.prompts] == [("search", "theirs"), ("theirs",)]


@pytest.mark.virtual_clock
async def test_a_mock_of_livekits_takes_the_place_of_a_toolsets_tool() -> None:
    ga = GraphAgent(create_voice_graph([main(Shop(search))], llm=ScriptedModel(told)))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        with lk.mock_tools(type(session.current_agent), {"search": lambda words: f"mocked {words}"}):
            await session.run(user_input="search tea")
    assert [m.text for m in ga.conversation.messages if isinstance(m, ToolMessage)] == ["mocked tea"]


async def test_a_real_mcp_server(tmp_path: Path) -> None:
    pytest.importorskip("langchain_mcp_adapters.client")
    file = tmp_path / "shop.py"
    file.write_text(
        'from mcp.server.fastmcp import FastMCP\nmcp = FastMCP("shop", log_level="ERROR")\n'
        '@mcp.tool()\ndef search(words: str) -> str:\n    "Search."\n    return f"found {words}"\nmcp.run()\n'
    )
    server = McpServer({"command": sys.executable, "args": [str(file)]})
    ga = GraphAgent(create_voice_graph([main(server)], llm=ScriptedModel(told)))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        async with asyncio.timeout(120):
            while not server.tools:  # noqa: ASYNC110  # a server tells nobody
                await asyncio.sleep(0.02)
        await session.run(user_input="search tea")
    assert ga.conversation.messages[-1].text == "So: found tea"
