"""Slow tools: what is said while a tool works, and what happens to a result that comes late."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from langchain_core.tools import BaseTool

from graph_voice.errors import BuildError

__all__ = ["FILLER_AFTER", "Filler", "LatePolicy", "SlowTool", "slow_tool"]

FILLER_AFTER = 1.5
"""Seconds of silence, while a tool runs, after which its filler is said."""

Filler = str | Sequence[str] | Callable[[Any], str | None]
"""A line, lines that the tool's calls use in turn, or a function of the userdata (which may return None)."""

LatePolicy = Literal["announce", "merge"]
"""What happens to a result that comes after the caller was answered without it."""


@dataclass(frozen=True)
class SlowTool:
    """What one tool declares for slow calls. The fields are arguments of `function_tool`."""

    filler: Filler | None = None
    filler_after: float = FILLER_AFTER
    late: LatePolicy = "announce"

    def line(self, userdata: Any, earlier: int) -> str:
        """The filler to say; "" for nothing.

        Args:
            userdata: the caller's facts.
            earlier: the number of earlier calls of this tool in the conversation. Of several lines, each tool call uses
                the next one, and after the last the first again: the same conversation always has the same lines.
        """
        if self.filler is None or isinstance(self.filler, str):
            return self.filler or ""
        if callable(self.filler):
            return self.filler(userdata) or ""
        return self.filler[earlier % len(self.filler)]

    def check(self, tool: str) -> "SlowTool":
        """Raise `BuildError` for values that can't work."""
        if not _is_filler(self.filler):
            raise BuildError(
                f'tool "{tool}": filler={self.filler!r} can\'t be said. Write a text, a list of texts, or a function '
                "of the userdata."
            )
        after = self.filler_after
        if not isinstance(after, int | float) or not after > 0 or not math.isfinite(after):
            raise BuildError(f'tool "{tool}": filler_after={after!r} must be a number of seconds above 0.')
        if self.late not in get_args(LatePolicy):
            known = " or ".join(f'"{name}"' for name in get_args(LatePolicy))
            raise BuildError(f'tool "{tool}": late={self.late!r} is unknown. Write late={known}.')
        return self


def _is_filler(value: Any) -> bool:
    if value is None or isinstance(value, str) or callable(value):
        return True
    return isinstance(value, Sequence) and bool(value) and all(isinstance(line, str) for line in value)


def slow_tool(tool: BaseTool) -> SlowTool:
    """What a tool declares: `@function_tool(...)` in its arguments, any other LangChain tool in its `metadata`.

    Raises `BuildError` for values that can't work.
    """
    declared = getattr(tool, "slow", None)
    if isinstance(declared, SlowTool):
        return declared
    names = ("filler", "filler_after", "late")
    return SlowTool(**{k: v for k, v in (tool.metadata or {}).items() if k in names}).check(tool.name)
