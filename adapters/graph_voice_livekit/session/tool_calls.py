"""The tool calls of one call, between LiveKit that executes them and the graph that runs the tools."""

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_core.messages import ToolMessage
from livekit.agents import RunContext, ToolError, llm
from livekit.agents.llm import ToolResult
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.events import (
    FunctionToolsExecutedEvent,
    ToolCallEnded,
    ToolCallStarted,
    ToolCallUpdated,
    ToolExecutionUpdatedEvent,
)

from graph_voice import events
from graph_voice.errors import TurnError
from graph_voice.messages.pairs import RUNNING
from graph_voice_livekit.session.handoff import NO_HANDOFF, LiveHandoff
from graph_voice_livekit.session.handoffs import Handoffs
from graph_voice_livekit.session.live_tasks import LiveTasks
from graph_voice_livekit.session.tables import Tables
from graph_voice_livekit.session.tool_call import Batch, LiveToolCall

__all__ = ["ToolCalls"]


class HostContext(RunContext[Any]):
    """LiveKit's context of a tool call, as a tool of the graph sees it (`ctx.host`)."""

    def __init__(self, context: RunContext[Any]) -> None:
        super().__init__(
            session=context.session, speech_handle=context.speech_handle, function_call=context.function_call
        )

    async def update(self, message: Any, **options: Any) -> None:
        """Refused: LiveKit would answer the tool call, which the graph still runs. Raises `TurnError`."""
        del options
        raise TurnError(
            f"{self.function_call.name}: ctx.host.update({message!r:.60}) is for LiveKit's own tools, and the graph "
            "would not know of it. Write await ctx.update(...), without `host`."
        )


