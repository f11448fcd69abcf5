"""What the page and the server tell each other: JSON in text frames, 16-bit sound in binary frames.

From the page, a binary frame is 20 ms of the microphone. To the page, a binary frame begins with the number of its
segment (4 bytes, little-endian), and the rest are samples to play. All samples are mono and have the page's own rate.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from graph_voice.errors import GraphVoiceError

__all__ = [
    "LONGEST_TEXT",
    "FromPage",
    "Interrupt",
    "PageError",
    "Played",
    "Pong",
    "Prompt",
    "SaveTest",
    "Say",
    "Start",
    "read",
    "sound_frame",
]

LONGEST_TEXT = 2000
"""Characters that the caller can type at once."""
_LARGEST = 2**40
_HEADER = struct.Struct("<I")


class PageError(GraphVoiceError, ValueError):
    """A page has sent what no page of ours sends. Its own call ends."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Start(_Message):
    """Begin the call."""

    type: Literal["start"]
    mode: Literal["voice", "text"]
    graph: str | None = Field(default=None, max_length=200)
    """One of the names in `welcome`. None: the first."""
    sample_rate: int = Field(default=48_000, ge=16_000, le=96_000)
    """Hertz, of the page's microphone and of its loudspeaker."""


class Say(_Message):
    """The caller has typed this."""

    type: Literal["say"]
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)


class Interrupt(_Message):
    """The caller wants the agent to stop speaking."""

    type: Literal["interrupt"]


class Played(_Message):
    """How much of a segment has left the loudspeaker so far."""

    type: Literal["played"]
    segment: int = Field(ge=0, le=_LARGEST)
    samples: int = Field(ge=0, le=_LARGEST)
    at: float = Field(ge=0, le=_LARGEST)
    """When, in milliseconds of the page's own clock."""
    final: bool = False
    """Whether no more of it will be played: the answer to `clear`."""


class Pong(_Message):
    """The answer to `ping`."""

    type: Literal["pong"]
    id: int = Field(ge=0, le=_LARGEST)
    at: float = Field(ge=0, le=_LARGEST)
    """Milliseconds of the page's own clock."""


class Prompt(_Message):
    """Show what a model was asked."""

    type: Literal["prompt"]
    id: str = Field(max_length=100)


class SaveTest(_Message):
    """Write this call as a test."""

    type: Literal["save_test"]


FromPage = Annotated[Start | Say | Interrupt | Played | Pong | Prompt | SaveTest, Field(discriminator="type")]
_FROM_PAGE: TypeAdapter[FromPage] = TypeAdapter(FromPage)

ToPage = Mapping[str, Any]
"""JSON with a `type`. docs/live-page.md lists them."""


def read(text: str) -> FromPage:
    """A text frame of the page. Raises `PageError`."""
    try:
        return _FROM_PAGE.validate_json(text)
    except ValidationError as error:
        wrong: Sequence[Any] = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(map(str, wrong[0]["loc"])) or "message"
        raise PageError(f"{where}: {wrong[0]['msg']}") from error


def sound_frame(segment: int, samples: bytes) -> bytes:
    """A binary frame for the page."""
    return _HEADER.pack(segment) + samples
