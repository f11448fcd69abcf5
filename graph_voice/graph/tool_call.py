"""One tool call of a batch: run it through LangGraph's `ToolNode`, and return its outcome."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, TypeGuard

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from langgraph.errors import GraphBubbleUp, GraphInterrupt, is_invalid_resume
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from graph_voice.agents.approval import Declined, approval_of, asked_arguments, require_approval
from graph_voice.agents.duplicates import CONFIRM, duplicate_key, told_of_duplicate
from graph_voice.agents.handoff import Handoff, TransferTool, Utterance
from graph_voice.agents.livekit_names import awaited_task, is_livekit
from graph_voice.agents.replay import TaskWanted
from graph_voice.agents.run_context import RunContext, running
from graph_voice.agents.slow_tool import SlowTool, slow_tool
from graph_voice.agents.tool_errors import StopResponse, ToolError
from graph_voice.agents.tools import FunctionTool, takes_state
from graph_voice.agents.yes_no import READING, Answer, read_answer
from graph_voice.errors import GraphVoiceError, UserdataError
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.generate import TOO_DEEP, usage_of
from graph_voice.graph.stream_writer import with_writer
from graph_voice.graph.tool_batch import Outcome, ToolBatch
from graph_voice.messages.pairs import ACTED, NO_REPLY, approved_call, placeholder
from graph_voice.secrets.arguments import INVALID, lost_arguments
from graph_voice.secrets.known import known_here
from graph_voice.secrets.values import MASK, revealed_in
from graph_voice.turn.answer import answer
from graph_voice.turn.nodes_side import NodesSide, current_turn
from graph_voice.turn.running_tools import RunningTool, RunningTools
from graph_voice.turn.tool_run import ToolRun
from graph_voice.userdata.channel import explain
from graph_voice.userdata.working_copy import Assignments

__all__ = ["ToolRunner"]

logger = logging.getLogger("graph_voice")
_KEPT = 1000
MAX_OUTPUT = 100_000
"""How many characters of a tool's output the model is shown. The rest is cut, with a note."""


