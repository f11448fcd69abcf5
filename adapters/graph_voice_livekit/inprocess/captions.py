"""The text on its way to the caller: what the agents were about to say."""

from livekit.agents.voice.io import TextOutput

__all__ = ["Captions"]


class Captions(TextOutput):
    """Stands before LiveKit's `TranscriptSynchronizer` and keeps the text that goes into it.

    The synchronizer gives the chat context what was heard. What went in is what an interrupted agent would have said.
    """

    def __init__(self, *, next_in_chain: TextOutput) -> None:
        super().__init__(label="Captions", next_in_chain=next_in_chain)
        self._next = next_in_chain
        self._segments: list[str] = []
        self._open = False

    async def capture_text(self, text: str) -> None:
        """Keep the text and pass it on."""
        if not self._open:
            self._segments.append("")
            self._open = True
        self._segments[-1] += text
        await self._next.capture_text(text)

    def flush(self) -> None:
        """The segment is complete."""
        self._open = False
        self._next.flush()

    def take(self, heard: str) -> str | None:
        """The whole text of the speech that begins with `heard`; None if there is none. It is given once."""
        segments, self._segments = self._segments, []
        if self._open:
            self._segments = [""]  # the next speech has begun already: its text still comes
        for first in reversed(range(len(segments))):
            text = "".join(segments[first:])
            if heard.strip() and text.strip().startswith(heard.strip()):
                return text.strip()
        return None

    def dropped(self) -> str | None:
        """The text of a speech that ended before its first sound; None if there was none yet. It is given once."""
        segments, self._segments, self._open = self._segments, [], False
        return segments[-1].strip() or None if segments else None
