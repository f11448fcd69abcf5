"""Tasks in LiveKit: while the tool call that waits for one is alive, LiveKit's own `AgentTask` has the floor."""

import contextlib
import logging
from collections.abc import Coroutine, Generator
from typing import Any, Protocol

from livekit.agents import Agent, RunContext, ToolError
from livekit.agents.voice import SpeechHandle

from graph_voice import Conversation, TaskFailed, Turn
from graph_voice_livekit.session.behind_base import TaskAgent
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.external_tasks import ExternalTasks
from graph_voice_livekit.session.handoff import LiveHandoff
from graph_voice_livekit.session.tool_call import Batch, LiveToolCall
from graph_voice_livekit.session.turns import TurnCall

__all__ = ["LiveTasks", "MakeTask"]

logger = logging.getLogger("graph_voice.livekit")


class MakeTask(Protocol):
    def __call__(self, handoff: LiveHandoff) -> TaskAgent:
        """Make the LiveKit agent of the task that takes over."""


class TasksCall(TurnCall, Protocol):
    """What the tasks ask of the call that they belong to."""

    @property
    def conversation(self) -> Conversation[Any]: ...

    @property
    def external_tasks(self) -> ExternalTasks: ...

    def attach(self, driver: Driver, speech: SpeechHandle) -> None:
        """A LiveKit speech drains this turn from now on."""

    def background(self, work: Coroutine[Any, Any, None]) -> object:
        """Run this as a task of the call; it is canceled when the call ends."""


class LiveTasks:
    """The tasks of one call that LiveKit's own `AgentTask` carries out, the innermost one last.

    Only a task that is wanted by a tool call whose mirror is alive is one of these. After a crash, behind a barge-in,
    in an `on_enter` and when several tool calls of a batch want tasks, LiveKit's active agent just changes.

    Args:
        call: the call.
        make: makes the LiveKit agent of a task.
    """

    def __init__(self, call: TasksCall, make: MakeTask) -> None:
        self._call = call
        self._make = make
        self._open: list[tuple[TaskAgent, LiveToolCall, Agent]] = []
        """The task, the tool call that waits for it, and LiveKit's agent of that."""

    def takes(self, begin: LiveHandoff, batch: Batch) -> bool:
        """Whether LiveKit's own task carries this out. Several tool calls that wait can't be: LiveKit keeps back all
        results of a batch until the last one is there."""
        if begin.new_agent in self._call.external_tasks:
            return False  # its agent awaits a task of LiveKit's itself
        waiting = [call for call in batch.calls.values() if call.waits]
        return begin.event.task == "begin" and len(waiting) == 1 and not batch.asks

    async def run(self, begin: LiveHandoff, call: LiveToolCall, context: RunContext[Any]) -> LiveHandoff | None:
        """Let the task have the floor until it is over. Returns the handoff back, None if the tool call does not go on.

        It is awaited in the task of the tool call, as LiveKit demands.
        """
        agent, speech = self._make(begin), context.speech_handle
        begin.becomes_certain()
        begin.driver.detach(speech)  # its turn ends with the task's first words
        call.in_task = True
        entry = (agent, call, self._call.session.current_agent)
        self._open.append(entry)
        try:
            left = await _Leavable(agent, self._call)
        except (ToolError, RuntimeError) as error:  # LiveKit can't begin it, or the session closes
            logger.debug("task %s: %s", begin.new_agent, error)
            if begin.in_progress:
                call.tell_rejected(begin.reject())
            return None
        finally:
            self._open.remove(entry)
            call.in_task = False
        end = agent.gives_back
        if end is not None and left:  # the program was faster
            end.end()
            end.driver.maybe_close()
            return None
        if end is not None:
            self._call.attach(end.driver, speech)
        return end

    async def tell_result(self, turn: Turn) -> None:
        """A turn ends with this tool call: if the task that is the whole call has its result, LiveKit's run gets it
        (`session.run(output_type=...)`)."""
        agent = self._call.session.current_agent
        if not isinstance(agent, TaskAgent) or agent.done() or any(agent is task for task, _, _ in self._open):
            return
        await turn.wait_finished()
        try:
            result = self._call.conversation.result
        except TaskFailed as error:
            result = error
        if result is not None and not agent.done():
            agent.complete(result)

    def give_back(self, end: LiveHandoff) -> bool:
        """A task has ended. Returns False if no task of LiveKit's gives the floor back."""
        if end.event.task != "end" or not self._open:
            return False
        agent, call, waiting = self._open[-1]
        if agent.done() or agent.id != end.event.old_agent or waiting.id != end.new_agent:
            return False
        end.becomes_certain()
        end.driver.goes_on(call.id, waiting.id)
        agent.gives_back = waiting.handoff = end  # type: ignore[attr-defined]
        agent.complete(None)
        return True

    def changed(self, active: Agent) -> None:
        """LiveKit's active agent has changed: the tasks that it is not part of are abandoned."""
        for agent, _, waiting in reversed(self._open):
            if agent is active:
                return
            if not agent.done():
                agent.complete(None)
            elif waiting is active:
                return


class _Leavable:
    """Awaits LiveKit's task, and says whether it was left because the session has another active agent meanwhile.

    LiveKit then closes the agent that waits, and with it waits for its running tools: for the one that awaits the task,
    which would wait for itself for ever. So that is left to another asyncio task.

    Args:
        agent: the task.
        call: runs what is left.
    """

    def __init__(self, agent: TaskAgent, call: TasksCall) -> None:
        self._agent = agent
        self._call = call

    def __await__(self) -> Generator[Any, None, bool]:
        steps = self._agent.__await__()
        thrown: BaseException | None = None
        over = False
        while True:
            try:
                waits_for = steps.send(None) if thrown is None else steps.throw(thrown)
            except StopIteration:
                return False
            thrown = None
            try:
                yield waits_for
            except BaseException as error:
                thrown = error
            if thrown is None and self._agent.done() and not over:
                over = True  # from now on LiveKit gives the floor back, or does not
                if self._call.session.current_agent is not self._agent:
                    self._call.background(_rest(steps))
                    return True


async def _rest(steps: Generator[Any, None, None]) -> None:
    with contextlib.suppress(ToolError, RuntimeError):  # the session closes
        await _Rest(steps)


class _Rest:
    def __init__(self, steps: Generator[Any, None, None]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, None, None]:
        return self._steps