class ToolRunner:
    """Runs the tool calls of one agent."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.agent = runtime.agent
        self._slow = {tool.name: slow_tool(tool) for tool in self.agent.own_tools}
        self._sees_state = {tool.name for tool in self.agent.own_tools if takes_state(tool)}
        self._node = self._node_of(self.agent.own_tools)
        self._nodes: dict[int, tuple[BaseTool, ToolNode]] = {}
        """The tools of toolsets that were called, with a node for each. Kept, for the sake of the id."""

    def _node_of(self, tools: Sequence[BaseTool]) -> ToolNode:
        return ToolNode(tools, handle_tool_errors=False, awrap_tool_call=self._with_userdata)

    def _node_for(self, tool: BaseTool) -> ToolNode:
        """LangGraph's node that runs this tool. Notes what the tool declares, if it is a toolset's."""
        if self._node.tools_by_name.get(tool.name) is tool or not self.agent.toolsets:
            return self._node
        if (found := self._nodes.get(id(tool))) is None:
            if len(self._nodes) >= _KEPT:
                self._nodes.clear()
            found = self._nodes[id(tool)] = (tool, self._node_of([tool]))
        self._slow[tool.name] = slow_tool(tool)
        (self._sees_state.add if takes_state(tool) else self._sees_state.discard)(tool.name)
        return found[1]

    async def run(self, call: ToolCall, call_id: str, batch: ToolBatch, *, earlier: Mapping[str, Any]) -> Outcome:
        """Run one tool call, from the front end's permission to its result.

        Args:
            call: the tool call.
            call_id: its id.
            batch: what it shares with the others.
            earlier: what its placeholder knows of an earlier run, up to its question or its task: what it has said,
                which a tool that runs again does not repeat, and whether the caller has approved it.

        Raises LangGraph's control exceptions, except `GraphInterrupt`, which is an outcome.
        """
        name, turn = call["name"], batch.turn
        host = None
        if turn is not None and call_id not in batch.waited:
            permission = await turn.permission(call_id)
            if not permission.run:
                given = answer(call_id, name, permission.output, is_error=permission.is_error)
                return Outcome(given if permission.reply else _marked(given, "none"))
            host = permission.host
        if name in self.runtime.secret_schemas:
            batch.redact_taken(call["args"])
        if (broken := batch.asking.additional_kwargs.get(INVALID, {}).get(call_id)) is not None:
            why = "The arguments are refused:" if broken == TOO_DEEP else "The arguments are not valid JSON:"
            return Outcome(answer(call_id, name, f"{why} {broken[:200]}", is_error=True))
        if (schema := self.runtime.secret_schemas.get(name)) and (lost := lost_arguments(call["args"], schema)):
            told = f"{', '.join(lost)} is secret and was not stored: ask the caller for it again, then call {name}."
            return Outcome(answer(call_id, name, told, is_error=True))
        if self.runtime.secret_schemas and (lost := _masked_names(call["args"])):
            told = f"{', '.join(lost)} is redacted here: write it as the caller said it, or ask for it again."
            return Outcome(answer(call_id, name, told, is_error=True))
        tool = await self.runtime.tools.find(name)
        if tool is None:
            known = ", ".join(tool.name for tool in self.runtime.tools.now()) or "none"
            return Outcome(answer(call_id, name, f"Unknown tool {name}. Available tools: {known}.", is_error=True))
        if isinstance(tool, TransferTool):
            return _transferred(tool, call, call_id)
        node = self._node_for(tool)
        if turn is not None:
            # The tool call is durable before the tool acts: after a crash it is known that the tool may have acted.
            await turn.call.stored()
        try:
            userdata = batch.work.value if name in self._sees_state else batch.work.current
        except UserdataError as error:
            return Outcome(answer(call_id, name, _told(error, tool, None), is_error=True))
        ctx = self.runtime.context(
            batch.state,
            batch.config,
            batch.runtime,
            turn,
            userdata=userdata,
            tool_call_id=call_id,
            step_id=batch.asking.id,
            host=host,
            shown=batch.shown,
            draft=batch.draft,
            tasks=True,
        )
        ctx.already_said = list(earlier.get("said", ()))
        ctx.running_tools = others = turn.call.running_tools if turn is not None else batch.running
        ctx.approved = bool(earlier.get("approved"))
        ctx.note = functools.partial(_note_approval, call_id, name, earlier, turn)
        ctx.read_answer = functools.partial(self._read_answer, batch.config, turn)
        ctx.speak = _in_place_of_filler(ctx.speak, batch, call_id)
        ctx.updates_before, ctx.tell = earlier.get("updates", 0), functools.partial(self._tell, call, call_id, batch)
        with self._watched(call, call_id, turn, userdata) as run:
            run.asked_for = ctx.replay.asked if ctx.replay is not None else []
            async with batch.updates.of(call_id):
                outcome = await self._run_among(others, call, call_id, tool, node, batch, ctx)
            run.outcome = _how(outcome)
        asks = outcome.asked is not None or outcome.wants is not None
        if name in self._sees_state and not asks and (wrong := batch.work.undo_invalid()) is not None:
            outcome = Outcome(answer(call_id, name, f"Not stored, invalid: {wrong}", is_error=True))
        secrets = batch.known
        outcome.message, outcome.additions = secrets.message(outcome.message), secrets.value(outcome.additions)
        outcome.spoken, outcome.ending = secrets.value(ctx.spoken), ctx.ending
        outcome.said = [*earlier.get("said", ()), *(line.text for line in outcome.spoken)]
        outcome.approved, outcome.told = ctx.approved, max(len(ctx.updates), ctx.updates_before)
        outcome.progress = secrets.text(ctx.updates[-1]) if ctx.updates else ""
        return outcome

    async def _read_answer(self, config: RunnableConfig, turn: NodesSide | None, question: str, words: str) -> Answer:
        """What the caller's words answer, as the agent's model reads them. If the model fails: nothing."""
        asked = HumanMessage(f'The question: "{question}"\nThe answer: "{words}"')
        began = time.perf_counter()
        try:
            model = self.runtime.model(config)
            written = await model.ainvoke([SystemMessage(READING), asked], config)
        except Exception:
            logger.exception("agent %s: the model that reads the caller's answer failed", self.agent.name)
            return "other"
        if turn is not None and written.usage_metadata is not None:
            took = time.perf_counter() - began
            turn.emit(usage_of(self.agent.name, written, model, ttft=took, duration=took))
        return read_answer(written.text)

    @contextmanager
    def _watched(self, call: ToolCall, call_id: str, turn: NodesSide | None, userdata: Any) -> Iterator[ToolRun]:
        """Report to `on_tool` that the tool's code runs, and how it ended."""
        run = ToolRun(self.agent.name, call["name"], call_id, dict(call["args"]), userdata=userdata)
        watch = turn.call.on_tool if turn is not None else None
        if watch is not None:
            watch(run)
        try:
            yield run
        except BaseException:
            run.outcome = "cancelled"
            raise
        finally:
            if watch is not None:
                watch(run)

    def _tell(self, call: ToolCall, call_id: str, batch: ToolBatch, message: str, silent: bool) -> None:
        """A running tool tells how far it is (`ctx.update`)."""
        told = batch.known.text(message)
        if batch.turn is not None:
            waits = next((m for m in batch.state["messages"] if _answers(m, call_id)), None)
            batch.turn.updated(self.agent.name, call, told, silent=silent, waits=waits)
        if not silent:
            batch.filler.start_again()
            batch.updates.tell(call_id, told)

    def slow(self, name: str) -> SlowTool | None:
        """What one of the agent's own tools declares for when it is slow."""
        return self._slow.get(name)

    async def _run_among(
        self,
        others: RunningTools,
        call: ToolCall,
        call_id: str,
        tool: BaseTool,
        node: ToolNode,
        batch: ToolBatch,
        ctx: RunContext[Any],
    ) -> Outcome:
        """Run one tool call among the others of the call: it may be a duplicate, and the model may cancel it."""
        if not isinstance(tool, FunctionTool) or (tool.on_duplicate == "allow" and not tool.cancellable):
            return await self._run_slowly(call, call_id, tool, node, batch, ctx)
        key: tuple[str, str | None] | None = None
        if tool.on_duplicate != "allow":
            key = duplicate_key(tool.name, call["args"], tool.duplicate_scope, tool.args_schema)
            if (refused := await _refused_duplicate(tool, call, call_id, others.like(key), others)) is not None:
                return refused
        task = asyncio.create_task(
            self._run_slowly(call, call_id, tool, node, batch, ctx), name=f"graph_voice.tool.{tool.name}"
        )
        others.begin(
            RunningTool(
                call_id,
                tool.name,
                call["args"],
                task,
                key,
                tool.cancellable,
                held=lambda: ctx.held,
                progress=lambda: batch.known.text(ctx.updates[-1]) if ctx.updates else "",
            )
        )
        try:
            return await task
        except asyncio.CancelledError as error:
            if _is_canceled(error):
                raise
            return Outcome(_marked(answer(call_id, tool.name, ""), "none"))
        finally:
            others.end(call_id)

    async def _run_slowly(
        self, call: ToolCall, call_id: str, tool: BaseTool, node: ToolNode, batch: ToolBatch, ctx: RunContext[Any]
    ) -> Outcome:
        """Run one tool call, with its filler if it has one."""
        slow = self._slow[tool.name]
        if slow.filler is None:
            return await self._run(call, call_id, tool, node, batch, ctx)
        earlier = sum(isinstance(m, ToolMessage) and m.name == tool.name for m in batch.state["messages"])

        def line() -> str:
            return slow.line(batch.work.current, earlier)

        async with batch.filler.while_running(line, slow.filler_after):
            return await self._run(call, call_id, tool, node, batch, ctx)

    async def _run(
        self, call: ToolCall, call_id: str, tool: BaseTool, node: ToolNode, batch: ToolBatch, ctx: RunContext[Any]
    ) -> Outcome:
        name = call["name"]
        timeout = tool.timeout if isinstance(tool, FunctionTool) else None
        clock = asyncio.timeout(timeout)
        assignments = Assignments()
        token, heard = running.set(ctx), known_here.set(batch.known)
        # What the tool's code starts (a task, a graph of its own, what LiveKit does for it) is not part of this turn.
        outside = current_turn.set(None)
        try:
            with batch.work.assigned_by(assignments):
                async with clock:
                    config = batch.config
                    if batch.turn is not None:
                        config = with_writer(config, lambda data: self._write(data, tool, batch))
                    await self._approve(tool, call)
                    raw = await node.ainvoke([{**self._given(call), "type": "tool_call"}], config)
                return self._read(raw, call_id, tool, ctx)
        except GraphInterrupt as asked:
            assignments.undo()
            asked.args = batch.known.value(asked.args)
            return Outcome(placeholder(call_id, name), asked=asked)
        except TaskWanted as wanted:
            assignments.undo()
            return Outcome(placeholder(call_id, name), wants=wanted)
        except GraphBubbleUp:
            raise
        except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:
            if _is_canceled(error):
                raise
            if is_invalid_resume(error):
                raise  # the run fails, but the question can be answered again
            error = batch.known.error(error)
            if isinstance(error, StopResponse) or is_livekit(error, "StopResponse"):
                return Outcome(_marked(answer(call_id, name, ""), "stopped"))
            if isinstance(error, Declined):
                return Outcome(answer(call_id, name, error.message), refused=True)
            if clock.expired():
                logger.error("tool %s did not answer within %s seconds", name, timeout)
                return Outcome(
                    answer(call_id, name, f"The tool did not answer within {timeout:g} seconds.", is_error=True)
                )
            told = _shown(answer(call_id, name, _told(error, tool, batch.work.current), is_error=True))
            return Outcome(told, refused=_has_refused(tool, error))
        finally:
            assignments.over = True
            current_turn.reset(outside)
            running.reset(token)
            known_here.reset(heard)
            ctx.over = True
            if ctx.held and batch.turn is not None:
                batch.turn.release()

    async def _approve(self, tool: BaseTool, call: ToolCall) -> None:
        """Ask the caller, if a LangChain tool declares that. One made of a function asks for itself."""
        if (question := approval_of(tool)) is None:
            return
        given = self._given(call)["args"]
        if isinstance(schema := tool.args_schema, type) and issubclass(schema, BaseModel):
            try:
                schema.model_validate(given)
            except ValidationError:
                return  # the tool will refuse them, so it can't run
        await require_approval(tool.name, question, asked_arguments(tool, given))

    def _write(self, data: Any, tool: BaseTool, batch: ToolBatch) -> None:
        """The tool has written this with `get_stream_writer()`."""
        if batch.turn is not None:
            batch.turn.custom(batch.known.value(data), agent=self.agent.name, node=batch.node, tool=tool.name)

    def _given(self, call: ToolCall) -> ToolCall:
        """The tool call as the tool gets it. The schema of one that takes secrets reveals them itself."""
        return call if call["name"] in self.runtime.secret_schemas else {**call, "args": revealed_in(call["args"])}

    async def _with_userdata(
        self, request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        """`ToolNode`'s wrapper of tool calls: a tool that takes the state finds the batch's own userdata in it."""
        ctx = RunContext.current()
        if request.tool_call["name"] not in self._sees_state:
            return await execute(request)
        state = {**request.runtime.state, "userdata": ctx.userdata}
        return await execute(replace(request, runtime=replace(request.runtime, state=state), state=state))

    def _read(self, raw: Any, call_id: str, tool: BaseTool, ctx: RunContext[Any]) -> Outcome:
        """Read what LangGraph's `ToolNode` returned for one tool call: a message, and updates by a `Command`."""
        outcome = Outcome(answer(call_id, tool.name, ""), request=ctx.requested, done=ctx.finished)
        for part in raw if isinstance(raw, list) else [raw]:
            if isinstance(part, Command):
                outcome.request = self._goto(part, ctx) or outcome.request
            values = dict((part.update if isinstance(part, Command) else part) or {})
            for found in values.pop("messages", ()):
                if isinstance(found, ToolMessage) and found.tool_call_id == call_id:
                    outcome.message = _shown(found.model_copy(update={"id": f"result-{call_id}", "name": tool.name}))
                else:
                    outcome.additions.append(found)
            if values:
                outcome.updates.append(values)
        if outcome.request is not None:
            own = outcome.request.result if outcome.message.text == outcome.request.answer else outcome.message.text
            outcome.message = _marked_as(outcome.message, ACTED, own or "")
        if outcome.done is not None:
            outcome.message = _marked_as(outcome.message, ACTED, "")
        if tool.return_direct and outcome.message.status != "error":
            outcome.message = _marked(outcome.message, "direct")
        elif ctx.returned_none and outcome.request is None:
            outcome.message = _marked(outcome.message, "none")
        return outcome

    def _goto(self, command: Command[Any], ctx: RunContext[Any]) -> Handoff | None:
        if command.graph is not None:
            raise ToolException(
                "The tool returned Command(graph=Command.PARENT), which has no meaning in a voice graph. Return "
                'ctx.handoff("<agent>") or Command(goto="<agent>") instead.'
            )
        targets = list(command.goto) if isinstance(command.goto, list | tuple) else [command.goto]
        if not targets:
            return None
        if len(targets) > 1 or not isinstance(targets[0], str):
            raise ToolException('Command(goto=...) in a tool names one target: Command(goto="<agent>").')
        return ctx.handoff(targets[0])


async def _note_approval(call_id: str, name: str, known: Mapping[str, Any], turn: NodesSide | None) -> None:
    """The caller has approved this tool call. It is durable before the tool acts: a crash does not ask again."""
    if turn is not None:
        turn.waits(approved_call(call_id, name, known))
        await turn.call.stored()


async def _refused_duplicate(
    tool: FunctionTool, call: ToolCall, call_id: str, running: Sequence[RunningTool], others: RunningTools
) -> Outcome | None:
    """The outcome of a tool call that does not run, since another one like it does. None: it runs."""
    if not running or (tool.on_duplicate == "confirm" and call["args"].get(CONFIRM)):
        return None
    if tool.on_duplicate != "replace":
        told = told_of_duplicate(tool.on_duplicate, tool.name, [other.dump() for other in running])
        return Outcome(answer(call_id, tool.name, told), refused=True)
    failed = [why for other in running if (why := await others.cancel(other.call_id)) is not None]
    if failed:
        told = f"Failed to cancel duplicate tool calls: {'; '.join(failed)}"
        return Outcome(answer(call_id, tool.name, told, is_error=True), refused=True)
    return None


def _transferred(tool: TransferTool, call: ToolCall, call_id: str) -> Outcome:
    """The outcome of a transfer: the handoff, with what the model has filled in."""
    try:
        request = tool.filled_in(call["args"])
    except ValidationError as error:
        told = f"The caller was not transferred, the arguments are invalid: {explain(error)}"
        return Outcome(answer(call_id, tool.name, told, is_error=True), refused=True)
    return Outcome(answer(call_id, tool.name, request.answer), request=request)


def _masked_names(args: Mapping[str, Any]) -> list[str]:
    """The arguments that are, or hold, nothing but a mask: a model has repeated what it was shown, or a store has kept
    no more."""

    def is_masked(value: Any) -> bool:
        if isinstance(value, dict | list):
            return any(map(is_masked, value.values() if isinstance(value, dict) else value))
        return type(value) is str and value == MASK

    return [name for name, value in args.items() if is_masked(value)]


def _how(outcome: Outcome) -> Literal["done", "failed", "asking", "refused"]:
    if outcome.asked is not None or outcome.wants is not None:
        return "asking"
    if outcome.refused:
        return "refused"
    return "failed" if outcome.message.status == "error" else "done"


def _in_place_of_filler(
    speak: Callable[[str, Utterance], Awaitable[str]] | None, batch: ToolBatch, call_id: str
) -> Callable[[str, Utterance], Awaitable[str]] | None:
    """Let a tool that speaks for itself have no filler, and what it says stand behind the words about its updates."""
    if speak is None:
        return None

    async def speak_instead(message_id: str, line: Utterance) -> str:
        batch.filler.stand_back()
        await batch.updates.worded(call_id)
        return await speak(message_id, line)

    return speak_instead


def _answers(message: AnyMessage, call_id: str) -> TypeGuard[ToolMessage]:
    return isinstance(message, ToolMessage) and message.tool_call_id == call_id


def _marked(message: ToolMessage, why: str) -> ToolMessage:
    return _marked_as(message, NO_REPLY, why)


def _marked_as(message: ToolMessage, mark: str, what: str) -> ToolMessage:
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, mark: what}})


