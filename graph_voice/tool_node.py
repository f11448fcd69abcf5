"""The tool node of an agent: a batch of calls, one winning handoff, every call answered."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import ValidationError

from graph_voice.agent_node import STOPPED
from graph_voice.agent_runtime import AgentRuntime, hops
from graph_voice.chat_context import carry, earlier_context, resolve, view
from graph_voice.errors import HandoffError
from graph_voice.handoff import Handoff, TransferTool, handoff_record
from graph_voice.run_context import RunContext, new_id, running
from graph_voice.speech import INVALID
from graph_voice.tools import FunctionTool, StopResponse, ToolError
from graph_voice.turn import Turn, answer, current_turn
from graph_voice.userdata import WorkingCopy, explain

__all__ = ["ToolsNode"]

logger = logging.getLogger("graph_voice")
MAX_OUTPUT = 100_000
"""Characters of a tool's output that the model is told; more is cut, with a note."""


@dataclass
class _Outcome:
    """What became of one call."""

    message: ToolMessage
    request: Handoff | None = None
    context: RunContext[Any] | None = None
    updates: list[dict[str, Any]] = field(default_factory=list)
    direct: bool = False


@dataclass
class _Batch:
    """What the calls of one message share."""

    state: dict[str, Any]
    config: RunnableConfig
    runtime: Runtime[Any]
    turn: Turn | None
    asking: AIMessage
    work: WorkingCopy


