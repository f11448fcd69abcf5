"""The tool calls of a call that run now and may be found again: by the model that cancels one, or makes it twice."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RunningTool", "RunningTools"]


@dataclass(frozen=True)
class RunningTool:
    """One tool call that runs."""

    call_id: str
    name: str
    args: Mapping[str, Any]
    task: "asyncio.Task[Any]"
    key: tuple[str, str | None] | None
    """What it is a duplicate by; None if it is never one."""
    cancellable: bool
    held: Callable[[], bool]
    """Whether it has disallowed interruptions."""
    progress: Callable[[], str]
    """What it has told of its progress last; "" if nothing."""

    def dump(self) -> dict[str, Any]:
        """As LiveKit's `FunctionCall`, and with its last update."""
        args = json.dumps(dict(self.args), default=str)
        made = {"type": "function_call", "call_id": self.call_id, "arguments": args, "name": self.name}
        return {**made, "update": told} if (told := self.progress()) else made


class RunningTools:
    """Those of one call. LiveKit's tool executor."""

    def __init__(self) -> None:
        self._running: dict[str, RunningTool] = {}

    def begin(self, tool: RunningTool) -> None:
        self._running[tool.call_id] = tool

    def end(self, call_id: str) -> None:
        self._running.pop(call_id, None)

    def like(self, key: tuple[str, str | None]) -> list[RunningTool]:
        """Those with this key."""
        return [tool for tool in self._running.values() if tool.key == key]

    @property
    def cancellable(self) -> list[RunningTool]:
        return [tool for tool in self._running.values() if tool.cancellable]

    async def cancel(self, call_id: str) -> str | None:
        """Cancel this tool call, and wait until it has ended. Returns why it can't be canceled; None if it was."""
        tool = self._running.get(call_id)
        if tool is None:
            return f"Task {call_id} not found"
        if not tool.cancellable:
            return f"Tool call {call_id} is not cancellable"
        if tool.held():
            return f"Tool call {call_id} is not cancellable because interruptions are disallowed"
        tool.task.cancel()
        await asyncio.wait([tool.task])
        return None
