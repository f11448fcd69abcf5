"""A tool that waits for a task runs again from its start: whether it asks for the same tasks then, and what it does
twice.
"""

from collections.abc import Iterator
from typing import Any

from graph_voice.turn.tool_run import ToolRun
from graph_voice.userdata.data import copy_of

__all__ = ["Replays"]


class Replays:
    """Compares the runs of each tool call that waits for tasks."""

    def __init__(self) -> None:
        self._running: dict[int, Any] = {}
        """Run -> what the userdata was when it began. None if other tools have run meanwhile."""
        self._asked: dict[str, list[str]] = {}
        """Tool call -> the tasks that its last run has asked for."""
        self._wrong: list[str] = []

    def note(self, run: ToolRun) -> None:
        """`Conversation.on_tool`."""
        if run.outcome == "running":
            alone = not self._running
            self._running = dict.fromkeys(self._running)
            self._running[id(run)] = (copy_of(run.userdata),) if alone else None
            return
        before = self._running.pop(id(run), None)
        if run.asked_for:
            self._wrong += _others(run, self._asked.get(run.call_id, []))
            self._asked[run.call_id] = list(run.asked_for)
        if run.asked_for and run.outcome == "asking" and before is not None and before[0] != run.userdata:
            self._wrong.append(
                f"{_named(run)} has changed the userdata in place before it asked for {run.asked_for[-1]}, and changes "
                "it again when the result is there. Assign instead (ctx.userdata.seen = [*ctx.userdata.seen, slot]), "
                "or change it behind the last run_task."
            )

    def require_same(self) -> None:
        """Raise `AssertionError` if a run did not repeat what the one before it had done."""
        if self._wrong:
            listed = "\n- ".join(dict.fromkeys(self._wrong))
            raise AssertionError(
                f"A tool that waits for a task runs again from its start, and must then do the same:\n- {listed}"
            )


def _others(run: ToolRun, before: list[str]) -> Iterator[str]:
    for asked, now in zip(before, run.asked_for, strict=False):
        if asked != now:
            yield f"{_named(run)} asked for {asked} before, and now for {now}."
            return


def _named(run: ToolRun) -> str:
    return f"{run.agent}'s tool {run.tool}"
