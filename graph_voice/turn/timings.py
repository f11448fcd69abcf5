"""How long a turn's first token, text and sound took, in milliseconds, for its trace."""

import time
from typing import Any

__all__ = ["Timings"]


class Timings:
    """The clock of one turn. Moments are read from `time.perf_counter`; the front end reports its own in seconds."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        """When the turn was started, with the caller's words as far as they were known."""
        self._token: float | None = None
        self._text: float | None = None
        self._handoff: tuple[str, float] | None = None
        self._gaps: list[float] = []
        self._sound: tuple[str, float] | None = None
        self._silences: list[float] = []
        self._told: dict[str, float] = {}

    def token(self) -> None:
        """A model has begun to answer with words, a tool call or reasoning."""
        if self._token is None:
            self._token = time.perf_counter()

    def text(self, agent: str) -> None:
        """An agent has words to be spoken."""
        if self._text is None:
            self._text = time.perf_counter()
        if self._handoff is not None and self._handoff[0] == agent:
            self._gaps.append(time.perf_counter() - self._handoff[1])
            self._handoff = None

    def handed_off(self, agent: str) -> None:
        """The graph has handed off to this agent."""
        self._handoff = (agent, time.perf_counter())

    def sound(self, agent: str, began: float, ended: float) -> None:
        """A reply of this agent was played. Both times are in seconds since the epoch."""
        if self._sound is not None and self._sound[0] != agent:
            self._silences.append(began - self._sound[1])
        self._sound = (agent, ended)

    def told(self, measured: dict[str, float | None]) -> None:
        """Record what the front end measured, in seconds; the first value of each name counts."""
        for name, seconds in measured.items():
            if seconds is not None:
                self._told.setdefault(name, seconds)

    def metadata(self) -> dict[str, Any]:
        """The measured times, in milliseconds, for the trace."""
        found: dict[str, Any] = {}
        for name, moment in (("time_to_first_token_ms", self._token), ("time_to_first_text_ms", self._text)):
            if moment is not None:
                found[name] = _ms(moment - self.begun)
        found |= {f"{name}_ms": _ms(seconds) for name, seconds in self._told.items()}
        if self._gaps:
            found["handoff_gap_ms"] = max(_ms(gap) for gap in self._gaps)
        if self._silences:
            found["handoff_silence_ms"] = max(_ms(gap) for gap in self._silences)
        return found


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
