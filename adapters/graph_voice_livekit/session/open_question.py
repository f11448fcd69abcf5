"""Asking once more what the caller has not answered: a question of the graph (LangGraph's `interrupt()`)."""

from collections.abc import Callable
from typing import Any

from livekit.agents.voice.events import UserStateChangedEvent

from graph_voice import Conversation

__all__ = ["OpenQuestion"]


class OpenQuestion:
    """Repeats the question when the caller has been silent for `AgentSession(user_away_timeout=...)`.

    A resumed call repeats it at once.

    Args:
        conversation: the conversation with the question.
        say: speaks a text.
    """

    def __init__(self, conversation: Conversation[Any], say: Callable[[str], None]) -> None:
        self._conversation = conversation
        self._say = say
        self._repeated: str | None = None
        """LangGraph's id of the question that was asked a second time."""

    def user_state_changed(self, event: UserStateChangedEvent) -> None:
        if event.new_state == "away":
            self.ask()

    def ask(self) -> None:
        """Ask it again, unless that has been done already."""
        for waiting in self._conversation.interrupts[:1]:  # the others come after its answer
            if waiting.id != self._repeated:
                self._repeated = waiting.id
                self._say(self._conversation.call.words_of_question(waiting.value))