class ToolsNode:
    """Runs the calls of the last assistant message, in parallel, on one working copy of the userdata."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.agent = runtime.agent
        self._tools = {tool.name: tool for tool in self.agent.all_tools}
        self._node = ToolNode(self.agent.own_tools, handle_tool_errors=False)

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> list[Command[Any]]:
        """The node: updates of the state."""
        asking = state["messages"][-1]
        assert isinstance(asking, AIMessage)
        batch = _Batch(state, config, runtime, current_turn.get(), asking, WorkingCopy(state.get("userdata")))
        tasks = [
            asyncio.create_task(self._answer(call, batch), name=f"graph_voice.tool.{call['name']}")
            for call in asking.tool_calls
        ]
        try:
            done = await asyncio.gather(*tasks, return_exceptions=True)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        for failure in done:
            if isinstance(failure, BaseException):
                raise failure  # LangGraph's control exceptions; all others have become answers
        outcomes = [outcome for outcome in done if isinstance(outcome, _Outcome)]
        winner = self._choose(outcomes, batch)
        return await self._finish(outcomes, winner, batch)

    def route(self, state: dict[str, Any]) -> str:
        """Where the graph goes from here: to the target of a handoff, or back to the agent."""
        for message in reversed(state["messages"]):
            if not isinstance(message, ToolMessage):
                break
            if isinstance(message.artifact, dict) and (to := message.artifact.get("goto")):
                return str(to)
        return self.agent.name

    # ---- one call

    async def _answer(self, call: ToolCall, batch: _Batch) -> _Outcome:
        assert call["id"] is not None
        outcome = await self._outcome(call, call["id"], batch)
        if outcome.request is None and batch.turn is not None:
            batch.turn.result(self.agent.name, outcome.message)
        return outcome

    async def _outcome(self, call: ToolCall, call_id: str, batch: _Batch) -> _Outcome:
        name, turn = call["name"], batch.turn
        host = None
        if turn is not None:
            permission = await turn.permission(call_id)
            if not permission.run:
                return _Outcome(answer(call_id, name, permission.output, is_error=permission.is_error))
            host = permission.host
        if (broken := batch.asking.additional_kwargs.get(INVALID, {}).get(call_id)) is not None:
            return _Outcome(answer(call_id, name, f"The arguments are not valid JSON: {broken[:200]}", is_error=True))
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return _Outcome(answer(call_id, name, f"Unknown tool {name}. Available tools: {known}.", is_error=True))
        if isinstance(tool, TransferTool):
            return _Outcome(answer(call_id, name, tool.handoff.answer), request=tool.handoff)
        return await self._run(call, call_id, tool, batch, host)

    async def _run(self, call: ToolCall, call_id: str, tool: Any, batch: _Batch, host: Any) -> _Outcome:
        ctx = self.runtime.context(
            batch.state,
            batch.config,
            batch.runtime,
            batch.turn,
            userdata=batch.work.value,
            tool_call_id=call_id,
            step_id=batch.asking.id,
            host=host,
        )
        token = running.set(ctx)
        timeout = tool.timeout if isinstance(tool, FunctionTool) else None
        held = batch.turn is not None
        try:
            async with asyncio.timeout(timeout):
                raw = await self._node.ainvoke([{**call, "type": "tool_call"}], batch.config)
            outcome = self._read(raw, call_id, call["name"], tool, ctx)
        except GraphBubbleUp:
            raise
        except StopResponse:
            message = answer(call_id, call["name"], "")
            outcome = _Outcome(message.model_copy(update={"additional_kwargs": {STOPPED: True}}))
        except Exception as error:
            outcome = _Outcome(answer(call_id, call["name"], _told(error, call["name"], timeout), is_error=True))
        finally:
            running.reset(token)
            if held and ctx.held and batch.turn is not None:
                batch.turn.release()
        if (wrong := batch.work.undo_invalid()) is not None:
            outcome = _Outcome(answer(call_id, call["name"], f"Not stored, invalid: {wrong}", is_error=True))
        outcome.context = ctx
        return outcome

    def _read(self, raw: Any, call_id: str, name: str, tool: Any, ctx: RunContext[Any]) -> _Outcome:
        """What LangGraph's ToolNode gave for one call: a message, and whatever a `Command` updates beside it."""
        message: ToolMessage | None = None
        updates: list[dict[str, Any]] = []
        request = ctx.requested
        for part in raw if isinstance(raw, list) else [raw]:
            values = part.update if isinstance(part, Command) else part
            if isinstance(part, Command):
                if part.graph is not None:
                    raise ToolException(
                        "the tool returned Command(graph=PARENT), which has no meaning in a voice graph: return "
                        'ctx.handoff("<agent>") or Command(goto="<agent>")'
                    )
                request = self._goto(part, ctx) or request
            values = dict(values or {})
            for found in values.pop("messages", ()):
                if isinstance(found, ToolMessage) and found.tool_call_id == call_id:
                    message = found
                else:
                    updates.append({"messages": [found]})
            if values:
                updates.append(values)
        if message is None:
            message = answer(call_id, name, "")
        message = message.model_copy(update={"id": f"result-{call_id}", "name": name})
        if len(message.text) > MAX_OUTPUT:
            note = f"\n[cut: {len(message.text)} characters, the first {MAX_OUTPUT} are shown]"
            message = message.model_copy(update={"content": message.text[:MAX_OUTPUT] + note})
        return _Outcome(message, request, updates=updates, direct=bool(tool.return_direct))

    def _goto(self, command: Command[Any], ctx: RunContext[Any]) -> Handoff | None:
        if not command.goto:
            return None
        if not isinstance(command.goto, str):
            raise ToolException("Command(goto=...) in a tool names one target.")
        return ctx.handoff(command.goto)

    # ---- the batch

    def _choose(self, outcomes: list[_Outcome], batch: _Batch) -> _Outcome | None:
        """The first handoff, in the calls' order, wins; each other one is told that it did not happen."""
        interrupted = batch.turn is not None and batch.turn.interrupted
        full = hops(batch.state["messages"]) >= self.runtime.settings.max_hops
        winner: _Outcome | None = None
        for outcome in outcomes:
            if outcome.request is None:
                continue
            if interrupted:
                reason = "not done: the caller interrupted before the transfer."
            elif full:
                reason = "not done: the caller was transferred too often in this turn. Answer the caller yourself."
            elif winner is not None and winner.request is not None:
                reason = f"not done: the caller is being transferred to {winner.request.to}."
            else:
                winner = outcome
                continue
            outcome.request = None
            outcome.message = outcome.message.model_copy(update={"content": reason, "status": "error"})
            if batch.turn is not None:
                batch.turn.result(self.agent.name, outcome.message)
        return winner

    async def _finish(self, outcomes: list[_Outcome], winner: _Outcome | None, batch: _Batch) -> list[Command[Any]]:
        turn = batch.turn
        control: dict[str, Any] = {}
        spoken = [line for o in outcomes if o.context is not None for line in o.context.spoken]
        if winner is not None:
            control = await self._hand_off(winner, outcomes, spoken, batch)
        update: dict[str, Any] = {}
        if spoken:
            update["messages"] = [_with_lines(batch.asking, spoken)]
        update["messages"] = [*update.get("messages", ()), *(o.message for o in outcomes)]
        direct = next((o for o in outcomes if o.direct), None)
        if direct is not None and winner is None:
            update["messages"] += self._say_directly(direct, turn)
        if changes := batch.work.changes():
            update["userdata"] = changes
        if turn is not None and any(o.context is not None and o.context.ending for o in outcomes):
            turn.call_ends = True
        # The handoff is an update of its own: it is taken back as one when the front end says it did not happen.
        updates = [*(u for o in outcomes for u in o.updates), update, *([control] if control else [])]
        return [Command(update=u) for u in updates]

    async def _hand_off(
        self, winner: _Outcome, outcomes: list[_Outcome], spoken: list[AIMessage], batch: _Batch
    ) -> dict[str, Any]:
        assert winner.request is not None
        request, turn, call_id = winner.request, batch.turn, winner.message.tool_call_id
        if request.say is not None:
            message_id = new_id("say")
            text = await self.runtime.speak(
                request.say,
                batch.state,
                batch.config,
                turn,
                userdata=batch.work.value,
                message_id=message_id,
                step_id=batch.asking.id,
            )
            spoken.append(AIMessage(text, id=message_id, name=self.agent.name))
        if request.to not in self.runtime.settings.agents:
            winner.message = winner.message.model_copy(update={"artifact": {"goto": request.to}})
            if turn is not None:
                turn.result(self.agent.name, winner.message)
            return {}
        record = handoff_record(self.agent.name, request.to, call_id)
        winner.message = winner.message.model_copy(update={"artifact": {**record, "goto": request.to}})
        if turn is not None:
            turn.result(self.agent.name, winner.message)
            turn.handed_off(call_id, self.agent.name, request.to)
        if self.agent.on_exit is not None:
            # on_exit may act, so it waits until the floor has really changed.
            if turn is not None and not await turn.wait_decided(call_id):
                return {}
            ctx = self.runtime.context(batch.state, batch.config, batch.runtime, turn, userdata=batch.work.value)
            await self.runtime.run_hook(self.agent.on_exit, ctx)
            batch.work.undo_invalid()
        messages: list[AnyMessage] = [*batch.state["messages"], *(o.message for o in outcomes)]
        after: Mapping[str, Any] = {**batch.state, "messages": messages, "userdata": batch.work.value}
        shown = await resolve(
            after,
            model=self.runtime.model(batch.config),
            operation=request.history,
            earlier=earlier_context(after, request.to),
        )
        return {
            "active_agent": request.to,
            "handoffs": [record],
            "chat_ctx": {**(shown or {}), "entering": True},
            "contexts": {self.agent.name: carry(view(after), messages)},
        }

    def _say_directly(self, outcome: _Outcome, turn: Turn | None) -> list[AnyMessage]:
        """LangChain's `return_direct`: the tool's output is the answer."""
        message_id = new_id("direct")
        if turn is not None:
            turn.line(self.agent.name, message_id, outcome.message.text)
        return [AIMessage(outcome.message.text, id=message_id, name=self.agent.name)]


def _with_lines(asking: AIMessage, spoken: Sequence[AIMessage]) -> AIMessage:
    """The asking message with what its tools said: one assistant message, since a prompt may not end with one."""
    text = " ".join(t for t in (asking.text, *(s.text for s in spoken)) if t)
    return asking.model_copy(update={"content": text})


def _told(error: Exception, name: str, timeout: float | None) -> str:
    """What the model learns of a failure. Only messages meant for it; a stranger's exception may hold anything."""
    if isinstance(error, ToolError):
        return error.message
    if isinstance(error, TimeoutError) and timeout is not None:
        return f"The tool did not answer within {timeout:g} seconds."
    if isinstance(error, ValidationError):
        return f"Not stored, invalid: {explain(error)}"
    if isinstance(error, HandoffError | ToolException):
        logger.error("tool %s: %s", name, error)
        return str(error)
    logger.error("tool %s failed", name, exc_info=error)
    return "An internal error occurred."
