"""What a check of a graph finds."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Severity"]


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The graph does not work."""
    WARNING = "warning"
    """It works, but some calls will go wrong, or it can't be used everywhere."""
    INFO = "info"
    """It may be intended."""


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may be, wrong with a graph."""

    severity: Severity
    problem: str
    """What is wrong, with the name of the agent or tool."""
    fix: str = ""
    """What to write instead. Empty where the problem says so."""
    agent: str | None = None
    tool: str | None = None
    where: str | None = None
    """`file:line` of what fails while the file is imported."""

    def __str__(self) -> str:
        return " ".join(
            part for part in (f"{self.severity}:", self.where and f"{self.where}:", self.problem, self.fix) if part
        )
