"""How an agent hears and sounds."""

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any

from graph_voice.errors import BuildError

__all__ = ["Voice"]


@dataclass(frozen=True)
class Voice:
    """How an agent hears and sounds: plain data, which the LiveKit adapter resolves.

    Each of `stt`, `tts` and `vad` is a model string ("cartesia/sonic-3:voice-id"), a dict of arguments, or a
    zero-argument callable that returns a LiveKit plugin. None: the session's own is used.
    """

    stt: str | Mapping[str, Any] | Callable[[], Any] | None = None
    tts: str | Mapping[str, Any] | Callable[[], Any] | None = None
    vad: Mapping[str, Any] | Callable[[], Any] | None = None
    turn_handling: Mapping[str, Any] | None = None
    """LiveKit's `TurnHandlingOptions`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of LiveKit's `Agent`."""
    llm: InitVar[None] = None
    """Not allowed. A model, realtime or not, raises a `BuildError` that says where it belongs."""

    def __post_init__(self, llm: Any) -> None:
        if llm is not None or "llm" in self.options:
            raise BuildError(
                "Voice(llm=...): the model belongs to the agent, not to its voice: Agent(..., llm=...), a LangChain "
                "chat model. A realtime (speech-to-speech) model can't be used, since it answers without the graph: "
                "use a chat model there, and stt and tts here."
            )

    def describe(self) -> dict[str, Any]:
        """JSON data for drawings and LangGraph Studio; callables by their name."""
        found: dict[str, Any] = {}
        for name in ("stt", "tts", "vad", "turn_handling"):
            value = getattr(self, name)
            if value is not None:
                found[name] = getattr(value, "__name__", repr(value)) if callable(value) else value
        return found
