"""The node of a task that the front end runs (`create_voice_graph(external_tasks=...)`)."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langgraph.types import Command

from graph_voice.agents.external_task import ExternalTask
from graph_voice.agents.task_end import Done
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.arrival import arrive
from graph_voice.graph.frames import frame_of
from graph_voice.graph.task_steps import TaskSteps
from graph_voice.turn.nodes_side import NodesSide, turn_of

__all__ = ["ExternalTaskNode"]


class ExternalTaskNode:
    """The graph's part of the call ends here until the front end tells how its task has ended (`TurnRun.given`).

    Args:
        task: the task.
        runtime: of the task, as of any agent.
    """

    def __init__(self, task: ExternalTask, runtime: AgentRuntime) -> None:
        self.task = task
        self._settings = runtime.settings
        self._steps = TaskSteps(runtime)

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        """The node: an update of the state."""
        turn = turn_of(runtime)
        if turn is not None and turn.interrupted:
            return {}
        name = self.task.name
        arrived = await arrive(state, config, runtime, turn, name, self._settings)
        if arrived is None:
            return {}
        update = dict(arrived.update)
        state = {**state, **update}
        update["chat_ctx"] = {k: v for k, v in (state.get("chat_ctx") or {}).items() if k != "entering"}
        state["chat_ctx"] = update["chat_ctx"]
        if turn is not None:
            turn.entered()
        if frame_of(state, name) is None or (end := self._end(turn)) is None:
            return update
        control, node = await self._steps.complete(end, state, config, turn, call_id=None)
        return [Command(update=update), Command(update=control, goto=node or ())]

    def _end(self, turn: NodesSide | None) -> Done | None:
        """How the task has ended; None while the front end runs it."""
        if turn is None or not turn.call.runs_task(self.task.name):
            return self.task.elsewhere()
        if (given := turn.run.given) is None:
            return None
        return self.task.failed(given.error) if given.error is not None else self.task.ended(given.result)
