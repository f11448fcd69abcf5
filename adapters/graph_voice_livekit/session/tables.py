"""What the turns of one call share: whose is the id, or the speech, that LiveKit reports."""

from dataclasses import dataclass, field

from livekit.agents.voice import SpeechHandle

from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.tool_call import LiveToolCall

__all__ = ["Reply", "Tables"]


@dataclass
class Reply:
    """One reply that LiveKit speaks."""

    driver: Driver
    spoken: list[tuple[str, str]] = field(default_factory=list)
    """(message id, text) of what it has spoken, in order."""


@dataclass
class Tables:
    """The tables of one call. What a turn leaves in them is deleted with it."""

    tool_calls: dict[str, LiveToolCall] = field(default_factory=dict)
    """Tool call id -> the tool call, until LiveKit's history has its result."""
    replies: dict[str, Reply] = field(default_factory=dict)
    """Reply id -> the reply, until it was played."""
    own_lines: set[SpeechHandle] = field(default_factory=set)
    """LiveKit's speeches that say a line of the graph. Any other that no turn drains is the program's own."""

    def forget(self, driver: Driver) -> None:
        """This turn is over. A tool call that asks the caller is answered in a later one, and a tool of LiveKit's may
        still run."""
        for call in list(self.tool_calls.values()):
            if call.batch is None or call.batch.driver is not driver:
                continue
            if not (call.asks or call.in_task or call.is_livekits):
                del self.tool_calls[call.id]
        for reply in [key for key, found in self.replies.items() if found.driver is driver]:
            del self.replies[reply]
