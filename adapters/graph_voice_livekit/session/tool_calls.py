"""The tool calls of one call, between LiveKit that executes them and the graph that runs the tools."""

import asyncio
from typing import Any

from livekit.agents import RunContext, ToolError
from livekit.agents.llm import ToolResult
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.events import FunctionToolsExecutedEvent, ToolExecutionUpdatedEvent

from graph_voice.messages.pairs import RUNNING
from graph_voice_livekit.session.handoffs import Handoffs
from graph_voice_livekit.session.tools import answer_tool_calls_not_run
from graph_voice_livekit.session.turns import NO_HANDOFF, Tables

__all__ = ["ToolCalls"]


class ToolCalls:
    """Permits a tool call when LiveKit starts its mirror, and gives LiveKit the graph's result.

    Args:
        tables: of the call.
        handoffs: what carries out those that tools ask for.
    """

    def __init__(self, tables: Tables, handoffs: Handoffs) -> None:
        self._tables = tables
        self._handoffs = handoffs

    async def execute(self, context: RunContext[Any]) -> Any:
        """The body of every mirror: permit the tool call, wait for the graph's result, return what LiveKit expects."""
        call_id = context.function_call.call_id
        driver = self._tables.tool_calls.get(call_id)
        batch = driver.batch_of(call_id) if driver is not None else None
        if driver is None or batch is None:
            raise ToolError("not done: this tool call belongs to a turn that is over.")
        batch.started.add(call_id)
        driver.mirror_started(context)
        try:
            driver.turn.commit_reply()  # LiveKit adds the caller's message, if there is one, before it starts a tool
            driver.turn.allow(call_id, host=context)
            batch.speech = context.speech_handle
            answer_tool_calls_not_run(driver.turn, batch)
            await self._wait(context.speech_handle, batch.done.wait())
            if not batch.done.is_set():
                # Barge-in: LiveKit answers the caller at once, and the graph keeps the tool's real result.
                batch.unanswered[call_id] = None
                return ToolResult(RUNNING, reply_required=False)
            for line in batch.lines:
                await self._wait(context.speech_handle, line.wait_for_playout())
        finally:
            driver.mirror_ended(context)
        if (result := batch.results.get(call_id)) is None:
            batch.unanswered[call_id] = None
            return ToolResult(RUNNING, reply_required=batch.asks)
        if batch.handoff is not None and context.speech_handle.interrupted:
            if batch.handoff.call_id == call_id:
                if batch.handoff.on_interruption == "cancel":
                    raise ToolError(NO_HANDOFF)
                self._handoffs.complete(driver, batch.handoff)
            return ToolResult(result.output, reply_required=False)
        if batch.handoff is None:
            if result.is_error:
                raise ToolError(result.output)
            return ToolResult(result.output, reply_required=batch.wants_reply(driver.said(batch)))
        # The next agent speaks, so LiveKit needs no reply to this batch.
        answer = ToolResult(result.output, reply_required=False)
        if batch.handoff.call_id != call_id:
            return answer
        return await self._handoffs.next_agent(driver, batch.handoff), answer

    async def _wait(self, speech: SpeechHandle, what: Any) -> None:
        waiting = asyncio.ensure_future(what)
        try:
            await speech.wait_if_not_interrupted([waiting])
        finally:
            if not waiting.done():
                waiting.cancel()

    def updated(self, event: ToolExecutionUpdatedEvent) -> None:
        """LiveKit's `tool_execution_updated`."""
        if event.update.type != "tool_call_ended":
            return
        driver = self._tables.tool_calls.get(event.update.call_id)
        if driver is not None and (batch := driver.batch_of(event.update.call_id)) is not None:
            answer_tool_calls_not_run(driver.turn, batch)

    def executed(self, event: FunctionToolsExecutedEvent) -> None:
        """LiveKit's `function_tools_executed`: a batch is over, and these are its answers in LiveKit's history."""
        for tool_call, output in zip(event.function_calls, event.function_call_outputs, strict=True):
            driver = self._tables.tool_calls.pop(tool_call.call_id, None)
            batch = driver.batch_of(tool_call.call_id) if driver is not None else None
            if driver is None or batch is None:
                continue
            if tool_call.call_id not in batch.started:
                # A mock ran in place of the mirror, or LiveKit answered the tool call itself.
                text = output.output if output is not None else ""
                driver.turn.resolve(tool_call.call_id, text, is_error=output is not None and output.is_error)
            elif tool_call.call_id in batch.unanswered:
                batch.unanswered[tool_call.call_id] = output
                batch.late_result(tool_call.call_id)
                if batch.asks and output is not None:
                    self._tables.asking[tool_call.call_id] = output
            elif batch.handoff is not None and batch.handoff.call_id == tool_call.call_id and output is not None:
                if output.is_error and batch.handoff.on_interruption == "complete":
                    # Interrupted after the mirror had returned the next agent: LiveKit has canceled the handoff.
                    output.output, output.is_error = batch.results[tool_call.call_id].output, False
                    self._handoffs.complete(driver, batch.handoff)
                elif output.is_error:
                    driver.turn.reject_handoff(tool_call.call_id, output.output)
                    # A tool that acted keeps its own words, in LiveKit's history as in the graph's.
                    if (found := driver.turn.record.call(tool_call.call_id)) is not None and found[
                        1
                    ].result is not None:
                        output.output, output.is_error = found[1].result.text, found[1].result.status == "error"
                    driver.cancel_entry()
                    driver.maybe_close()
                else:
                    driver.entry_is_certain = True
