"""Speak a LangGraph voice graph through LiveKit."""

from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.worker.server import create_server

__all__ = ["GraphAgent", "create_server"]
