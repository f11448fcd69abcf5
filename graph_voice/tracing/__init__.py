"""Public. LangSmith: a turn's runs are noted while they happen, then built, redacted and sent after the turn."""

from graph_voice.tracing.sender import flush_traces

__all__ = ["flush_traces"]
