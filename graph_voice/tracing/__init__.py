"""Public. LangSmith: a turn's runs are noted while they happen, then made, redacted and sent behind it."""

from graph_voice.tracing.sender import flush_traces

__all__ = ["flush_traces"]
