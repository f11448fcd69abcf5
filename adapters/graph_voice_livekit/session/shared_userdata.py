"""`session.userdata` and the graph's userdata: one and the same, whoever changes it."""

from typing import Any

from livekit.agents import AgentSession

from graph_voice import Conversation

__all__ = ["SharedUserdata"]


class SharedUserdata:
    """Keeps LiveKit's `session.userdata` and the graph's the same value.

    Args:
        conversation: of the call.
    """

    def __init__(self, conversation: Conversation[Any]) -> None:
        self._conversation = conversation
        self._session: AgentSession[Any] | None = None
        self._shared: Any = None

    def bind(self, session: AgentSession[Any]) -> None:
        """The call is this session's from now on."""
        self._session = session
        self._conversation.on_userdata = self.give
        self.give()

    def take(self) -> None:
        """Adopt what the program put into `session.userdata`."""
        if self._session is None:
            return
        try:
            theirs = self._session.userdata
        except ValueError:  # LiveKit's way to say that there is none
            return
        if theirs is not None and theirs is not self._shared:
            self._shared = theirs
            self._conversation.update_userdata(theirs)

    def give(self) -> None:
        """`session.userdata` is the graph's, if it has any, but for what the program has just put there."""
        self.take()
        if self._session is None or self._conversation.value("userdata") is None:
            return
        ours = self._conversation.userdata
        if type(ours) is dict and not ours and self._shared is None:
            return  # a graph without userdata: LiveKit says itself that there is none
        self._shared = self._session.userdata = ours
