"""Calls that LiveKit answers itself, so that no mirror starts for them: those of unknown tools, and mocked ones."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graph_voice_livekit.session.turns import MirroredBatch, TurnDriver

__all__ = ["answer_tool_calls_not_run"]


def answer_tool_calls_not_run(driver: "TurnDriver", batch: "MirroredBatch") -> None:
    """Tell the graph of such calls while other calls of the batch, through their mirrors, wait for all of it.

    LiveKit reports its answers with `function_tools_executed`, when the whole batch is over: for a batch that has
    both kinds of calls that would be never. Its output is among the speech's items before that: for an unknown tool
    before any mirror starts (the calls of a batch reach it in one piece), for a mock when it has ended.
    """
    others = [call_id for call_id in batch.calls if call_id not in batch.started]
    if batch.speech is None or batch.done.is_set() or not others:
        return
    outputs = {item.call_id: item for item in batch.speech.chat_items if item.type == "function_call_output"}
    for call_id in others:
        if (output := outputs.get(call_id)) is not None:
            driver.turn.resolve(call_id, output.output, is_error=output.is_error)
