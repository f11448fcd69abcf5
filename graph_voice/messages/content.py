"""What a message holds besides words: images and other media, as LangChain's content blocks."""

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
"""Type of a content block -> what stands for it where only text can go."""


def plain_text(message: BaseMessage) -> str:
    """The words of a message, with a placeholder such as "[image]" where something else stands."""
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
    """What a message holds when this was said after all.

    Words alone replace words: an image that was shown with them was still shown.
    """
    if not isinstance(said, str):
        return list(said)
    if isinstance(message.content, str):
        return said
    if said == message.text:
        return message.content
    media = [block for block in message.content if isinstance(block, dict) and block.get("type") != "text"]
    return [{"type": "text", "text": said}, *media] if media else said
