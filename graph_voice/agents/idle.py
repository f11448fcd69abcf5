"""Nudges: what an agent says when the caller has been silent for a while."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graph_voice.errors import BuildError

__all__ = ["Idle"]


@dataclass(frozen=True)
class Idle:
    """When the caller is silent, the agent says something, again and again until the caller speaks.

    `Idle(after=10, every=10, say="Are you still there?")`. Silence is when nobody speaks, no reply is being made, and
    no tool runs. LiveKit's `user_away_timeout` only marks the user as away.

    Args:
        after: seconds of silence until the first nudge.
        every: seconds of silence between two nudges. None: as `after`.
        say: the line: text, or a function of the userdata. "" says nothing this time.
        generate: in place of `say`, instructions for a line that the agent's model writes, without tools: text, or a
            function of the userdata.
        limit: the number of nudges until the caller has spoken again.

    Raises `BuildError` for seconds that are not above 0, and unless there is either `say` or `generate`.
    """

    after: float = 10.0
    every: float | None = None
    say: str | Callable[[Any], str] | None = None
    generate: str | Callable[[Any], str] | None = None
    limit: int = 10

    def __post_init__(self) -> None:
        for name in ("after", "every"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and value > 0) and not (name == "every" and value is None):
                raise BuildError(f"Idle({name}={value!r:.60}): write seconds above 0.")
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 0:
            raise BuildError(f"Idle(limit={self.limit!r:.60}): write a whole number, 0 or more.")
        if (self.say is None) == (self.generate is None):
            raise BuildError(
                'Idle(...): write either what is said, Idle(say="Are you still there?"), or instructions for the '
                'model, Idle(generate="Ask whether the caller is still there.").'
            )
        for name in ("say", "generate"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and not callable(value):
                hint = 'Idle(generate="...")' if hasattr(value, "instructions") else f'Idle({name}="...")'
                raise BuildError(f"Idle({name}={value!r:.60}): write text, or a function of the userdata: {hint}.")

    def words(self, userdata: Any) -> str:
        """The line, or the instructions for one. "": nothing is said this time."""
        given = self.say if self.say is not None else self.generate
        return str(given(userdata) or "") if callable(given) else given or ""

    def seconds(self, nudges: int) -> float | None:
        """How long the silence lasts until the next nudge, after so many; None: there is no other."""
        if nudges >= self.limit:
            return None
        return self.after if nudges == 0 or self.every is None else self.every
