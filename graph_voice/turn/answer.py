"""The tool message that answers a tool call."""

from typing import Any

from langchain_core.messages import ToolMessage

__all__ = ["answer"]


def answer(call_id: str, name: str, text: str, *, is_error: bool = False, artifact: Any = None) -> ToolMessage:
    """The tool message that answers a tool call. Its id comes from the tool call's, so a later answer replaces it."""
    return ToolMessage(
        text,
        name=name,
        tool_call_id=call_id,
        id=f"result-{call_id}",
        status="error" if is_error else "success",
        artifact=artifact,
    )
