"""User turns that LiveKit drops while the floor changes, found again.

While an agent hands over, LiveKit refuses new user turns, and says so in its log only. What was said is still known by
its final transcripts: those that no user message has claimed when the new agent's activity begins can't be claimed any
more, since the recogniser that collected them is gone.
"""

from dataclasses import dataclass

from livekit.agents import llm
from livekit.agents.voice.events import UserInputTranscribedEvent

__all__ = ["LostTurns"]


@dataclass(frozen=True)
class _Final:
    text: str
    at: float


class LostTurns:
    """The final transcripts of a call that are in no user message yet."""

    def __init__(self) -> None:
        self._unclaimed: list[_Final] = []
        self._leaving_since: float | None = None

    def transcribed(self, event: UserInputTranscribedEvent) -> None:
        if event.is_final and event.transcript.strip():
            self._unclaimed.append(_Final(event.transcript.strip(), event.created_at))

    def claimed(self, message: llm.ChatMessage) -> None:
        """A user turn made it: its message was made when the turn was over, or (preemptively) shows the same words."""
        words = _key(message.text_content or "")
        self._unclaimed = [f for f in self._unclaimed if f.at > message.created_at and _key(f.text) not in words]

    def leaving(self, now: float) -> None:
        """An agent begins to hand over."""
        if self._leaving_since is None:
            self._leaving_since = now

    def take(self, max_delay: float) -> llm.ChatMessage | None:
        """The new agent's activity begins: what was lost, as one message at the time of its first words.

        Args:
            max_delay: seconds that LiveKit waits at most for a turn to end. Older words belong to a turn that was over
                before the handover; if they are in no message, somebody meant it (`StopResponse`).
        """
        since, self._leaving_since = self._leaving_since, None
        lost = [f for f in self._unclaimed if since is not None and f.at >= since - max_delay]
        self._unclaimed.clear()
        if not lost:
            return None
        return llm.ChatMessage(role="user", content=[" ".join(f.text for f in lost)], created_at=lost[0].at)


def _key(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
