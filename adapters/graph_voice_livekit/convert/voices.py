"""Makes LiveKit's plugins from an agent's `Voice`, which is plain data."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any, get_type_hints

from livekit.agents import Agent, TurnHandlingOptions, inference, stt, tts, vad
from typing_extensions import is_typeddict

from graph_voice import Voice
from graph_voice.errors import BuildError
from graph_voice.secrets.arguments import redact_error
from graph_voice.secrets.credentials import credentials_in, revealed_options, shown
from graph_voice.secrets.known import Known

__all__ = ["ARGUMENTS", "Voices"]

_PARTS: dict[str, tuple[type[Any], type[Any]]] = {
    "stt": (stt.STT, inference.STT),
    "tts": (tts.TTS, inference.TTS),
    "vad": (vad.VAD, inference.VAD),
}
"""Part -> LiveKit's class, and the inference plugin that is made from a model string or a dict."""
_OURS = {"self", "instructions", "id", "chat_ctx", "tools", "llm", "mcp_servers", "turn_handling", *_PARTS}
"""Arguments of LiveKit's `Agent` that are no options of a voice: the graph gives them, or `Voice` has a field."""
_OPTIONS = frozenset(inspect.signature(Agent.__init__).parameters) - _OURS
ARGUMENTS = _OPTIONS | {*_PARTS, "turn_handling"}
"""All arguments of LiveKit's `Agent` that say how an agent hears and sounds."""


class Voices:
    """The plugins of one call. Equal declarations give the same plugin, and so share its connections.

    LiveKit keeps the STT pipeline across a handoff only if both agents have the same STT object.
    """

    def __init__(self) -> None:
        self._made: list[tuple[str, Any, Any]] = []
        """(part, declaration, plugin). A declaration is compared, since its text would show no credential."""

    def check(self, agent: str, voice: Voice | None) -> None:
        """Raise `BuildError` for settings that LiveKit does not know, and would ignore."""
        if voice is None:
            return
        _known(f'agent "{agent}": Voice(options=...)', voice.options, _OPTIONS)
        _known_options(f'agent "{agent}": Voice(turn_handling=...)', voice.turn_handling or {}, TurnHandlingOptions)
        for part, (kind, _) in _PARTS.items():
            value = revealed_options(getattr(voice, part))
            texts = isinstance(value, str) and part != "vad"  # LiveKit has no model strings for it
            if value is not None and not (texts or isinstance(value, Mapping | kind) or callable(value)):
                raise BuildError(
                    f'agent "{agent}": Voice({part}={shown(value)!r}) is none of: '
                    f"{'' if part == 'vad' else 'a model string, '}a dict of arguments, a function that makes a "
                    f"LiveKit {kind.__name__}, or one that is made."
                )

    def arguments(self, voice: Voice | None) -> dict[str, Any]:
        """Keyword arguments of LiveKit's `Agent`; the session decides what the voice leaves open."""
        if voice is None:
            return {}
        found: dict[str, Any] = revealed_options(voice.options)
        for part in _PARTS:
            value = getattr(voice, part)
            if value is not None:
                found[part] = self._plugin(part, value)
        if voice.turn_handling is not None:
            found["turn_handling"] = revealed_options(voice.turn_handling)
        return found

    def _plugin(self, part: str, value: Any) -> Any:
        kind, described = _PARTS[part]
        if isinstance(value, kind):
            return value
        for known, declared, plugin in self._made:
            if known == part and (declared is value or (not callable(value) and declared == value)):
                return plugin
        plugin = self._make(value, described)
        self._made.append((part, value, plugin))
        return plugin

    def _make(self, value: Any, described: Any) -> Any:
        if callable(value):
            return value()
        options = revealed_options(value)
        try:
            return described.from_model_string(options) if isinstance(options, str) else described(**options)
        except Exception as error:
            raise redact_error(error, Known(secret for _, secret in credentials_in(value))) from None


def _known_options(where: str, given: Any, options: type[Any]) -> None:
    """Check a dict, and the dicts in it, against LiveKit's."""
    if not isinstance(given, Mapping):
        raise BuildError(f"{where}: {shown(given)!r} is no dict of options.")
    hints = get_type_hints(options)
    _known(where, given, hints)
    for name, value in given.items():
        if is_typeddict(hints[name]):
            _known_options(f"{where}: {name}", value, hints[name])


def _known(where: str, given: Mapping[str, Any], allowed: Collection[str]) -> None:
    if unknown := sorted(set(given) - set(allowed)):
        raise BuildError(f"{where} has no {', '.join(unknown)}; LiveKit knows {', '.join(sorted(allowed))}.")
