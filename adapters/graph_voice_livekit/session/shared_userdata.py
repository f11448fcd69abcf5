"""Keeps `session.userdata` and the graph's userdata the same, whoever changes it."""

import logging
from typing import Any

from livekit.agents import AgentSession

from graph_voice import Conversation
from graph_voice.errors import UserdataError

__all__ = ["SharedUserdata"]

logger = logging.getLogger("graph_voice.livekit")


class SharedUserdata:
    """Keeps LiveKit's `session.userdata` and the graph's the same value.

    Args:
        conversation: the graph's side of the call.
    """

    def __init__(self, conversation: Conversation[Any]) -> None:
        self._conversation = conversation
        self._session: AgentSession[Any] | None = None
        self._shared: Any = None

    def bind(self, session: AgentSession[Any]) -> None:
        """The call is this session's from now on."""
        self._session = session
        self._conversation.call.on_userdata = self.give
        self.give()

    def take(self) -> None:
        """Give the graph what the program has put into `session.userdata`."""
        if self._session is None:
            return
        try:
            theirs = self._session.userdata
        except ValueError:  # LiveKit raises it if there is none
            return
        if theirs is None or theirs is self._shared:
            return
        try:
            self._conversation.update_userdata(theirs)
        except UserdataError as error:  # a caller who hears nothing would be worse
            logger.error("the graph does not take session.userdata, and keeps its own: %s", error)
            self._shared = self._session.userdata = self._conversation.call.state.value("userdata")
        else:
            self._shared = theirs

    def give(self) -> None:
        """Give LiveKit the graph's userdata, if it has any. What the program has just set comes first: see `take`."""
        self.take()
        if self._session is None or self._conversation.call.state.value("userdata") is None:
            return
        ours = self._conversation.userdata
        if type(ours) is dict and not ours and self._shared is None:
            return  # the graph has no userdata, so LiveKit should raise its own error
        self._shared = self._session.userdata = ours
