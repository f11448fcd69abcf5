"""`graph-voice check` finds LiveKit's names in a graph's file: each mistake, with its line and what to write."""

from pathlib import Path

import pytest

from graph_voice.checks import Severity, check_file
from graph_voice.checks.livekit_names import livekit_mistakes

HEAD = """
import livekit.agents as lk
from livekit.agents import AgentSession, llm
from livekit.agents import RunContext as TheirContext
from livekit.agents.llm import function_tool as their_tool
from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.testing import ScriptedModel
"""
TAIL = """
graph = create_voice_graph([Agent("main", instructions="x", tools=TOOLS)], llm=ScriptedModel([]))
"""
BODY = '    """Look."""\n    return "x"\n'

OURS, CONTEXT = "from graph_voice import function_tool", "from graph_voice import RunContext"

MISTAKES = {
    "LiveKit's function_tool": (
        f"@lk.function_tool\nasync def look() -> str:\n{BODY}",
        "from graph_voice import function_tool",
        8,
    ),
    "by another name": (
        f"@their_tool(name='look')\nasync def look() -> str:\n{BODY}",
        "from graph_voice import function_tool",
        8,
    ),
    "as a method": (
        'class Desk(Agent):\n    instructions = "x"\n    @lk.function_tool\n    async def look(self) -> str:\n'
        '        "Look."\n        return "x"\nlook = Desk()',
        OURS,
        10,
    ),
    "LiveKit's RunContext": (
        f"async def look(ctx: lk.RunContext) -> str:\n{BODY}",
        "from graph_voice import RunContext",
        8,
    ),
    "in a marked tool": (
        f"@function_tool\nasync def look(c: TheirContext[int]) -> str:\n{BODY}",
        CONTEXT,
        9,
    ),
    "on_enter(self)": (
        'class Desk(Agent):\n    instructions = "x"\n    async def on_enter(self) -> None: ...\nlook = Desk()',
        "async def on_enter(self, ctx: RunContext)",
        10,
    ),
    "on_exit(self) of a subclass": (
        'class Base(Agent):\n    instructions = "x"\n'
        "class Desk(Base):\n    async def on_exit(self): ...\nlook = Desk()",
        "async def on_exit(self, ctx: RunContext)",
        11,
    ),
    "history without a call": ('look = [Handoff("b", history=history.full)]', "history=history.full()", 8),
    "ctx.session": (
        '@function_tool\nasync def look(ctx: RunContext):\n    """Look."""\n    await ctx.session.say("x")',
        "ctx.host.session",
        11,
    ),
    "ctx.host.update": (
        '@function_tool\nasync def look(ctx) -> str:\n    """Look."""\n    await ctx.host.update("x")\n    return ""',
        "await ctx.update(...)",
        11,
    ),
    "update_instructions": (
        f"async def look() -> str:\n{BODY}\nasync def later(agent):\n    await agent.update_instructions('x')",
        "a function of the userdata",
        13,
    ),
    "update_options(llm=)": (
        f"async def look() -> str:\n{BODY}\ndef later(agent):\n    agent.update_options(llm='x')",
        "create_voice_graph(..., llm=",
        13,
    ),
    "a graph's tool in a session": (
        f"@function_tool\nasync def look() -> str:\n{BODY}\ndef later():\n    return AgentSession(tools=[look])",
        "Agent(..., tools=[look])",
        14,
    ),
    "an agent of LiveKit's returned": (
        'class Human(lk.Agent): ...\n@function_tool\nasync def look():\n    """Look."""\n    return Human(), "x"',
        'ctx.handoff("billing")',
        12,
    ),
    "a task of LiveKit's awaited": (
        'class Ask(lk.AgentTask[str]): ...\n@function_tool\nasync def look():\n    """Look."""\n    return await Ask()',
        'await ctx.run_task("name")',
        12,
    ),
    "a ready-made task of LiveKit's in on_enter": (
        "from livekit.agents.beta import workflows\n"
        'class Desk(Agent):\n    instructions = "x"\n    async def on_enter(self, ctx) -> None:\n'
        "        address = await workflows.GetEmailTask()\nlook = Desk()",
        "lambda run: workflows.GetEmailTask(...)",
        12,
    ),
    "a task of LiveKit's returned": (
        'class Ask(lk.AgentTask): ...\n@function_tool\nasync def look():\n    """Look."""\n    return Ask()',
        "create_voice_graph(..., external_tasks=",
        12,
    ),
}


def write(folder: Path, body: str, tools: str = "[look]") -> str:
    (folder / "agent.py").write_text(HEAD + body + "\n" + TAIL.replace("TOOLS", tools))
    return str(folder / "agent.py")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_found_where_it_is_written(tmp_path: Path, mistake: str) -> None:
    body, fix, line = MISTAKES[mistake]
    is_agent = "look = " in body
    spec = write(tmp_path, body, "[]" if is_agent else "[look]")
    found = [f for f in check_file(spec) if f.severity is Severity.ERROR]
    assert len(found) == 1, "\n".join(map(str, found))
    assert fix in f"{found[0].problem} {found[0].fix}"
    assert found[0].where == f"{spec}:{line}"


def test_livekits_mcp_servers_are_found_without_importing_them() -> None:
    """Here they can't be imported: they need another version of `mcp` than LangChain's adapters."""
    listed = 'Agent("b", instructions="x", tools=[lk.mcp.MCPServerHTTP("http://localhost/mcp")])'
    given = 'Agent("b", instructions="x", mcp_servers=[lk.mcp.MCPServerStdio("python", [])])'
    first, second = livekit_mistakes(f"{HEAD}{listed}\n{given}\n", "desk.py")
    assert (first.where, "McpServer({" in (first.fix or "")) == ("desk.py:8", True)
    assert (second.where, "tools=[McpServer({" in (second.fix or "")) == ("desk.py:9", True)


def test_all_are_found_at_once(tmp_path: Path) -> None:
    names = ["LiveKit's function_tool", "on_enter(self)", "history without a call", "update_options(llm=)"]
    body = "\n".join(MISTAKES[name][0] for name in names)
    found = [f for f in check_file(write(tmp_path, body, "[]")) if f.severity is Severity.ERROR]
    assert len(found) >= len(names) - 1
    assert len({f.where for f in found}) == len(found)


def test_a_refusal_that_is_none_of_them_is_told_beside_them(tmp_path: Path) -> None:
    body = MISTAKES["update_options(llm=)"][0] + "\nAgent('a b', instructions='x')"
    found = [f for f in check_file(write(tmp_path, body)) if f.severity is Severity.ERROR]
    assert sorted("a b" in f.problem for f in found) == [False, True]


def test_livekits_own_agents_are_no_mistakes(tmp_path: Path) -> None:
    body = (
        'class Human(lk.Agent):\n    def __init__(self):\n        super().__init__(instructions="x")\n'
        "    async def on_enter(self):\n        await self.session.say('x')\n"
        "        await self.update_instructions('y')\n"
        "    @lk.function_tool\n    async def back(self, ctx: lk.RunContext) -> str:\n"
        '        "Back."\n        await ctx.update("x")\n        return ""\n'
        "@lk.function_tool\nasync def hours() -> str:\n    'Hours.'\n    return ''\n"
        "def start():\n    return AgentSession(tools=[hours])\n"
    )
    assert [f for f in check_file(write(tmp_path, body, "[]")) if f.severity is Severity.ERROR] == []
