"""Speak a LangGraph voice graph through LiveKit."""

from typing import TYPE_CHECKING, Any

from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.worker.server import create_server

if TYPE_CHECKING:
    from graph_voice_livekit.console.hear import hear
    from graph_voice_livekit.page.teller import tell_observers

__all__ = ["GraphAgent", "create_server", "hear", "tell_observers"]


def __getattr__(name: str) -> Any:
    # `hear` needs the offline extra and the packages that draw a call; a worker does without.
    if name == "hear":
        from graph_voice_livekit.console.hear import hear

        return hear
    if name == "tell_observers":
        from graph_voice_livekit.page.teller import tell_observers

        return tell_observers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
