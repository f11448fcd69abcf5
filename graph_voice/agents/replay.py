"""The tasks that one tool call asks for. A tool that waits for a task runs again from its start when the result is
there, and finds the results that it has already.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from langgraph.errors import GraphBubbleUp

from graph_voice.agents.tool_errors import ToolError
from graph_voice.errors import TurnError

__all__ = ["MAX_DEPTH", "Replay", "RunnableTask", "TaskWanted", "insisting"]

logger = logging.getLogger("graph_voice")
R = TypeVar("R", covariant=True)
MAX_DEPTH = 8
"""How many tasks may wait for each other."""


class RunnableTask(Protocol[R]):
    """What `ctx.run_task` takes: a `Task`."""

    name: str

    async def run(self, ctx: Any, inputs: Mapping[str, Any]) -> R:
        """The result, for a tool call with this `RunContext`. Raises `TaskWanted` while it is not there."""


class TaskWanted(GraphBubbleUp):
    """A tool asks for a task whose result is not there yet.

    Args:
        task: its name.
        inputs: what the task is given.
        group: the group that it is a step of.
        earlier: the steps of the group that have run.
        draft: with which it begins, as plain data. None: a new one.
    """

    def __init__(
        self,
        task: str,
        inputs: Mapping[str, Any],
        *,
        group: str | None = None,
        earlier: Sequence[str] = (),
        draft: Any = None,
    ) -> None:
        super().__init__(task)
        self.task, self.inputs = task, dict(inputs)
        self.group, self.earlier, self.draft = group, list(earlier), draft


@dataclass
class Replay:
    """The results of the tasks that a tool call has had so far, by the order in which it asks for them.

    Args:
        agent: who makes the tool call.
        tasks: what it may run.
        results: those that are there.
        waiting: the tasks that wait for others now, outermost first.
        left: how many more tasks may begin before the caller speaks again.
    """

    agent: str
    tasks: Collection[str]
    results: Sequence[Mapping[str, Any]] = ()
    waiting: Sequence[str] = ()
    left: int = MAX_DEPTH
    position: int = field(default=0, init=False)
    asked: list[str] = field(default_factory=list, init=False)
    """The tasks that it has asked for by now."""
    wanted: TaskWanted | None = field(default=None, init=False)
    """The first one whose result is not there."""

    @property
    def at_end(self) -> bool:
        """Whether the result that was taken last is the newest."""
        return self.position == len(self.results)

    def named(self, name: str) -> Any:
        """The task of this name. Raises `TurnError` for one that is not declared."""
        if name not in self.tasks:
            raise TurnError(self._undeclared(name))
        return self.tasks[name] if isinstance(self.tasks, Mapping) else None

    def _undeclared(self, name: str) -> str:
        known = ", ".join(sorted(self.tasks)) or "none"
        return (
            f'agent "{self.agent}" may not run the task "{name}": declare it, '
            f'Agent("{self.agent}", ..., tasks=[{name}]). Declared: {known}.'
        )

    def go_on(self) -> None:
        """Raise `TaskWanted` once more, if the code has caught it and wants to speak, or to end the call."""
        if self.wanted is not None:
            raise self.wanted

    def may_take(self, name: str) -> bool:
        """Whether the next result is this task's, or there is none yet."""
        return self.at_end or self.results[self.position]["task"] == name

    def take(
        self,
        name: str,
        inputs: Mapping[str, Any],
        *,
        group: str | None = None,
        earlier: Sequence[str] = (),
        draft: Any = None,
    ) -> Mapping[str, Any]:
        """How the task ended, as the stack keeps it; `group`, `earlier`, `draft`: see `TaskWanted`.

        Raises `TaskWanted` when it has not ended yet, `ToolError` for what the model is told, and `TurnError` for a
        task that is not declared.
        """
        if name not in self.tasks:
            raise TurnError(self._undeclared(name))
        self.go_on()
        self.asked.append(name)
        if self.position < len(self.results):
            found = self.results[self.position]
            self.position += 1
            if found["task"] != name:
                raise ToolError(f"not done: the tool asked for {found['task']} before, and now for {name}.")
            return found
        if name in self.waiting:
            raise ToolError(f"not done: the task {name} can't be run within itself.")
        if len(self.waiting) >= MAX_DEPTH:
            raise ToolError(f"not done: {MAX_DEPTH} tasks wait for each other already.")
        if self.left <= 0:
            raise ToolError("not done: too many tasks were begun since the caller last spoke. Answer the caller.")
        self.wanted = TaskWanted(name, inputs, group=group, earlier=earlier, draft=draft)
        raise self.wanted


@contextmanager
def insisting(replay: Replay | None, who: str) -> Iterator[None]:
    """Code that asks for a task waits for it, also when it catches what tells so (`except Exception:`).

    Args:
        replay: the tasks of the tool call; None where none can be run.
        who: whose code it is, for the log.
    """
    try:
        yield
    except Exception as error:
        if replay is None or replay.wanted is None or error is replay.wanted:
            raise
        raise _caught(replay.wanted, who) from None
    if replay is not None and replay.wanted is not None:
        raise _caught(replay.wanted, who)


def _caught(wanted: TaskWanted, who: str) -> TaskWanted:
    logger.warning(
        "%s has caught what run_task(%s) raises while there is no result yet. It waits for it all the same, and runs "
        "again then. Catch TaskFailed, not Exception.",
        who,
        wanted.task,
    )
    return wanted
