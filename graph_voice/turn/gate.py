"""The gate in front of a turn's tools: no tool call runs before the front end allows it."""

import asyncio
from dataclasses import dataclass
from typing import Any

__all__ = ["ANSWERED", "NOT_STARTED", "AnsweredAlready", "Gate", "Permission"]


@dataclass(frozen=True)
class Permission:
    """What the front end decided about one tool call."""

    run: bool
    host: Any = None
    output: str = ""
    is_error: bool = False
    reply: bool = True
    """Whether the model speaks of an output that the front end has given."""


NOT_STARTED = Permission(run=False, output="not done: the tool call was not executed.", is_error=True)
"""The front end never decided about this tool call, and no longer can."""


ANSWERED = Permission(run=False, output="not done: the question was answered already.", is_error=True)
"""The tool call waited for the caller's answer, and another turn has already given it."""


class AnsweredAlready(Exception):
    """Another turn has already answered the question that this run was to answer. Its words become an ordinary turn."""


class Gate:
    """One permission per tool call id; the first one counts."""

    def __init__(self) -> None:
        self._permissions: dict[str, asyncio.Future[Permission]] = {}
        self._begun: set[str] = set()
        """Tool calls that the front end runs itself."""
        self._shut = False

    def permit(self, call_id: str, permission: Permission) -> None:
        future = self._of(call_id)
        if not future.done():
            future.set_result(permission)

    def begin(self, call_id: str) -> bool:
        """The front end runs this tool call itself: only its result answers it. False: it is answered already."""
        if (waits := not self._of(call_id).done()) is True:
            self._begun.add(call_id)
        return waits

    async def wait(self, call_id: str) -> Permission:
        return await asyncio.shield(self._of(call_id))

    def shut(self) -> None:
        """Refuse every tool call that has no permission yet and does not run, and every later one."""
        self._shut = True
        for call_id in self._permissions.keys() - self._begun:
            self.permit(call_id, NOT_STARTED)

    def _of(self, call_id: str) -> "asyncio.Future[Permission]":
        if call_id not in self._permissions:
            self._permissions[call_id] = asyncio.get_running_loop().create_future()
            if self._shut:
                self._permissions[call_id].set_result(NOT_STARTED)
        return self._permissions[call_id]
