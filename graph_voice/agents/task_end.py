"""How a task ends: with its result, or given up."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["Done", "Ends"]


@dataclass(frozen=True)
class Done:
    """What `ctx.complete` and `ctx.fail` return. A tool that returns it ends the task."""

    task: str
    value: Any = None
    """The result, as plain data."""
    error: str | None = None
    """Why it was given up; None if it was not."""
    revisit: tuple[str, ...] | None = None
    """The earlier steps of its group to go back to, before this one runs again."""
    draft: Any = None
    """Its draft, as plain data, if it runs again."""

    @property
    def answer(self) -> str:
        """What the tool answers."""
        said = self.task.replace("_", " ")
        if self.revisit is not None:
            return f"Back to {', '.join(self.revisit)}."
        return f"{said} is complete." if self.error is None else f"{said} was given up: {self.error}"

    def result(self) -> dict[str, Any]:
        """As the stack keeps it."""
        kept: dict[str, Any] = {"task": self.task}
        if self.revisit is not None:
            return kept | {"revisit": list(self.revisit), "draft": self.draft}
        return kept | ({"value": self.value} if self.error is None else {"error": self.error})


@runtime_checkable
class Ends(Protocol):
    """What a `RunContext` asks of the task that it is in."""

    def done(self, result: Any) -> Done:
        """The end with this result. Raises `ToolError` if it does not fit."""

    def failed(self, reason: str) -> Done:
        """The end without one."""