def _shown(message: ToolMessage) -> ToolMessage:
    """The result as a model is shown it, cut to `MAX_OUTPUT` characters."""
    if len(message.text) > MAX_OUTPUT:
        note = f"\n[cut: {len(message.text)} characters, the first {MAX_OUTPUT} are shown]"
        message = message.model_copy(update={"content": message.text[:MAX_OUTPUT] + note})
    return message


def _is_canceled(error: BaseException) -> bool:
    """Whether this task is canceled. A tool may raise `CancelledError` by itself, as MCP's clients do when a server
    goes away: then it has failed, and nobody has canceled anything."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    return isinstance(error, BaseExceptionGroup) and error.subgroup((KeyboardInterrupt, SystemExit)) is not None


def _has_refused(tool: BaseTool, error: BaseException) -> bool:
    """Whether the tool's schema has refused the arguments. LangGraph takes every ValidationError for that, but the
    tool's code may have raised it."""
    if not isinstance(error, ToolInvocationError):
        return False
    return error.source.title == getattr(tool.get_input_schema(), "__name__", tool.name)


def _told(error: BaseException, tool: BaseTool, userdata: Any) -> str:
    """What the model is told of a failure: only text meant for it, since other exceptions may hold anything."""
    cause = error
    if isinstance(cause, ToolInvocationError):
        if _has_refused(tool, cause):
            return cause.message
        cause = cause.source
    if isinstance(cause, ToolError):
        return cause.message
    if is_livekit(cause, "ToolError"):
        return str(cause)
    if isinstance(cause, ValidationError) and cause.title == type(userdata).__name__:
        return f"Not stored, invalid: {explain(cause)}"
    if isinstance(cause, GraphVoiceError | ToolException):
        logger.error("tool %s: %s", tool.name, cause)
        return str(cause)
    if (why := awaited_task(cause)) is not None:
        logger.error("tool %s: %s", tool.name, why)
        return f"not done: {why}"
    logger.error("tool %s failed", tool.name, exc_info=cause)
    return "An internal error occurred."
