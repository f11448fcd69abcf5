"""The clinic as a LiveKit worker: `python -m graphs.medical_triage.worker dev`."""

from pathlib import Path

from livekit.agents import AgentServer, cli

from graph_voice_livekit import create_server

__all__ = ["make_server"]

GRAPH = str(Path(__file__).with_name("graph.py"))


def make_server() -> AgentServer:
    """A server that answers each job with a call. The room shows the active agent in the attribute `agent`."""
    return create_server(
        GRAPH,
        stt="deepgram/nova-3",
        tts="inworld/inworld-tts-1:Ashley",
        agent_name="medical_triage",
        active_agent_attribute="agent",
    )


if __name__ == "__main__":
    cli.run_app(make_server())
