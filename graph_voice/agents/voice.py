"""How an agent hears and sounds."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Any

from graph_voice.errors import BuildError
from graph_voice.secrets.credentials import sealed, shown

__all__ = ["Voice"]

_PARTS = ("stt", "tts", "vad", "turn_handling")


@dataclass(frozen=True, repr=False)
class Voice:
    """How an agent hears and sounds: plain data, which the LiveKit adapter resolves.

    Each of `stt`, `tts` and `vad` is a model string ("cartesia/sonic-3:voice-id"), a dict of arguments, or a
    zero-argument callable that returns a LiveKit plugin. None: the session's own is used.

    Credentials among the arguments (`api_key`, `token`, `headers`, ..., at any depth) become `SecretStr`. Only the
    plugin is given their values: docs/secrets.md.
    """

    given: InitVar[None] = None
    """Not allowed: a model's name alone does not say whether it hears or speaks. A `BuildError` says what to write."""
    _: KW_ONLY
    stt: str | Mapping[str, Any] | Callable[[], Any] | None = None
    tts: str | Mapping[str, Any] | Callable[[], Any] | None = None
    vad: Mapping[str, Any] | Callable[[], Any] | None = None
    turn_handling: Mapping[str, Any] | None = None
    """LiveKit's `TurnHandlingOptions`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of LiveKit's `Agent`."""
    llm: InitVar[None] = None
    """Not allowed. A model, realtime or not, raises a `BuildError` that says where it belongs."""

    def __post_init__(self, given: Any, llm: Any) -> None:
        if given is not None:
            raise BuildError(f"Voice({given!r:.60}): write Voice(tts=...) for how it sounds, stt=... for how it hears.")
        if llm is not None or "llm" in self.options:
            raise BuildError(
                "Voice(llm=...): the model belongs to the agent, not to its voice: Agent(..., llm=...), a LangChain "
                "chat model. A realtime (speech-to-speech) model can't be used, since it answers without the graph: "
                "use a chat model there, and stt and tts here."
            )
        for part in (*_PARTS, "options"):
            object.__setattr__(self, part, sealed(getattr(self, part)))

    def __repr__(self) -> str:
        parts = {part: value for part in (*_PARTS, "options") if (value := getattr(self, part))}
        return f"Voice({', '.join(f'{part}={shown(value)!r}' for part, value in parts.items())})"

    def describe(self) -> dict[str, Any]:
        """JSON data for drawings and LangGraph Studio: callables by their name, credentials masked."""
        return {part: shown(value) for part in _PARTS if (value := getattr(self, part)) is not None}
