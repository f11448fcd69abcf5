"""What came of something that a scripted caller did, and the words in which a test asks for it."""

from collections.abc import Sequence
from typing import Any

from graph_voice import events
from graph_voice.testing.expect import Expect
from graph_voice.testing.happened import Happening, Item, Message, items_of, transcript

__all__ = ["Result"]


class Result:
    """What happened between two moments of a call. LiveKit's `RunResult`, with what was heard.

    Args:
        entries: what happened.
        seconds: how long it took, by the clock of the event loop.
    """

    def __init__(self, entries: Sequence[Happening], seconds: float = 0.0) -> None:
        self._entries = list(entries)
        self.seconds = seconds

    @property
    def events(self) -> list[events.Event]:
        """The graph's events, those of discarded turns left out."""
        return [
            entry.what
            for entry in self._entries
            if isinstance(entry.what, events.Event) and entry.turn is not None and entry.turn.committed
        ]

    @property
    def items(self) -> list[Item]:
        """What was said and heard, called, answered and handed over, in order."""
        return items_of(self._entries)

    @property
    def heard(self) -> str:
        """What the caller heard of the agents, as one text."""
        return " ".join(item.text for item in self.items if isinstance(item, Message))

    @property
    def transcript(self) -> str:
        """For people."""
        return transcript(self._entries)

    @property
    def expect(self) -> Expect:
        """Walk over it: `result.expect.next_event().is_function_call(name="book")`."""
        return Expect(self.items, self.transcript)

    def __repr__(self) -> str:
        return self.transcript

    @property
    def final(self) -> Any:
        """The last item; None when nothing happened."""
        return self.items[-1] if self.items else None
