"""The nodes' side of a turn: what a graph run produces, and what it waits for."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langgraph.runtime import RunControl, Runtime, get_runtime

from graph_voice import events
from graph_voice.messages.pairs import NO_REPLY, placeholder, running
from graph_voice.turn.gate import ANSWERED, NOT_STARTED, AnsweredAlready, Permission
from graph_voice.turn.handoff import HandoffInProgress
from graph_voice.turn.owner import TurnOwner
from graph_voice.turn.record import Spoken, ToolCallRecord, TurnRecord, WithoutSecrets, Write
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.turn.run import NO_HANDOFF, TurnRun
from graph_voice.turn.state import TurnState
from graph_voice.turn.timings import Timings
from graph_voice.turn.tool_run import ToolRun

__all__ = ["NodesSide", "current_turn", "turn_of"]

logger = logging.getLogger("graph_voice")

current_turn: ContextVar["NodesSide | None"] = ContextVar("graph_voice_turn", default=None)
"""The turn in whose graph run this code runs: in its graph, or in one that its nodes run. `turn_of` tells them apart.
None in LangGraph Studio, `ainvoke` and notebooks, where nothing is gated."""


def turn_of(runtime: Runtime[Any] | None = None) -> "NodesSide | None":
    """The turn whose graph this node is a node of. `runtime`: the node's own; None: that of the code that asks.

    None outside of a turn, and in a graph that a node or a tool of the turn's graph runs: that is its own graph, of
    which nothing is spoken or gated here. It may share the run's control, as a subgraph does, but then its nodes have a
    namespace of their own.
    """
    turn = current_turn.get()
    if turn is None:
        return None
    runtime = runtime or get_runtime()
    if runtime is None or runtime.control is not turn.control:
        return None
    where = runtime.execution_info
    return None if where is not None and "|" in where.checkpoint_ns else turn


class NodesSide:
    """What the nodes of a graph tell the turn that runs them, and what they ask it.

    Args:
        run: the turn.
    """

    def __init__(self, run: TurnRun) -> None:
        self.run = run
        self.control: RunControl | None = None
        """The control of the graph run."""
        self.known: Callable[[], WithoutSecrets] | None = None
        """Returns what is known to be secret to the agent whose step runs. It is said, but not remembered."""
        self.answers: dict[str, str | None] = {}
        """A tool node -> the message whose tool calls it has answered last."""
        self._speaking: str | None = None
        self._lines: dict[str, list[tuple[str, str]]] = {}
        """Task -> the lines that its node has said, and their ids."""
        self._attempts: dict[tuple[str, int], int] = {}
        """A task, and which attempt at it -> how many lines it has said."""
        self._holds = 0
        self._new_result = False
        self._result_at: int | None = None
        """The store position of this turn's results, once they are being written."""

    # ---- how far the turn is

    @property
    def call(self) -> TurnOwner[TurnRun]:
        return self.run.call

    @property
    def record(self) -> TurnRecord:
        return self.run.record

    @property
    def timings(self) -> Timings:
        return self.run.timings

    @property
    def interrupted(self) -> bool:
        return self.run.interrupted

    @property
    def closed(self) -> bool:
        """Whether the front end is done with the turn."""
        return self.run.state.is_over

    @property
    def speaker(self) -> str:
        """The agent that is active in the graph now."""
        return self.run.speaker

    async def floor_is_back(self) -> bool:
        """Wait until it is certain that the handoffs of this turn have happened. False: one of them has not."""
        await self.run.wait_committed()
        if not await self.record.handoffs.decided():
            return False
        for handoff in self.record.handoffs:
            await handoff.entered()
        return True

    async def enters(self, agent: str) -> bool:
        """Wait until it is certain who is active. Is it this agent? Its handoff may not have happened, and the program
        may have made another agent active since."""
        if not await self.record.handoffs.decided():
            return False
        for handoff in self.record.handoffs:
            await handoff.entered()
        return self.call.active_agent in (agent, None)

    def cuttable(self, may_be_cut: Callable[[], bool] = lambda: True) -> AbstractContextManager[None]:
        """Let `interrupt()` cancel the block at its next await. The block then ends without an exception.

        `may_be_cut` is called at the moment of the interruption.
        """
        return self.run.interruption.cuttable(may_be_cut, lambda: self.run.state is TurnState.DISCARDED)

    # ---- what the front end has asked of the replies

    def take_instructions(self) -> str | None:
        """The front end's instructions for the next reply. They are for one reply only."""
        instructions, self.run.instructions = self.run.instructions, None
        return instructions

    def take_options(self) -> ReplyOptions:
        """The options of the next reply. Later replies keep only `messages`; after a handoff there are none."""
        options = self.run.options if not self.record.handoffs else ReplyOptions()
        self.run.options = ReplyOptions(messages=options.messages)
        return options

    def may_call_tools(self, agent: str) -> bool:
        """Whether this agent may call tools in this turn."""
        return agent not in self.run.without_tools

    # ---- words

    def say_text(self, agent: str, message_id: str, delta: str) -> None:
        """A piece of a reply."""
        found = self.record.spoken(message_id)
        words = found[1] if found is not None else self._words(self.record.step(agent, message_id).words)
        if found is not None and not words.produced:
            found[0].begins(words)
        words.produced += delta
        self.timings.text(agent)
        self._speaking = message_id
        self.emit(events.Text(agent, message_id, delta))

    def said(self) -> None:
        """The current message is complete; what comes next may take a while."""
        message_id, self._speaking = self._speaking, None
        if message_id is not None and self.run.stream.listener is not None:
            self.run.stream.listener.message_over(message_id)

    def begin_line(self, agent: str, message_id: str, step_id: str | None) -> Spoken:
        """Begin speech outside a model step: part of the step whose tools say it, or a message of its own."""
        if step_id is not None and (asking := self.record.spoken(step_id)) is not None:
            asking[0].lines.append(words := self._words(Spoken(message_id)))
            return words
        return self._words(self.record.step(agent, message_id).words)

    def _words(self, words: Spoken) -> Spoken:
        words.known = self.known
        return words

    def line(self, agent: str, message_id: str, text: str, *, step_id: str | None = None) -> None:
        """Say a fixed line."""
        self.begin_line(agent, message_id, step_id).produced = text
        self.timings.text(agent)
        self.emit(events.Say(agent, message_id, text))
        self._speaking = message_id
        self.said()

    def said_before(self, task: tuple[str, int], text: str, message_id: str) -> str | None:
        """The id of this line if an earlier attempt at the task has said it; else None, and the line is noted.

        Args:
            task: the task, and which attempt at it this is.
            text: the line.
            message_id: the id under which it will be said.
        """
        place = self._attempts[task] = self._attempts.get(task, 0) + 1
        lines = self._lines.setdefault(task[0], [])
        if place <= len(lines) and lines[place - 1][0] == text:
            return lines[place - 1][1]
        lines[place - 1 :] = [(text, message_id)]
        return None

    def line_done(self, message_id: str) -> None:
        """A generated line is complete: no more `Text` comes with this id."""
        self.run.produced.came(message_id)

    async def wait_heard(self, message_id: str) -> bool:
        """Wait until the front end has played this message, or will not play it. Returns whether it was heard."""
        if not (self.interrupted or self.closed):
            if self.run.stream.listener is not None:
                self.run.stream.listener.waits(message_id)
            await self.run.heard.wait(message_id)
        found = self.record.spoken(message_id)
        return found is not None and bool(found[1].heard)

    def apologize(self, agent: str, error: BaseException) -> AIMessage | None:
        """A model or a node failed, or nothing was said: apologize to the caller, unless they are already speaking."""
        logger.error("agent %s failed", agent, exc_info=error)
        self.emit(events.Failed(agent, error))
        text = self.call.apology
        if self.interrupted or not text.strip():
            return None
        message_id = f"apology-{uuid.uuid4().hex[:12]}"
        self.line(agent, message_id, text)
        return AIMessage(text, id=message_id, name=agent)

    def asked(self, agent: str, interrupt_id: str, question: Any, step_id: str | None) -> None:
        """The run ended in LangGraph's `interrupt()`: say its question, like any other speech."""
        event = events.Interrupt(
            interrupt_id, agent, question, f"ask-{uuid.uuid4().hex[:12]}", self.call.words_of_question(question)
        )
        self.begin_line(agent, event.message_id, step_id).produced = event.text
        self.emit(event)

    def say_only(self, words: str) -> None:
        """Say this, and nothing else in this turn."""
        self.line(self.speaker, f"say-{uuid.uuid4().hex[:12]}", words)

    async def end_call(self, words: str) -> None:
        """Say this instead of an answer, then end the call."""
        await self.run.wait_committed()
        self.say_only(words)
        self.call_ends()

    # ---- tool calls

    def message(self, agent: str, message: AIMessage) -> None:
        """A model's message is complete: announce its tool calls."""
        assert message.id is not None
        step = self.record.step(agent, message.id)
        step.message = message
        calls = []
        for call in message.tool_calls:
            assert call["id"] is not None
            step.calls[call["id"]] = ToolCallRecord(call["id"], call["name"])
            calls.append(events.ToolCall(call["id"], call["name"], dict(call["args"])))
        if calls:
            self.emit(events.ToolCalls(agent, message.id, tuple(calls)))
        self.said()
        self.run.changed()

    def custom_calls(self, agent: str, message_id: str, calls: Sequence[events.ToolCall]) -> None:
        """A custom node has made these tool calls. Nobody is asked: its graph runs them by itself."""
        self.emit(events.ToolCalls(agent, message_id, tuple(calls), custom=True))

    def custom_result(self, agent: str, call: events.ToolCall, message: ToolMessage) -> None:
        """A tool call of a custom node has run, and this is its result."""
        failed = message.status == "error"
        if (watch := self.call.on_tool) is not None:
            watch(run := ToolRun(agent, call.name, call.id, dict(call.args)))
            run.outcome = "failed" if failed else "done"
            watch(run)
        self.emit(events.ToolResult(agent, call.id, call.name, message.text, failed, custom=True))

    async def permission(self, call_id: str) -> Permission:
        """Wait until the front end has decided about this tool call."""
        permission = await self.run.gate.wait(call_id)
        if permission is ANSWERED:
            raise AnsweredAlready(call_id)
        if (found := self.record.call(call_id)) is not None:
            step, call = found
            if permission is NOT_STARTED:
                call.status = "refused"
            elif permission.run:
                call.status, call.host = "running", permission.host
                step.at = step.at or time.time()
        self.run.changed()
        return permission

    def result(self, agent: str, message: ToolMessage, *, hands_off: bool = False, waits: bool = False) -> None:
        """A tool call has its result. One that never started is not remembered, as if it had never been made.

        Args:
            agent: who made the tool call.
            message: the result.
            hands_off: whether `handed_off` for this tool call follows at once.
            waits: whether it is a placeholder, since the tool call waits for a task.
        """
        if (found := self.record.call(message.tool_call_id)) is not None:
            step, call = found
            if call.status != "refused":
                call.status = "done"
                step.at = step.at or time.time()
            call.result = message
        elif (earlier := self.run.tool_call(message.tool_call_id)) is not None:
            earlier.status, earlier.result = "done", message
            self.remember([message])
        else:
            self.remember([message])  # it has waited for a task since an earlier turn
        self._new_result = True
        self.emit(
            events.ToolResult(
                agent,
                message.tool_call_id,
                message.name or "",
                message.text,
                message.status == "error",
                message.additional_kwargs.get(NO_REPLY),
                hands_off,
                waits,
            )
        )
        self.run.changed()

    def waits(self, message: ToolMessage) -> None:
        """A running tool call has no final result yet. `message` is its placeholder until then."""
        if (call := self.run.tool_call(message.tool_call_id)) is not None:
            call.result = message
        if self.record.call(message.tool_call_id) is None:
            self.remember([message])  # a tool call of an earlier turn
        self.run.changed()

    def updated(self, agent: str, call: ToolCall, message: str, *, silent: bool, waits: ToolMessage | None) -> None:
        """A running tool call tells how far it is.

        Args:
            agent: who made the tool call.
            call: the tool call.
            message: what it tells, as it is remembered.
            silent: whether only models are told.
            waits: its placeholder in the state, if it goes on in a later turn.
        """
        call_id, name = call["id"] or "", call["name"]
        if (found := self.run.tool_call(call_id)) is not None:
            found.progress = message
        if self.record.call(call_id) is None:  # a tool call of an earlier turn
            base = (found.answer if found is not None else waits) or placeholder(call_id, name)
            self.remember([base.model_copy(update={"content": running(message)})])
        self.emit(events.ToolUpdate(agent, call_id, name, message, silent))
        self.run.changed()

    def is_running(self, call_id: str) -> bool:
        """Whether this tool call was allowed, and has no result yet."""
        call = self.run.tool_call(call_id)
        return call is not None and call.open

    def call_ended(self, node: str, userdata: Mapping[str, Any], updates: Sequence[Mapping[str, Any]]) -> None:
        """A tool call of this node has ended, while others of its batch may go on. Record what was changed so far."""
        if (userdata or updates) and self.call.is_library(node):
            self.record.draft(node, userdata, updates, self.call.next_order())
            self.run.changed()

    def store_results(self) -> None:
        """Start to store what the tools of a finished step wrote, while the next model call runs."""
        if self._new_result:
            self._new_result = False
            self._result_at = self.call.store_now()

    async def results_stored(self) -> None:
        """Wait until this turn's tool results are durable: no reply may report what a crash could lose."""
        self.store_results()
        if self._result_at is not None:
            upto, self._result_at = self._result_at, None
            await self.call.stored(upto)

    # ---- handoffs

    def handed_off(
        self,
        call_id: str | None,
        old: str,
        new: str,
        shown: Sequence[AnyMessage] = (),
        on_interruption: events.OnInterruption = "cancel",
        task: Literal["begin", "end"] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> HandoffInProgress:
        """The graph moves on to another agent: announce it. What acts waits until it is `decided`."""
        event = events.HandedOff(call_id, old, new, tuple(shown), task, on_interruption, arguments)
        handoff = self.record.handoffs.announce(event)
        if self.closed:
            self.run.reject(handoff, NO_HANDOFF)
        self.timings.handed_off(new)
        self.emit(event)
        return handoff

    def entered(self) -> None:
        """An agent's `on_enter` method has ended, or does not run."""
        if self.run.stream.listener is not None:
            self.run.stream.listener.entered()

    # ---- anything else

    def emit(self, event: events.Event) -> None:
        self.run.stream.put(event)

    def custom(self, data: Any, *, agent: str | None = None, node: str = "", tool: str | None = None) -> None:
        """A tool or a node has written this with LangGraph's `get_stream_writer()`."""
        self.run.custom.put(events.Custom(agent or self.speaker, data, node, tool))

    def remember(self, update: Any) -> None:
        """Remember an update of `messages` that is not speech. The reducer applies it unchanged."""
        self.run.remember(update)

    def wrote(self, write: Write) -> None:
        """A finished node has written this."""
        write.order = self.call.next_order()
        self.record.write(write)
        self.run.changed(userdata="userdata" in write.values)

    def call_ends(self) -> None:
        """A tool or a hook asked to end the call once the current speech is over."""
        self.run.call_ends = True

    def hold(self) -> None:
        """Disallow interruptions until `release`."""
        self._holds += 1
        if self._holds == 1 and self.run.stream.listener is not None:
            self.run.stream.listener.holds(True)

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0 and self.run.stream.listener is not None:
            self.run.stream.listener.holds(False)
