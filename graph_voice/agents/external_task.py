"""Tasks that the front end runs: LiveKit's own `AgentTask`s, which a graph runs by their names."""

import dataclasses
import logging
from typing import Any

from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError

__all__ = ["ExternalTask"]

logger = logging.getLogger("graph_voice")


class ExternalTask(Task[Any]):
    """What a graph knows of a task that the front end runs: its name, and its result.

    Args:
        name: what `ctx.run_task` and `Agent(tasks=[...])` name.
        result: the class of the result: any type that pydantic knows.

    Raises `BuildError` for a result that pydantic can't read and write as JSON.
    """

    def __init__(self, name: str, result: Any) -> None:
        super().__init__(name, result=result, instructions="The front end runs this task.")

    def _extra_tools(self, given: Any) -> list[Any]:
        return []

    def ended(self, result: Any) -> Done:
        """The end with what the front end's task has returned: the result itself, or what has its fields."""
        if dataclasses.is_dataclass(result) and not isinstance(result, self.result if _is_class(self.result) else ()):
            result = dataclasses.asdict(result)  # type: ignore[arg-type]
        try:
            return self.done(result)
        except ToolError as error:
            logger.error("the external task %s returned what does not fit: %s", self.name, error)
            return self.failed(str(error))

    def elsewhere(self) -> Done:
        """The end when no front end runs it."""
        return self.failed(
            f'{self.name} is LiveKit\'s; run the call in LiveKit: GraphAgent(graph, tasks={{"{self.name}": ...}}).'
        )


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type)
