"""How a task ends: with its result, or given up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from graph_voice.secrets.values import has_lost, was_redacted

__all__ = ["Done", "Ends", "lost"]


@dataclass(frozen=True)
class Done:
    """What `ctx.complete` and `ctx.fail` return. A tool that returns it ends the task."""

    task: str
    value: Any = None
    """The result, as plain data. Its secrets are `Redacted`."""
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

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Done":
        """What `result` made this of."""
        again = kept.get("revisit")
        return cls(
            kept["task"],
            kept.get("value"),
            kept.get("error"),
            None if again is None else tuple(again),
            kept.get("draft"),
        )

    @property
    def is_open(self) -> bool:
        """Whether it holds no secret, so that it may stand in a message."""
        return not (was_redacted(self.value) or was_redacted(self.draft))

    def result(self) -> dict[str, Any]:
        """As the stack keeps it."""
        kept: dict[str, Any] = {"task": self.task}
        if self.revisit is not None:
            return kept | {"revisit": list(self.revisit), "draft": self.draft}
        if self.error is not None:
            return kept | {"error": self.error}
        return kept | {"value": self.value} | ({"secret": True} if was_redacted(self.value) else {})


@runtime_checkable
class Ends(Protocol):
    """What a `RunContext` asks of the task that it is in."""

    def done(self, result: Any) -> Done:
        """The end with this result. Raises `ToolError` if it does not fit."""

    def failed(self, reason: str) -> Done:
        """The end without one."""


def lost(result: Mapping[str, Any]) -> bool:
    """Whether the result that the stack keeps had a secret which was not stored, or can't be decrypted here."""
    return bool(result.get("secret")) and has_lost(result.get("value"))
