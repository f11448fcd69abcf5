"""Speak a LangGraph voice graph through LiveKit."""

from graph_voice_livekit.agent import GraphAgent

__all__ = ["GraphAgent"]
