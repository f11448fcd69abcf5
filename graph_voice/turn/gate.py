"""The gate in front of the tools of a turn: no call runs before the front end has said so."""

import asyncio
from dataclasses import dataclass
from typing import Any

__all__ = ["ANSWERED", "NOT_STARTED", "AnsweredAlready", "Gate", "Permission"]


@dataclass(frozen=True)
class Permission:
    """What the front end said of one call."""

    run: bool
    host: Any = None
    output: str = ""
    is_error: bool = False


NOT_STARTED = Permission(run=False, output="not done: the call was not executed.", is_error=True)
"""Nobody said anything of this call, and nobody will."""


ANSWERED = Permission(run=False, output="not done: the question was answered already.", is_error=True)
"""The call waited for an answer of the caller, and another turn has given it meanwhile."""


class AnsweredAlready(Exception):
    """The run was to answer a question, and another turn has done so meanwhile: these words are a turn of their own."""


class Gate:
    """One permission per call id; the first one counts."""

    def __init__(self) -> None:
        self._permissions: dict[str, asyncio.Future[Permission]] = {}
        self._shut = False

    def permit(self, call_id: str, permission: Permission) -> None:
        future = self._of(call_id)
        if not future.done():
            future.set_result(permission)

    async def wait(self, call_id: str) -> Permission:
        return await asyncio.shield(self._of(call_id))

    def shut(self) -> None:
        """What has no permission by now gets none, nor does any later call."""
        self._shut = True
        for call_id in self._permissions:
            self.permit(call_id, NOT_STARTED)

    def _of(self, call_id: str) -> "asyncio.Future[Permission]":
        if call_id not in self._permissions:
            self._permissions[call_id] = asyncio.get_running_loop().create_future()
            if self._shut:
                self._permissions[call_id].set_result(NOT_STARTED)
        return self._permissions[call_id]
