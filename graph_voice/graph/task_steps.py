"""The steps of a task in an agent's nodes: it begins, it ends, it is abandoned."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from graph_voice.agents.handoff import handoff_record
from graph_voice.agents.replay import TaskWanted
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.frames import (
    StackUpdate,
    TaskFrame,
    begun,
    ended,
    frame_of,
    goes_on_with,
    node_of,
    returned_to,
    stack_of,
    whole_call,
)
from graph_voice.graph.handoff_arguments import record_of
from graph_voice.history import Operation, full
from graph_voice.history.apply import run
from graph_voice.history.context import carry, divided, resolve, view
from graph_voice.history.summaries import summarized
from graph_voice.messages.pairs import pair_safe
from graph_voice.secrets.values import opened, redact_with, resealed
from graph_voice.turn.answer import answer
from graph_voice.turn.nodes_side import NodesSide
from graph_voice.userdata.channel import redacted

__all__ = ["ABANDONED", "TaskSteps", "answers_of", "merged"]

ABANDONED = "not done: the task was abandoned."
"""The result of a tool call that waited for a task when the conversation went to somebody else."""


class TaskSteps:
    """The tasks that one agent runs, and the task that it is.

    Args:
        runtime: the agent.
    """

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.agent = runtime.agent
        self._redact = redact_with(runtime.settings.secrets)
        self.task = runtime.agent if isinstance(runtime.agent, Task) else None

    # ---- the draft

    def draft(self, state: Mapping[str, Any]) -> Any:
        """The draft that the tools of one batch share; None if the agent is no task."""
        if self.task is None:
            return None
        frame = frame_of(state, self.task.name)
        secrets = self.runtime.settings.secrets
        return self.task.read_draft(opened(frame["draft"], secrets) if frame is not None else None)

    def _stored(self, data: Any) -> Any:
        """Plain data with its secrets as they are stored."""
        return redacted(resealed(data, self._redact), self._redact)

    def stack_after(
        self, state: Mapping[str, Any], draft: Any, *, ended: Collection[str | None], waiting: Sequence[str]
    ) -> StackUpdate:
        """What a batch changes of the stack: the draft, and a tool call that has its result.

        Args:
            state: the state when the batch began.
            draft: as the batch has left it.
            ended: the tool calls that have their result now.
            waiting: those that have no result yet. The first one goes on.
        """
        update: StackUpdate = {}
        returned = returned_to(state, self.agent.name)
        if returned is not None and returned["call_id"] in ended:
            update = goes_on_with(returned, waiting[0]) if waiting else {"drop": [returned["id"]]}
        if self.task is not None and self.task.draft is not None:
            frame, kept = frame_of(state, self.task.name), self._stored(self.task.plain_draft(draft))
            if frame is None and not stack_of(state):
                update = {**update, **whole_call(self.task.name, draft=kept)}
            elif frame is not None and kept != frame["draft"]:
                update = {**update, "set": {**update.get("set", {}), frame["id"]: {"draft": kept}}}
        return update

    # ---- a task begins

    async def begin(
        self,
        wanted: TaskWanted,
        state: Mapping[str, Any],
        config: RunnableConfig,
        turn: NodesSide | None,
        *,
        call_id: str | None,
        asking: str | None,
        said: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Let a task of this agent take over. Returns the update of the state.

        Args:
            wanted: the task.
            state: with the results of the batch, placeholders of what waits among them.
            config: the node's.
            turn: the turn; None outside of one.
            call_id: the tool call that waits.
            asking: the id of its message.
            said: what an `on_enter` method has said so far.
        """
        task = self.runtime.tasks[wanted.task]
        messages: list[AnyMessage] = state["messages"]
        record = handoff_record(self.agent.name, task.name, call_id)
        if turn is not None:
            turn.handed_off(call_id, self.agent.name, task.name, task="begin")
        returned = returned_to(state, self.agent.name)
        if returned is not None and wanted.group is not None and returned.get("group") == wanted.group:
            # The next step of a group: it is shown what was said since the group began.
            shown = returned["chat_ctx"]
            carried: dict[str, Any] | None = carry(_talk(state, shown), messages)
        else:
            shown = carry(view(state), messages)
            carried = await resolve(
                state, model=lambda: self.runtime.model(config), operation=task.history, agent=task.name
            )
        update = begun(
            state,
            wanted,
            agent=self.agent.name,
            call_id=call_id,
            asking=asking,
            chat_ctx=shown,
            inputs=self._stored(wanted.inputs),
            draft=self._stored(task.plain_draft(task.new_draft()) if wanted.draft is None else wanted.draft),
            said=said,
        )
        return {
            "active_agent": task.name,
            "handoffs": [record],
            "chat_ctx": {**(carried or {}), "entering": True},
            "contexts": {self.agent.name: shown},
            "stack": update,
        }

    # ---- the task ends

    async def complete(
        self,
        end: Done,
        state: Mapping[str, Any],
        config: RunnableConfig,
        turn: NodesSide | None,
        *,
        call_id: str | None,
    ) -> tuple[dict[str, Any], str | None]:
        """End the task that this agent is. Returns the update of the state, and the node that goes on (None: nobody
        has waited for it).

        Args:
            end: how.
            state: with the results of the batch.
            config: the node's.
            turn: the turn; None outside of one.
            call_id: the tool call that has ended it; None if none has.
        """
        assert self.task is not None
        end = replace(end, value=self._stored(end.value), draft=self._stored(end.draft))
        frame = frame_of(state, self.task.name)
        if frame is None or frame["agent"] is None:
            return {"stack": whole_call(self.task.name, end=end)}, None
        agent, messages = frame["agent"], list[AnyMessage](state["messages"])
        if turn is not None:
            turn.handed_off(call_id, self.agent.name, agent, task="end")
        # A group decides at its end what is shown of all its steps.
        returns = self.task.returns if frame.get("group") is None else full()
        update = {
            "active_agent": agent,
            # The agent goes on with what had come to it.
            "handoffs": [handoff_record(self.agent.name, agent, call_id, record_of(state, agent))],
            "chat_ctx": await self.shown_after(frame, returns, state, config),
            "contexts": {self.agent.name: carry(view(state), messages)},
            "stack": ended(frame, end),
        }
        return update, node_of(frame)

    async def shown_after(
        self, frame: TaskFrame, returns: Operation, state: Mapping[str, Any], config: RunnableConfig
    ) -> dict[str, Any]:
        """What the agent that waits is shown from now on: what it was shown before, and this of the talk since."""
        before, since = divided(state, frame["chat_ctx"])
        talk = await run(
            returns,
            since,
            userdata=state.get("userdata"),
            model=self.runtime.model(config) if returns.asks_model else None,
            summarize=summarized,
        )
        return carry([*before, *talk], state["messages"])

    async def group_over(
        self, state: Mapping[str, Any], config: RunnableConfig, wanted: TaskWanted | None
    ) -> dict[str, Any] | None:
        """The `chat_ctx` when a tool call has gone on and its group of tasks is over; None if none is."""
        frame = returned_to(state, self.agent.name)
        group = frame.get("group") if frame is not None else None
        if frame is None or group is None or (wanted is not None and wanted.group == group):
            return None
        return await self.shown_after(frame, self.agent.own_groups[group].returns, state, config)


def _talk(state: Mapping[str, Any], chat_ctx: Mapping[str, Any]) -> list[AnyMessage]:
    return pair_safe(divided(state, dict(chat_ctx))[1])


def merged(messages: Sequence[AnyMessage], results: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages with these, each at the place of an earlier one with its id."""
    by_id = {m.id: m for m in results}
    return [*(by_id.pop(m.id, m) for m in messages), *by_id.values()]


def answers_of(stack: Sequence[TaskFrame], messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """The results of the tool calls whose tasks were abandoned, and of those that waited behind them."""
    asking = {frame["asking"] for frame in stack if frame.get("left")}
    waiting: list[ToolMessage] = []
    inside = False
    for message in messages:
        if not isinstance(message, ToolMessage):
            inside = message.id in asking
        elif inside and message.additional_kwargs.get("placeholder"):
            waiting.append(answer(message.tool_call_id, message.name or "", ABANDONED, is_error=True))
    return waiting