class ToolCalls:
    """Permits a tool call when LiveKit starts its mirror, and gives LiveKit the graph's result.

    Args:
        tables: of the call.
        handoffs: what carries out those that tools ask for.
        tasks: those that LiveKit's own tasks carry out.
        runs_itself: whether an agent's tool of this name is LiveKit's own.
    """

    def __init__(
        self, tables: Tables, handoffs: Handoffs, tasks: LiveTasks, runs_itself: Callable[[str, str], bool]
    ) -> None:
        self._tasks = tasks
        self._runs_itself = runs_itself
        self._tables = tables
        self._handoffs = handoffs

    async def execute(self, context: RunContext[Any]) -> Any:
        """The body of every mirror: permit the tool call, wait for the graph's result, return what LiveKit expects."""
        call = self._tables.tool_calls.get(context.function_call.call_id)
        if call is None or call.batch is None:
            raise ToolError("not done: this tool call belongs to a turn that is over.")
        turn = call.batch.driver.turn
        call.started = True
        turn.commit(said=False)  # LiveKit adds the caller's message, if there is one, before a tool starts
        turn.allow(call.id, host=HostContext(context))
        answer = await self._result(call, call.batch, context)
        while isinstance(answer, LiveHandoff):  # to a task
            await self._handoffs.leaving()
            end = await self._tasks.run(answer, call, context)
            if end is None:
                return self._abandoned(call)
            self._handoffs.returned(end)
            answer = await self._result(call, call.batch, context)
        if call.batch.ends_turn:
            await self._tasks.tell_result(turn)
        return answer

    async def _result(self, call: LiveToolCall, batch: Batch, context: RunContext[Any]) -> Any:
        """Wait for the graph's result. Returns what the mirror does, or the handoff to a task that it wants first."""
        speech, driver = context.speech_handle, batch.driver
        driver.mirror_started(context)
        try:
            batch.speech = speech
            batch.resolve_not_run()
            await self._wait(speech, batch.done.wait())
            if not batch.done.is_set():
                # Barge-in: LiveKit answers the caller at once, and the graph keeps the tool's real result.
                call.released = True
                return ToolResult(RUNNING, reply_required=False)
            for line in batch.lines:
                await self._wait(speech, line.wait_for_playout())
        finally:
            driver.mirror_ended(context)
        if call.result is None:
            call.released = True
            return ToolResult(RUNNING, reply_required=batch.asks)
        if batch.handoff is not None and batch.handoff.event.task is not None:
            await self._wait(speech, context.wait_for_playout())  # else LiveKit's own task would not let them be cut
        return await self._answer(call, call.result, batch, interrupted=speech.interrupted)

    async def _answer(self, call: LiveToolCall, result: events.ToolResult, batch: Batch, *, interrupted: bool) -> Any:
        """What the mirror returns: the result, and the next agent if this tool call hands off."""
        handoff = batch.handoff
        if handoff is None:
            if result.is_error:
                raise ToolError(result.output)
            return ToolResult(result.output, reply_required=batch.wants_reply)
        # The next agent speaks, so LiveKit needs no reply to this batch.
        answer = ToolResult(result.output, reply_required=False)
        if handoff.event.call_id != call.id:
            return answer
        if not interrupted:
            if self._tasks.takes(handoff, batch):
                return handoff
            if self._tasks.give_back(handoff):
                return answer
            return await self._handoffs.next_agent(handoff), answer
        if not handoff.completes:
            raise ToolError(NO_HANDOFF)
        self._handoffs.complete(handoff)
        return answer

    def _abandoned(self, call: LiveToolCall) -> Any:
        """What the mirror returns when the task has not given the floor back: the graph's answer, now or later."""
        if call.result is None or call.result.waits:
            call.released = True
            if call.batch is not None:
                call.batch.asks = True
                call.batch.done.set()
            return ToolResult(RUNNING, reply_required=False)
        return ToolResult(call.result.output, reply_required=False)

    async def _wait(self, speech: SpeechHandle, what: Any) -> None:
        waiting = asyncio.ensure_future(what)
        try:
            await speech.wait_if_not_interrupted([waiting])
        finally:
            if not waiting.done():
                waiting.cancel()

    def answered_outside(self, told: ToolMessage) -> None:
        """A tool call that has waited for a task has its result, in no turn: the task was abandoned."""
        if (call := self._tables.tool_calls.get(told.tool_call_id)) is not None:
            is_error = told.status == "error"
            call.answer(events.ToolResult("", call.id, told.name or "", told.text, is_error))

    def updated(self, event: ToolExecutionUpdatedEvent) -> None:
        """LiveKit's `tool_execution_updated`."""
        match event.update:
            case ToolCallStarted(function_call=made):
                self._begin(made)
            case ToolCallUpdated(call_id=call_id) | ToolCallEnded(call_id=call_id):
                call = self._tables.tool_calls.get(call_id)
                if call is not None and call.batch is not None:
                    call.batch.resolve_not_run()

    def _begin(self, made: llm.FunctionCall) -> None:
        """LiveKit starts a tool. If it is its own, the graph waits for its result, also behind a barge-in."""
        call = self._tables.tool_calls.get(made.call_id)
        if call is not None and call.batch is not None and self._runs_itself(call.batch.agent, made.name):
            call.is_livekits = True
            call.batch.driver.turn.commit(said=False)  # as for a mirror
            call.batch.driver.turn.begin(call.id)

    def executed(self, event: FunctionToolsExecutedEvent) -> None:
        """LiveKit's `function_tools_executed`: a batch is over, and these are its answers in LiveKit's history."""
        for tool_call, output in zip(event.function_calls, event.function_call_outputs, strict=True):
            call = self._tables.tool_calls.get(tool_call.call_id)
            if call is None or call.batch is None:
                continue
            self._executed(call, call.batch, output)
            if not call.asks:
                del self._tables.tool_calls[call.id]

    def _executed(self, call: LiveToolCall, batch: Batch, output: llm.FunctionCallOutput | None) -> None:
        turn, handoff = batch.driver.turn, batch.handoff
        if not call.started:
            # LiveKit's own tool, or a mock, ran in place of a mirror, or LiveKit answered the tool call itself.
            text = output.output if output is not None else ""
            reply = output is not None and output.reply_required
            turn.resolve(call.id, text, is_error=output is not None and output.is_error, reply=reply)
        elif call.released:
            call.answered(output)
        elif handoff is not None and handoff.event.call_id == call.id and output is not None:
            call.item, handoff.tell = output, call.tell_rejected
            if handoff.told is not None:
                call.tell_rejected(handoff.told)  # the program moved the floor while the task gave it back
            elif not output.is_error:
                handoff.becomes_certain()
            elif handoff.completes:
                # Interrupted after the mirror had returned the next agent: LiveKit has canceled the handoff.
                output.output, output.is_error = call.result.output if call.result is not None else "", False
                self._handoffs.complete(handoff)
            else:
                # A tool that acted keeps its own words, in LiveKit's history as in the graph's.
                call.tell_rejected(handoff.reject(output.output))
            if call.has_waited and output is not None and not output.is_error:
                call.answered(output)  # an abandoned task has given it its result meanwhile
        elif call.has_waited:
            call.answered(output)
            if (found := turn.record.call(call.id)) is not None:
                call.tell_rejected(found[1].result)  # the task before it has not begun, so its own does not either
