"""Voice agents as LangGraph graphs.

Write agents, make a LangGraph graph of them, and run it one turn at a time:

    graph = create_voice_graph([intake, billing], userdata=Caller, llm="openai:gpt-4.1")
    conversation = Conversation(graph)
    for event in await conversation.run("Hello"):
        print(event)

The LiveKit side is in `graph_voice_livekit`.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graph_voice import events, history, tasks, testing
    from graph_voice.agents.agent import Agent, Spoken
    from graph_voice.agents.approval import approved
    from graph_voice.agents.handoff import Handoff, Reply
    from graph_voice.agents.idle import Idle
    from graph_voice.agents.mcp_server import McpServer
    from graph_voice.agents.run_context import RunContext
    from graph_voice.agents.task import Task
    from graph_voice.agents.task_end import Done
    from graph_voice.agents.task_group import TaskGroup
    from graph_voice.agents.tool_errors import StopResponse, TaskFailed, ToolError
    from graph_voice.agents.tools import function_tool
    from graph_voice.agents.toolset import Toolset
    from graph_voice.agents.voice import Voice
    from graph_voice.call.conversation import Conversation
    from graph_voice.call.durable import Resumed
    from graph_voice.errors import GraphVoiceError
    from graph_voice.graph.build import create_voice_graph
    from graph_voice.graph.say import say
    from graph_voice.graph.state import VoiceState
    from graph_voice.storage.live_saver import LiveSaver
    from graph_voice.turn.event_stream import TurnListener
    from graph_voice.turn.state import TurnState
    from graph_voice.turn.turn import Turn

__all__ = [
    "Agent",
    "Conversation",
    "Done",
    "GraphVoiceError",
    "Handoff",
    "Idle",
    "LiveSaver",
    "McpServer",
    "Reply",
    "Resumed",
    "RunContext",
    "Spoken",
    "StopResponse",
    "Task",
    "TaskFailed",
    "TaskGroup",
    "ToolError",
    "Toolset",
    "Turn",
    "TurnListener",
    "TurnState",
    "Voice",
    "VoiceState",
    "approved",
    "create_voice_graph",
    "events",
    "function_tool",
    "history",
    "say",
    "tasks",
    "testing",
]

# LangGraph and LangChain take seconds to import. So each name is imported when it is first used, and the command line,
# the errors and the events don't need them.
_HOMES = {
    "Agent": "agents.agent",
    "Conversation": "call.conversation",
    "LiveSaver": "storage.live_saver",
    "GraphVoiceError": "errors",
    "Handoff": "agents.handoff",
    "Idle": "agents.idle",
    "McpServer": "agents.mcp_server",
    "Reply": "agents.handoff",
    "Resumed": "call.durable",
    "RunContext": "agents.run_context",
    "Spoken": "agents.agent",
    "StopResponse": "agents.tool_errors",
    "Done": "agents.task_end",
    "Task": "agents.task",
    "TaskFailed": "agents.tool_errors",
    "TaskGroup": "agents.task_group",
    "ToolError": "agents.tool_errors",
    "Toolset": "agents.toolset",
    "Turn": "turn.turn",
    "TurnListener": "turn.event_stream",
    "TurnState": "turn.state",
    "Voice": "agents.voice",
    "VoiceState": "graph.state",
    "approved": "agents.approval",
    "create_voice_graph": "graph.build",
    "function_tool": "agents.tools",
    "say": "graph.say",
}
_MODULES = ("events", "history", "tasks", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"graph_voice.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'graph_voice' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"graph_voice.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext graph_voice`: graphs are drawn in this notebook, without a web service."""
    import_module("graph_voice.notebook").register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext graph_voice`."""
    import_module("graph_voice.notebook").unregister(shell)


if "IPython" in sys.modules:  # in a notebook, `%load_ext` is not needed
    import_module("graph_voice.notebook").register_here()
