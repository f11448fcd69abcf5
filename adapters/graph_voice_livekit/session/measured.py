"""What LiveKit has measured of a turn, told to the graph's: for its trace."""

from livekit.agents import llm

from graph_voice import Turn

__all__ = ["agent_spoke", "user_spoke"]


def user_spoke(turn: Turn, item: llm.ChatMessage) -> None:
    """The caller's message of this turn has come, with LiveKit's delays."""
    turn.measured(
        end_of_turn_delay=item.metrics.get("end_of_turn_delay"),
        transcription_delay=item.metrics.get("transcription_delay"),
    )


def agent_spoke(turn: Turn, item: llm.ChatMessage, message_ids: list[str]) -> None:
    """A reply of this turn has been played: these messages of the graph's."""
    began, ended = item.metrics.get("started_speaking_at"), item.metrics.get("stopped_speaking_at")
    if began is None or "tts_node_ttfb" not in item.metrics:
        return  # a call in text, which LiveKit takes for spoken as soon as it is shown
    found = next((f for f in map(turn.record.spoken, message_ids) if f is not None), None)
    turn.measured(
        time_to_first_audio=began - turn.created_at,
        response_delay=item.metrics.get("e2e_latency"),
    )
    if found is not None:
        turn.timings.sound(found[0].agent, began, ended if ended is not None else began)
