"""What a message contains besides words: images and other media, as LangChain's content blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

__all__ = ["Content", "plain_text", "with_words"]

Content = str | Sequence[str | Mapping[str, Any]]
"""What the caller said: words, or LangChain's content blocks (`{"type": "text", ...}`, `{"type": "image", ...}`)."""

_MEDIA = {
    "image": "[image]",
    "image_url": "[image]",
    "audio": "[audio]",
    "input_audio": "[audio]",
    "video": "[video]",
    "file": "[file]",
}
"""Type of a content block -> its placeholder where only text is possible."""


def plain_text(message: BaseMessage) -> str:
    """The words of a message, with placeholders such as "[image]" for everything else."""
    if isinstance(message.content, str):
        return message.text
    parts = [_part(block) for block in message.content]
    if not any(part in _MEDIA.values() for part in parts):
        return message.text
    return " ".join(part.strip() for part in parts if part.strip())


def _part(block: Any) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    return str(block.get("text", "")) if kind == "text" else _MEDIA.get(kind, "")


def with_words(message: BaseMessage, said: Content) -> Any:
    """The content of a message when the caller in fact said this.

    Words alone replace only the words: an image that came with them stays.
    """
    if not isinstance(said, str):
        return list(said)
    if isinstance(message.content, str):
        return said
    if said == message.text:
        return message.content
    media = [block for block in message.content if isinstance(block, dict) and block.get("type") != "text"]
    return [{"type": "text", "text": said}, *media] if media else said
