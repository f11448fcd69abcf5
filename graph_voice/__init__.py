"""Voice agents as LangGraph graphs.

Write agents, make a LangGraph graph of them, and run it one turn at a time:

    graph = create_voice_graph([intake, billing], userdata=Caller, llm="openai:gpt-4.1")
    conversation = Conversation(graph)
    for event in await conversation.run("Hello"):
        print(event)

The LiveKit side is in `graph_voice_livekit`.
"""

from graph_voice import events, history
from graph_voice.agent import Agent, Voice
from graph_voice.conversation import Conversation
from graph_voice.errors import GraphVoiceError
from graph_voice.graph import create_voice_graph
from graph_voice.handoff import Handoff, Reply
from graph_voice.run_context import RunContext
from graph_voice.state import VoiceState
from graph_voice.tools import StopResponse, ToolError, function_tool
from graph_voice.turn import Turn

__all__ = [
    "Agent",
    "Conversation",
    "GraphVoiceError",
    "Handoff",
    "Reply",
    "RunContext",
    "StopResponse",
    "ToolError",
    "Turn",
    "Voice",
    "VoiceState",
    "create_voice_graph",
    "events",
    "function_tool",
    "history",
]
