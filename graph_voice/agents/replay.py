"""The tasks that one tool call asks for. A tool that waits for a task runs again from its start when the result is
there, and finds the results that it has already.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from langgraph.errors import GraphBubbleUp

from graph_voice.agents.tool_errors import ToolError
from graph_voice.errors import TurnError

__all__ = ["MAX_DEPTH", "Replay", "RunnableTask", "TaskWanted"]

R = TypeVar("R", covariant=True)
MAX_DEPTH = 8
"""How many tasks may wait for each other."""


class RunnableTask(Protocol[R]):
    """What `ctx.run_task` takes: a `Task`."""

    name: str

    def read(self, found: Mapping[str, Any]) -> R:
        """The result as the tool gets it. Raises `TaskFailed`."""


class TaskWanted(GraphBubbleUp):
    """A tool asks for a task whose result is not there yet."""

    def __init__(self, task: str, inputs: Mapping[str, Any]) -> None:
        super().__init__(task)
        self.task, self.inputs = task, dict(inputs)


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

    def result_of(self, task: "RunnableTask[R]", inputs: Mapping[str, Any]) -> R:
        """The task's result.

        Raises `TaskWanted` when it is not there yet, `TaskFailed` when the task was given up, `ToolError` for what the
        model is told, and `TurnError` for a task that is not declared.
        """
        name = task.name
        if name not in self.tasks:
            known = ", ".join(sorted(self.tasks)) or "none"
            raise TurnError(
                f'agent "{self.agent}" may not run the task "{name}": declare it, '
                f'Agent("{self.agent}", ..., tasks=[{name}]). Declared: {known}.'
            )
        if self.position < len(self.results):
            found = self.results[self.position]
            self.position += 1
            if found["task"] != name:
                raise ToolError(f"not done: the tool asked for {found['task']} before, and now for {name}.")
            return task.read(found)
        if name in self.waiting:
            raise ToolError(f"not done: the task {name} can't be run within itself.")
        if len(self.waiting) >= MAX_DEPTH:
            raise ToolError(f"not done: {MAX_DEPTH} tasks wait for each other already.")
        if self.left <= 0:
            raise ToolError("not done: too many tasks were begun since the caller last spoke. Answer the caller.")
        raise TaskWanted(name, inputs)
