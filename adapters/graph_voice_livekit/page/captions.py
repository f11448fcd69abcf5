"""The words that reach the caller, as they do: the end of LiveKit's text output."""

from collections.abc import Callable, Iterable

from livekit.agents.voice.io import TextOutput

from graph_voice.turn.record import Spoken

__all__ = ["PageCaptions"]


class PageCaptions(TextOutput):
    """Gets each word when it is played, or at once in a call by text.

    Args:
        on_words: called after each change.
    """

    def __init__(self, on_words: Callable[[], None]) -> None:
        super().__init__(label="page captions", next_in_chain=None)
        self._on_words = on_words
        self._letters = ""
        self._over = False

    async def capture_text(self, text: str) -> None:
        """These words were heard, behind those before them."""
        if self._over:
            self._letters, self._over = "", False
        self._letters += _letters(str(text))
        self._on_words()

    def flush(self) -> None:
        """The reply is over."""
        self._over = True

    def places(self, waiting: Iterable[Spoken]) -> dict[str, int]:
        """Message id -> how many characters of it were heard by now, of those that nothing was reported of yet.

        They are told by their letters, in order: a voice may change the white space.
        """
        heard, places = self._letters, dict[str, int]()
        for spoken in waiting:
            letters = _letters(spoken.produced)
            count = min(len(letters), len(heard))
            if count and letters[:count] == heard[:count]:
                places[spoken.id] = _place(spoken.produced, count)
                heard = heard[count:]
            if not heard:
                break
        return places


def _letters(text: str) -> str:
    return "".join(text.split())


def _place(text: str, count: int) -> int:
    """Behind how many characters of a text so many letters are."""
    for place, letter in enumerate(text):
        if count == 0:
            return place
        count -= not letter.isspace()
    return len(text)
