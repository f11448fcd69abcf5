"""Speak a LangGraph voice graph through LiveKit."""
