"""The drive-thru as a LiveKit worker: `python -m graphs.drive_thru.worker dev`."""

from pathlib import Path

from livekit.agents import AgentServer, cli

from graph_voice_livekit import create_server

from .menu import MENU

__all__ = ["make_server"]

GRAPH = str(Path(__file__).with_name("graph.py"))


def make_server() -> AgentServer:
    """A server that answers each job with a call. The cart is sent to the room over the topic `cart`."""
    keyterms = sorted({row.name for row in MENU.rows})
    return create_server(
        GRAPH,
        stt="deepgram/nova-3",
        tts="inworld/inworld-tts-1:Ashley",
        session={"max_tool_steps": 10, "stt_context_options": {"keyterms": keyterms}},
        custom_topic="cart",
        agent_name="drive_thru",
    )


if __name__ == "__main__":
    cli.run_app(make_server())
