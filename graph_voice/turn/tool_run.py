"""One run of a tool's code in a turn, for logs and tests."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ToolRun"]


@dataclass
class ToolRun:
    """A tool's code runs or has run. A tool call that was denied, mocked or malformed has no run."""

    agent: str
    tool: str
    call_id: str
    args: dict[str, Any] = field(default_factory=dict)
    outcome: Literal["running", "done", "failed", "asking", "cancelled", "refused"] = "running"
    """"asking": it waits in LangGraph's `interrupt()` or for a task, and will run again from the beginning. "refused":
    its schema takes no such arguments, so its code has not run."""
    asked_for: list[str] = field(default_factory=list)
    """The tasks that it has asked for, in order, those whose results it has had already among them."""
    userdata: Any = field(default=None, repr=False, compare=False)
    """The userdata that the tools of its batch share, as it is now."""
