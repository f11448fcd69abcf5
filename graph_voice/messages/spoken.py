"""What a message of somebody else's model says: its words, without its thoughts, and the words in which it declines."""

from langchain_core.messages import AIMessage, AIMessageChunk

from graph_voice.messages.provider_data import with_words
from graph_voice.messages.refusals import spoken_words, with_refusal_as_words
from graph_voice.messages.thoughts import ThoughtFilter, without_thoughts

__all__ = ["StreamedWords", "as_spoken", "words_of"]


def words_of(message: AIMessage) -> str:
    """What a whole message says."""
    return without_thoughts(spoken_words(message))


def as_spoken(message: AIMessage) -> AIMessage:
    """The message with what it says as its text. The same one, when that is its text already."""
    plain = with_refusal_as_words(message)
    words = without_thoughts(plain.text)
    return plain if words == plain.text else plain.model_copy(update=with_words(plain, words))


class StreamedWords:
    """What messages say that come in pieces, several at a time.

    Args:
        thinkers: the nodes whose model is known to close a thought that it has not opened. More are added.
    """

    def __init__(self, thinkers: set[str]) -> None:
        self._thinkers = thinkers
        self._filters: dict[str, ThoughtFilter] = {}

    def of(self, node: str, message_id: str, message: AIMessage) -> str:
        """What this says: a piece of a message, or a whole one."""
        if not isinstance(message, AIMessageChunk):
            return words_of(message)
        thoughts = self._filters.get(message_id)
        if thoughts is None:
            thoughts = self._filters[message_id] = ThoughtFilter(begins_with_thoughts=node in self._thinkers)
        words = thoughts.feed(spoken_words(message))
        if message.chunk_position == "last":
            words += thoughts.end()
        if thoughts.closes_only:
            self._thinkers.add(node)
        return words
