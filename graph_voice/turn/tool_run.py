"""One run of a tool's code in a turn, for whoever watches the call."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ToolRun"]


@dataclass
class ToolRun:
    """The code of a tool runs, or has run. A call that was denied, mocked or malformed has none."""

    agent: str
    tool: str
    call_id: str
    args: dict[str, Any] = field(default_factory=dict)
    outcome: Literal["running", "done", "failed", "asking", "cancelled"] = "running"
    """"asking": it waits in LangGraph's `interrupt()`, and will run again from its beginning."""
