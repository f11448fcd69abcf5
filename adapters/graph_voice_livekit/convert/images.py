"""Images between LiveKit's messages and LangChain's content blocks."""

import base64
import logging
from collections.abc import Mapping
from typing import Any

from livekit.agents import llm

__all__ = ["from_image", "to_image"]

logger = logging.getLogger("graph_voice.livekit")

_UNREADABLE = "[an image that could not be read]"
"""What the model is told instead of a frame that can't be encoded, so that the caller is answered all the same."""


def from_image(image: llm.ImageContent) -> dict[str, Any]:
    """A content block that LangChain's chat models take: a URL, or the data itself in base64.

    LiveKit's own encoder turns a video frame into a JPEG of the size that the image asks for. A level of detail is
    given in OpenAI's older form of the block, which has a place for it and which other providers' models take as well.
    """
    if isinstance(image.image, str):
        url, mime_type = image.image, image.mime_type
    else:
        try:
            # LiveKit keeps the encoded frame with the image, so it is encoded once.
            made = llm.utils.serialize_image(image)
        except Exception:
            logger.exception("an image that the caller showed could not be encoded; its place is marked in the text")
            return {"type": "text", "text": _UNREADABLE}
        assert made.data_bytes is not None
        url, mime_type = _data_url(base64.b64encode(made.data_bytes).decode(), made.mime_type), made.mime_type
    if image.inference_detail != "auto":
        return {"type": "image_url", "image_url": {"url": url, "detail": image.inference_detail}}
    if (data := _data(url)) is not None:
        return {"type": "image", "base64": data[1], "mime_type": mime_type or data[0]}
    return {"type": "image", "url": url, **({"mime_type": mime_type} if mime_type else {})}


def to_image(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of LiveKit's `ImageContent` for a content block; None if it is no image, or has no data."""
    if block.get("type") == "image_url":
        image = block["image_url"]
        if isinstance(image, str):
            return {"image": image}
        return {"image": image["url"], **({"inference_detail": image["detail"]} if image.get("detail") else {})}
    if block.get("type") != "image":
        return None
    data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    if data:
        return {"image": _data_url(data, block.get("mime_type"))}
    if (url := block.get("url")) is None:
        return None
    return {"image": url, **({"mime_type": block["mime_type"]} if block.get("mime_type") else {})}


def _data_url(data: str, mime_type: str | None) -> str:
    return f"data:{mime_type or 'image/jpeg'};base64,{data}"


def _data(url: str) -> tuple[str, str] | None:
    """The MIME type and the base64 data of a data URL."""
    if not url.startswith("data:"):
        return None
    header, _, data = url.partition(",")
    kind, *parameters = header.removeprefix("data:").split(";")
    return (kind or "image/jpeg", data) if "base64" in parameters else None
