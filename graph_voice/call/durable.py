"""A call that survives its process: what it remembers is stored in the background, and resumed from there."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeGuard, cast

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.types import Interrupt, StateSnapshot
from tenacity import AsyncRetrying, retry_if_not_exception_type, wait_exponential

from graph_voice.agents.handoff import TransferTool
from graph_voice.agents.tools import is_idempotent
from graph_voice.call.journal import ASKING, QUESTION, Journal
from graph_voice.call.live_state import LiveState
from graph_voice.call.state import CallState
from graph_voice.errors import SaverError, TurnError, UserdataError
from graph_voice.graph.build import runtime_of
from graph_voice.graph.frames import TaskFrame, stack_of
from graph_voice.messages.pairs import ACTED, ENDS, WAITS, ends_task, placeholder, waits_for_task, without_transfer
from graph_voice.storage.live_saver import LiveSaver
from graph_voice.storage.ownership import OWNER, Claim, NotClaimedError
from graph_voice.storage.run_saver import RunSaver
from graph_voice.turn.answer import answer
from graph_voice.turn.pending import Pending
from graph_voice.turn.record import ToolCallRecord
from graph_voice.turn.run import NO_HANDOFF

__all__ = ["RESUME", "UNKNOWN", "Durable", "Resumed"]

logger = logging.getLogger("graph_voice")

RESUME = (
    "The line was cut for a moment and the call is connected again. Say so in a few words, and go on where it was: "
    "repeat what the caller has not heard, or ask again what you wanted to know."
)
RESUME_ASKING = (
    "The line was cut for a moment and the call is connected again. Say so in one short sentence, and nothing else: "
    "the question that the caller has to answer is repeated right behind it."
)
UNKNOWN = "The tool call was stopped before it ended; whether it took effect is unknown."
NOT_ENDED = "not done: the process ended before the task, and its result is secret, so it was not stored. Ask again."
_INTERVAL = 0.5
"""Seconds that a change may wait for others before it is stored, unless something waits for it."""
_PATIENCE = 0.3
"""Seconds that a tool or a reply waits for the store. A store that was late is not waited for until it recovers."""


@dataclass(frozen=True)
class Resumed:
    """The state in which a call that another process had left was found."""

    unanswered: bool
    """Whether the caller has not heard a reply to their last words."""
    again: tuple[str, ...] = ()
    """Names of the tools that were running and run again, since they are declared `idempotent`."""
    unknown: tuple[str, ...] = ()
    """Names of the tools that were running and may or may not have taken effect."""
    task: str | None = None
    """The task that was running; None if none was."""
    seconds: float = field(default=0.0, compare=False)
    """Seconds since the call was last stored, by the clocks of the two machines."""


ResumeHook = str | Callable[[Resumed], str | None] | None
"""What is said when a call is resumed: instructions for the reply, a function that returns them (or None to wait for
the caller in silence), or None for the usual ones."""


def resume_instructions(hook: ResumeHook, resumed: Resumed, *, asks: bool) -> str | None:
    """The instructions for the reply with which a call is resumed. None: the agent waits for the caller.

    Args:
        hook: the program's.
        resumed: the state of the call.
        asks: whether a question (LangGraph's `interrupt()`) is open, which is repeated behind the reply.
    """
    instructions = hook(resumed) if callable(hook) else hook
    if callable(hook) and instructions is None and not resumed.again:
        return None
    # In any case, what ran when the process ended runs again, and its result is told.
    return instructions or (RESUME_ASKING if asks else RESUME)


@dataclass(frozen=True)
class _Read:
    """What a thread holds."""

    claim: str | None
    """Of this call, which owns the thread from now on. None: the store takes no writes now, or is slow."""
    newest: str | None = None
    """The id of its newest checkpoint."""
    head: CheckpointTuple | None = None
    """The last checkpoint of the call before. None: the call is new."""
    values: Mapping[str, Any] = field(default_factory=dict)
    interrupts: tuple[Interrupt, ...] = ()
    run: Sequence[CheckpointTuple] = ()
    """The run that waits in `interrupt()`, and its subgraphs."""


class Durable:
    """The durable side of one call.

    Args:
        call: the call.
        live: what is remembered of it.
        saver: a `LiveSaver`, or the checkpointer to wrap in one.
        waiting: returns the run that waits in `interrupt()` now.
    """

    def __init__(
        self,
        call: CallState[Any],
        live: LiveState,
        saver: BaseCheckpointSaver[Any],
        waiting: Callable[[], Pending | None],
    ) -> None:
        self._call = call
        self._live = live
        self._own = not isinstance(saver, LiveSaver)
        self.saver = saver if isinstance(saver, LiveSaver) else LiveSaver(saver)
        self.journal = Journal(
            self.saver,
            call.thread_id,
            call.graph.channels,
            live.checkpoint_values,
            waiting,
            interval=_INTERVAL,
        )
        self.resumed: Resumed | None = None
        self._question: Pending | None = None
        self._batch: Pending | None = None
        self._opening = asyncio.Lock()
        self._opened = False
        self._changed = False
        """Whether something is to be written as soon as the thread is read: what changed before, and what was found."""
        self._late = False

    @property
    def config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self._call.thread_id}}

    # ---- open

    @property
    def opened(self) -> bool:
        """Whether the thread has been read."""
        return self._opened

    async def open(self, patience: float | None = None) -> Pending | None:
        """Read what the thread holds. Returns the run that waits in `interrupt()`, if there is one.

        Args:
            patience: seconds; then the call goes on as a new one. None: no limit, and raises what the saver raises.
        """
        async with self._opening:
            if not self._opened:
                self._question = await self._open(patience)
                self._opened = True
        if self._changed:
            self._changed = False
            self.journal.changed()
        return self._question

    async def _open(self, patience: float | None) -> Pending | None:
        read = await self._read(None) if patience is None else await self._read_soon(patience)
        if read is None:
            return None
        if read.head is not None:
            await self._tools_known(read.values.get("messages") or (), patience)
            return self._restore(read, read.head)
        self.journal.begin(read.claim, None, {})
        return None

    async def _tools_known(self, messages: Sequence[AnyMessage], patience: float | None) -> None:
        """A tool call that was running may be a toolset's, which says whether it may run again."""
        asking = {message.name or "" for message in _unfinished(messages)}
        runtimes = [runtime for name in asking if (runtime := runtime_of(self._call.graph, name)) is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for runtime in runtimes:
                    await runtime.tools.known()

    async def _read_soon(self, patience: float) -> _Read | None:
        retrying = AsyncRetrying(
            retry=retry_if_not_exception_type((UserdataError, asyncio.CancelledError)),  # neither gets better
            wait=wait_exponential(multiplier=0.05, max=1),
            sleep=asyncio.sleep,
            reraise=True,
        )
        error: object = "it does not answer"
        try:
            async with asyncio.timeout(patience):
                async for attempt in retrying:
                    with attempt:
                        try:
                            return await self._read(patience / 10)
                        except Exception as failed:
                            error = repr(failed)
                            raise
        except (TimeoutError, UserdataError):
            logger.error("thread %s can't be read, and the call goes on as a new one: %s", self._call.thread_id, error)
        return None

    async def _take_up(self, patience: float | None) -> Claim | None:
        """Become the thread's owner before it is read. None: later, when the store takes writes."""
        try:
            async with asyncio.timeout(patience):
                return await self.saver.take_up(self._call.thread_id)
        except (NotClaimedError, TimeoutError) as error:
            logger.warning("thread %s can't be taken up before it is read: %r", self._call.thread_id, error)
            return None

    async def _read(self, patience: float | None) -> _Read:
        taken = await self._take_up(patience)
        claim, last_owner = (taken.id, taken.previous) if taken is not None else (None, None)
        newest = await self.saver.aget_tuple(self.config)
        if newest is None:
            return _Read(claim)
        head = await self._of_owner(newest, last_owner)
        graph = self._call.graph.copy(update={"checkpointer": self.saver})
        found = await graph.aget_state(self.config if head is newest else head.config, subgraphs=True)
        question = _about(head).get(QUESTION)
        if question is None:
            asking, asked = head, found
        else:  # mostly asked before the last owner took the thread up: its run is where it was then
            where: RunnableConfig = {"configurable": {**head.config["configurable"], "checkpoint_id": question}}
            if (waits := await self.saver.aget_tuple(where)) is None:
                return _Read(claim, newest.checkpoint["id"], head, found.values)
            asking, asked = waits, await graph.aget_state(where, subgraphs=True)
        run = [asking, *[t for inner in _inner(asked) if (t := await self.saver.aget_tuple(inner)) is not None]]
        return _Read(claim, newest.checkpoint["id"], head, found.values, asked.interrupts, run)

    async def _of_owner(self, newest: CheckpointTuple, owner: str | None) -> CheckpointTuple:
        """The last checkpoint of the thread's last owner. An owner before it may have written since, with a later id: a
        run that waits in `interrupt()` has the id of its own time."""
        writer = _about(newest).get(OWNER)
        if owner is None or writer is None or writer >= owner:
            return newest
        own: RunnableConfig = {"configurable": {"thread_id": self._call.thread_id, "checkpoint_ns": ""}}
        async for found in self.saver.alist(own, filter={OWNER: owner}, limit=1):
            return found
        return newest  # it has not written

    def _restore(self, read: _Read, head: CheckpointTuple) -> Pending | None:
        """Remember what was read. This awaits nothing, since somebody may be speaking."""
        # Copies: a message as the serializer made it takes twice as long to read, and each turn reads all of them.
        loaded = [message.model_copy() for message in read.values.get("messages") or ()]
        messages = _with_open_transfers(loaded, read.values.get("handoffs") or ())
        self._live.restore({**read.values, "messages": messages}, head.checkpoint["channel_values"])
        remembered = self._live.checkpoint_values(read.values.get("messages") or ())
        self.journal.begin(read.claim, head, remembered, after=read.newest)
        # Written whole, even if nothing changes: what an earlier owner still writes must not stand for it.
        self._changed = True
        again, unknown = list[str](), list[str]()
        stack = stack_of(read.values)
        if not (read.interrupts and stack and stack[-1].get("asks")):
            stack = self._settle_task(stack, messages, again, unknown)
        waiting = {frame["asking"] for frame in stack}
        unfinished, question = [m for m in _unfinished(messages) if m.id not in waiting], None
        if read.interrupts:
            asked_by = _about(head).get(ASKING)
            asking = next((m for m in reversed(unfinished) if asked_by in (m.id, None)), None)
            calls = {} if asking is None else _calls(asking, messages)
            run = RunSaver.of(read.run)
            question = Pending(read.interrupts, run, calls, asking.id if asking else None, stored=True)
            unfinished = [m for m in unfinished if m is not asking]
        for message in unfinished:
            # Nothing waits for the rest of an earlier batch: the caller has moved on since.
            self._settle_calls(message, messages, again, unknown, last=message is unfinished[-1])
        away = datetime.now(UTC) - datetime.fromisoformat(head.checkpoint["ts"])
        unanswered = _unanswered(messages) or bool(unfinished)
        self.resumed = Resumed(
            unanswered,
            tuple(again),
            tuple(unknown),
            stack[-1]["task"] if stack and not stack[-1]["done"] else None,
            max(0.0, away.total_seconds()),
        )
        return question

    def _settle_task(
        self, stack: list[TaskFrame], messages: list[AnyMessage], again: list[str], unknown: list[str]
    ) -> list[TaskFrame]:
        """Decide about the tool call that went on after its task had ended. Returns the stack as it is then.

        Only if it is idempotent it may go on once more, or if it waited in a question that was not stored. A tool call
        whose task runs has not acted, and just waits.
        """
        top = stack[-1] if stack else None
        if top is None or not top["done"] or not top.get("goes_on") or top["agent"] is None:
            return stack
        call_id = top["call_id"]
        called = next((m for m in messages if isinstance(m, ToolMessage) and m.tool_call_id == call_id), None)
        name = (called.name if called is not None else None) or ""
        waits = called is not None and called.additional_kwargs.get("placeholder")
        if waits and (top.get("asks") or (not ends_task(called) and self._is_idempotent(top["agent"], name))):
            again.append(name)
            self._call.apply({"stack": {"set": {top["id"]: {"goes_on": False, "asks": False}}}})
            return stack
        if called is not None and waits and not ends_task(called):
            unknown.append(name)
            told = answer(called.tool_call_id, name, UNKNOWN, is_error=True)
            messages[messages.index(called)] = told
            self._call.add(told)
        self._call.apply({"stack": {"drop": [top["id"]]}})
        return stack[:-1]

    def _settle_calls(
        self, asking: AIMessage, messages: Sequence[AnyMessage], again: list[str], unknown: list[str], *, last: bool
    ) -> None:
        """Decide about the tool calls that were running: only an idempotent tool of the last batch may act again."""
        calls = _calls(asking, messages)
        open_calls = [call for call in calls.values() if call.open]
        repeated = [
            call
            for call in open_calls
            if last and (_known_end(call.result) is not None or self._is_idempotent(asking.name or "", call.name))
        ]
        lost = [call for call in open_calls if call not in repeated]
        for call in lost:
            if _is_transfer(call.result) or waits_for_task(call.result):
                told = without_transfer(call.result, NO_HANDOFF)
            elif ends_task(call.result):
                reason = NO_HANDOFF if _known_end(call.result) is not None else NOT_ENDED
                told = answer(call.id, call.name, reason, is_error=True)
            else:
                told = answer(call.id, call.name, UNKNOWN, is_error=True)
                unknown.append(call.name)
            call.status, call.result = "done", told
            logger.warning("thread %s: tool %s was running: %s", self._call.thread_id, call.name, told.text)
            self._call.add(told)
        if repeated:
            again += [call.name for call in repeated]
            own = [
                *(m for m in messages if m.id == asking.id),
                *(c.result for c in calls.values() if not c.open or ends_task(c.result)),
            ]
            self._batch = Pending((), RunSaver({"messages": own}), calls, asking.id)

    def _is_idempotent(self, agent: str, name: str) -> bool:
        runtime = runtime_of(self._call.graph, agent)
        tool = next((t for t in runtime.tools.now() if t.name == name), None) if runtime is not None else None
        return isinstance(tool, TransferTool) or is_idempotent(tool)

    def take_batch(self) -> Pending | None:
        """The tool calls that were running when the other process ended and will run again. Returned only once."""
        batch, self._batch = self._batch, None
        return batch

    # ---- while the call goes on

    def changed(self) -> None:
        """What is remembered has changed."""
        if self._opened:
            self.journal.changed()
        else:
            self._changed = True

    async def stored(self, upto: int | None = None) -> bool:
        """Wait until all that is remembered now is durable. Returns False when the store is late: the call goes on.

        Args:
            upto: what `Journal.hurry` returned. What came later is not waited for.
        """
        if self._late and self.saver.lag.error is not None:
            return False
        if self.journal.taken:
            return False
        done = await self.journal.barrier(_PATIENCE, upto=upto)
        if not done and not self._late and not self.journal.taken:
            logger.warning("thread %s: the durable copy is late, and the call goes on", self._call.thread_id)
        self._late = not done
        return done

    @property
    def seconds_behind(self) -> float:
        """How long the oldest change has been waiting that is not durable."""
        return max(self.saver.lag.seconds, self.journal.seconds_behind)

    def closing_message(self) -> str | None:
        """What is said instead of an answer, when the call must end because its store is too late."""
        words = self.saver.closing_message(self._call.value("userdata"), behind=self.journal.seconds_behind)
        if words is not None:
            logger.error("thread %s: the durable copy is too late; the call ends", self._call.thread_id)
        return words

    async def flush(self, timeout: float | None) -> None:
        await self._complete(timeout)
        if lost := self.journal.take_lost():
            raise SaverError(f"thread {self._call.thread_id!r} is stored, but for this: {'; '.join(lost)}")

    async def _complete(self, timeout: float | None) -> None:
        if not await self.journal.barrier(timeout):
            self.journal.require_owner()
            lag = self.saver.lag
            raise SaverError(
                f"thread {self._call.thread_id!r} is not durable after {timeout} s; the oldest write has waited "
                f"{lag.seconds:.1f} s. Last error: {lag.error!r}. Last losses: {', '.join(lag.lost[-3:]) or 'none'}"
            ) from lag.error

    async def aclose(self, timeout: float | None) -> None:
        """Write the rest, and stop. Raises `SaverError` when it is not durable after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        try:
            if self.opened:
                await self._complete(timeout)
        finally:
            self.journal.end()
            if self._own:
                await self.saver.aclose(None if until is None else max(0.0, until - loop.time()))

    async def abandon(self) -> None:
        """Stop at once, and write nothing more."""
        self._opened = False
        self.journal.end()
        if self._own:
            await self.saver.abandon()

    def require_open(self) -> None:
        if not self.opened:
            raise TurnError(
                "A conversation with a saver reads its thread before its first turn: `await conversation.open()`, or "
                "`async with Conversation(..., saver=...) as conversation:`."
            )


def _about(found: CheckpointTuple) -> dict[str, Any]:
    """The metadata, with what the journal has added to LangGraph's."""
    return cast(dict[str, Any], found.metadata)


def _with_open_transfers(messages: Sequence[AnyMessage], handoffs: Sequence[Mapping[str, Any]]) -> list[AnyMessage]:
    """Mark each answered transfer whose handoff had not happened when the process ended as still running. So is the
    tool call of a task that had not ended."""
    happened = {(handoff["tool_call_id"], handoff["new_agent_id"]) for handoff in handoffs}
    found: list[AnyMessage] = []
    for message in messages:
        end, call_id = message.additional_kwargs.get(ENDS), getattr(message, "tool_call_id", None)
        if isinstance(message, ToolMessage) and end is not None and (call_id, end["agent"]) not in happened:
            message = _reopened(message, {WAITS: {ENDS: end}})
        elif _is_transfer(message) and (call_id, message.artifact["new_agent_id"]) not in happened:
            own = message.additional_kwargs.get(ACTED)
            message = _reopened(message, {} if own is None else {ACTED: own})
        found.append(message)
    return found


def _reopened(result: ToolMessage, marks: Mapping[str, Any]) -> ToolMessage:
    still = placeholder(result.tool_call_id, result.name or "")
    return still.model_copy(
        update={"artifact": result.artifact, "additional_kwargs": {**still.additional_kwargs, **marks}}
    )


def _is_transfer(message: AnyMessage | None) -> TypeGuard[ToolMessage]:
    return (
        isinstance(message, ToolMessage) and isinstance(message.artifact, dict) and "new_agent_id" in message.artifact
    )


def _known_end(message: AnyMessage | None) -> Mapping[str, Any] | None:
    """How it ends the task. None if it does not, and if that is secret."""
    return message.additional_kwargs[WAITS][ENDS]["end"] if ends_task(message) else None


def _unfinished(messages: Sequence[AnyMessage]) -> list[AIMessage]:
    """The messages with a tool call that was still running. The caller may have moved on while it ran."""
    running = {
        m.tool_call_id for m in messages if isinstance(m, ToolMessage) and m.additional_kwargs.get("placeholder")
    }
    return [m for m in messages if isinstance(m, AIMessage) and any(call["id"] in running for call in m.tool_calls)]


def _calls(asking: AIMessage, messages: Sequence[AnyMessage]) -> dict[str, ToolCallRecord]:
    answers = {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}
    calls = {}
    for call in asking.tool_calls:
        if call["id"] is not None:
            found = ToolCallRecord(call["id"], call["name"], "running", answers.get(call["id"]))
            found.status = "running" if found.open else "done"
            calls[found.id] = found
    return calls


def _unanswered(messages: Sequence[AnyMessage]) -> bool:
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage | HumanMessage) and m.text.strip()), None)
    return isinstance(last, HumanMessage)


def _inner(found: StateSnapshot) -> list[RunnableConfig]:
    """The configs of the waiting subgraphs' checkpoints."""
    configs: list[RunnableConfig] = []
    for task in found.tasks:
        if isinstance(task.state, StateSnapshot):
            configs += [task.state.config, *_inner(task.state)]
        elif isinstance(task.state, Mapping):
            configs.append(task.state)
    return configs
