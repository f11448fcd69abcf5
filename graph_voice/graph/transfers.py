"""Handoffs that a batch of tool calls makes: what the old agent says and does, and what the new one is shown."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from graph_voice.agents.handoff import Handoff, handoff_record
from graph_voice.agents.run_context import new_id
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.arrival import WAY, from_plain, leave, plain, shown_outside
from graph_voice.graph.frames import abandon
from graph_voice.graph.handoff_arguments import kept_arguments
from graph_voice.graph.handoff_span import handoff_span
from graph_voice.graph.task_steps import merged
from graph_voice.graph.tool_batch import Outcome, ToolBatch
from graph_voice.history.context import carry, resolve, view
from graph_voice.messages.pairs import GOTO, without_transfer
from graph_voice.turn.handoff import HandoffInProgress
from graph_voice.turn.nodes_side import NodesSide

__all__ = ["Transfers"]

logger = logging.getLogger("graph_voice")


class Transfers:
    """The handoffs of one agent."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._agent = runtime.agent

    def plain(self, request: Handoff, userdata: Any) -> dict[str, Any]:
        return plain(request, self._agent, userdata, self._runtime.settings.secrets)

    def from_plain(self, data: dict[str, Any]) -> Handoff:
        """A handoff that the state holds as plain data."""
        return from_plain(data, self._agent, self._runtime.settings.secrets)

    async def hand_off(
        self, winner: Outcome, outcomes: Sequence[Outcome], spoken: list[AIMessage], batch: ToolBatch
    ) -> dict[str, Any]:
        assert winner.request is not None
        request, turn, call_id = winner.request, batch.turn, winner.message.tool_call_id
        if (line := await self._transfer_line(request, batch)) is not None:
            spoken.append(line)
        is_agent = request.to in self._runtime.settings.agents
        taken = kept_arguments(request, self._runtime.settings.secrets)
        record = handoff_record(self._agent.name, request.to, call_id, taken)
        marks = {**winner.message.additional_kwargs, GOTO: request.to}
        artifact = record if is_agent else winner.message.artifact
        winner.message = winner.message.model_copy(update={"additional_kwargs": marks, "artifact": artifact})
        # In their places: behind a task, the results stand in front of its talk.
        messages = merged(batch.state["messages"], [o.message for o in outcomes])
        shown: dict[str, Any] | None = None
        if request.to in self._runtime.settings.external:
            # The front end creates an external agent, with its context, when it gets the handoff event.
            shown = await self._carried(request, call_id, messages, batch)
        if not is_agent and turn is not None and not await self._may_pass(request, line, turn):
            winner.request = None
            why = "the caller interrupted before the transfer"
            winner.message = without_transfer(winner.message, f"not done: {why}.", why=why)
            batch.answer(winner.message)
            return {}
        # Without a pause between them: the result says that the handoff follows.
        if turn is not None:
            batch.ended(winner)
            turn.result(self._agent.name, winner.message, hands_off=is_agent)
        if not is_agent:
            # A custom node is on the way: the agent behind it is shown what this handoff declares.
            way = self.plain(request, batch.work.current)
            # After a crash the state may not name the active agent yet, and the agent behind asks who hands off to it.
            return {"active_agent": self._agent.name, "chat_ctx": {**(batch.state.get("chat_ctx") or {}), WAY: way}}
        handoff: HandoffInProgress | None = None
        if turn is not None:
            told = () if shown is None else shown_outside({"messages": messages, "chat_ctx": shown}, taken)
            policy, taken_along = request.on_interruption, taken.get("arguments")
            handoff = turn.handed_off(call_id, self._agent.name, request.to, told, policy, arguments=taken_along)
        if self._agent.on_exit is not None:
            # on_exit may act, so it waits until the handoff has really happened.
            if handoff is not None and not await handoff.decided():
                return {}
            await leave(self._runtime, batch.state, batch.config, batch.runtime, turn, batch.work)
        if shown is None:
            shown = await self._carried(request, call_id, messages, batch)
        left = abandon(batch.state)
        return {
            **({} if left is None else {"stack": left}),
            "active_agent": request.to,
            "handoffs": [record],
            "chat_ctx": {**shown, "entering": True},
            "contexts": {self._agent.name: carry(view({**batch.state, "messages": messages}), messages)},
        }

    async def _may_pass(self, request: Handoff, line: AIMessage | None, turn: NodesSide) -> bool:
        """Whether the graph may go on to a custom node: it acts, so what announces the transfer is heard first."""
        if line is not None and line.id is not None:
            await turn.wait_heard(line.id)
        return not turn.interrupted or (request.on_interruption == "complete" and not turn.closed)

    async def _carried(
        self, request: Handoff, call_id: str, messages: list[AnyMessage], batch: ToolBatch
    ) -> dict[str, Any]:
        """The target's `chat_ctx`, by the handoff's history policy."""
        after: Mapping[str, Any] = {**batch.state, "messages": messages, "userdata": batch.work.current}
        model = self._runtime.model
        async with handoff_span(batch.config, self._agent.name, request, call_id) as span:
            found = await resolve(after, model=lambda: model(batch.config), operation=request.history, agent=request.to)
            span.carried(after, found or {})
        return found or {}

    async def _transfer_line(self, request: Handoff, batch: ToolBatch) -> AIMessage | None:
        """What the old agent says. If the line fails, the handoff still goes on."""
        if request.say is None or (batch.turn is not None and batch.turn.interrupted):
            return None
        message_id = new_id("say")
        try:
            text = await self._runtime.speak(
                request.say,
                batch.state,
                batch.config,
                batch.turn,
                userdata=batch.work.current,
                message_id=message_id,
                step_id=batch.asking.id,
            )
        except Exception:
            logger.exception("agent %s: the line of the handoff to %s failed", self._agent.name, request.to)
            return None
        return AIMessage(batch.known.text(text), id=message_id, name=self._agent.name) if text else None
