"""From an agent's `Voice`, plain data, to LiveKit's plugins."""

from collections.abc import Mapping
from typing import Any

from livekit.agents import inference

from graph_voice import Voice

__all__ = ["Voices"]

_MADE_BY = {"stt": inference.STT, "tts": inference.TTS}


class Voices:
    """The plugins of one call. One plugin per declaration, so that equal declarations share their connections.

    LiveKit keeps the STT pipeline across a handoff only when both agents have the very same STT object.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}

    def arguments(self, voice: Voice | None) -> dict[str, Any]:
        """Keyword arguments of LiveKit's `Agent`; what the voice does not say is left to the session."""
        if voice is None:
            return {}
        found: dict[str, Any] = dict(voice.options)
        for part in ("stt", "tts", "vad"):
            value = getattr(voice, part)
            if value is not None:
                found[part] = self._plugin(part, value)
        if voice.turn_handling is not None:
            found["turn_handling"] = dict(voice.turn_handling)
        return found

    def _plugin(self, part: str, value: Any) -> Any:
        if isinstance(value, str):
            return value  # LiveKit resolves model strings itself
        key = (part, id(value)) if callable(value) else (part, repr(sorted(value.items())))
        if key not in self._made:
            # The declaration is kept with what was made of it, so that its id stays its own.
            self._made[key] = (value, value() if callable(value) else self._from_mapping(part, value))
        return self._made[key][1]

    def _from_mapping(self, part: str, value: Mapping[str, Any]) -> Any:
        if part == "vad":
            return inference.VAD(**value)
        return _MADE_BY[part](**value)
