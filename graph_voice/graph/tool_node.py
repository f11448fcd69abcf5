"""The tool node of an agent: it answers every tool call of a batch, and at most one handoff wins."""

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.runtime import Runtime
from langgraph.types import Command, Interrupt

from graph_voice.agents.run_context import new_id
from graph_voice.agents.task_end import Done
from graph_voice.events import ends_turn
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.arrival import leave
from graph_voice.graph.filler import BatchFiller
from graph_voice.graph.frames import (
    TASKS,
    StackUpdate,
    answered,
    asks_caller,
    frame_of,
    going_on,
    let_go_on,
    merge_stack,
    moved_to,
    returned_to,
)
from graph_voice.graph.generate import DROPPED
from graph_voice.graph.progress import words_about
from graph_voice.graph.studio_context import edited
from graph_voice.graph.task_steps import TaskSteps, merged
from graph_voice.graph.tool_batch import Outcome, ToolBatch
from graph_voice.graph.tool_call import ToolRunner
from graph_voice.graph.transfers import Transfers
from graph_voice.graph.updates import Updates
from graph_voice.graph.waiting_calls import WaitingCalls, is_open
from graph_voice.messages.pairs import (
    ENDS,
    GOTO,
    NO_REPLY,
    WAITS,
    waits_for_task,
    without_transfer,
)
from graph_voice.messages.prompt import add_words
from graph_voice.secrets.known import Known
from graph_voice.turn.nodes_side import NodesSide, turn_of
from graph_voice.turn.record import Write
from graph_voice.userdata.working_copy import WorkingCopy

__all__ = ["ToolsNode"]

logger = logging.getLogger("graph_voice")


class ToolsNode:
    """Runs the tool calls of the last assistant message, in parallel, on one working copy of the userdata.

    A transfer that is alone in its batch needs no node of its own: the agent's node lets this one run it (`run`), and
    leads to the target itself. All other batches come here.

    A tool call that waits in LangGraph's `interrupt()` leaves a placeholder. So does a handoff beside it, since an
    earlier tool call may still win. The other results are written. Then the node runs again, only for the first tool
    call that asked: no other can get the answer, and no finished one runs twice, whatever the checkpointer. As in any
    LangGraph node, a tool that asks runs again from its start when the answer comes.
    """

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.agent = runtime.agent
        self.name = f"{self.agent.name}_tools"
        self._runner = ToolRunner(runtime)
        self._tasks = TaskSteps(runtime)
        self._transfers = Transfers(runtime)
        self._waiting = WaitingCalls(self._transfers)

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> list[Command[Any]]:
        """The node: updates of the state, and where a handoff leads."""
        if runtime.context is not None and (changed := await edited(self.runtime, runtime.context)) is not None:
            return await ToolsNode(changed).step(state, config, runtime)
        return await self.run(state, config, runtime, node=self.name)

    async def run(
        self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any], *, node: str
    ) -> list[Command[Any]]:
        """Run the tool calls of the last message that has any. `node`: the name of the node that does it."""
        turn = turn_of(runtime)
        if turn is not None and turn.run.resumes is not None:
            state = answered(state, self.agent.name)
        frame = returned_to(state, self.agent.name)
        if frame is not None and all(message.id != frame["asking"] for message in state["messages"]):
            # A node of the user's has removed the message that made the tool call: nobody can be answered.
            return [Command(update={"stack": {"drop": [frame["id"]]}}, goto=self.agent.name)]
        if frame is not None and turn is not None and not await turn.floor_is_back():
            return [Command()]  # it acts, and the task has not ended after all
        if frame is not None and turn is not None:
            again = frame.get("asks") or turn.call.goes_on(frame["id"], frame["call_id"], len(frame["results"]))
            if not again:
                # An earlier turn, which the caller has interrupted, lets it go on.
                return [Command(update={"stack": let_go_on(frame)}, goto=self.agent.name)]
            # Durable before it acts: after a crash it is known that the tool call had gone on.
            turn.wrote(Write(node, {"stack": going_on(frame)}, agent=self.agent.name))
        asking, answers = _batch(state["messages"], frame["asking"] if frame is not None else None)
        if turn is not None:
            turn.answers[self.name] = asking.id
        filler = BatchFiller(turn, self.agent.name, asking.id)
        takes = bool(self.runtime.secret_schemas)
        work, me, slow = WorkingCopy(state), self.agent.name, self._runner.slow
        batch = ToolBatch(state, config, runtime, turn, asking, work, filler, node, me, slow, takes)
        batch.updates = Updates(turn, self.agent.name, functools.partial(words_about, self.runtime, batch))
        # Behind a task of the batch, all of its tool calls have had their permission.
        batch.waited = [call_id for call_id, found in answers.items() if waits_for_task(found) or frame is not None]
        batch.draft = self._tasks.draft(state)
        calls = [(call, call["id"]) for call in asking.tool_calls if call["id"] is not None]
        known = {call_id: self._waiting.known(answers[call_id]) for _, call_id in calls if call_id in answers}
        to_run = [(call, call_id) for call, call_id in calls if known.get(call_id) is None]
        if frame is not None:
            to_run = [(call, call_id) for call, call_id in to_run if call_id == frame["call_id"]]
        elif known:
            to_run = to_run[:1]
            if to_run and (question := self._asked_before(to_run[0][1], batch)) is not None:
                raise GraphInterrupt((question,))
        ran = dict(zip((call_id for _, call_id in to_run), await self._run(to_run, batch, answers), strict=True))
        outcomes = {call_id: ran.get(call_id) or known.get(call_id) for _, call_id in calls}
        await self._end_group(list(ran.values()), batch)
        asked = next((o.asked for o in ran.values() if o.asked is not None), None)
        self._note_questions(ran, batch)
        if frame is not None and turn is not None and asked is not None:
            turn.wrote(Write(node, {"stack": asks_caller(frame)}, agent=self.agent.name))
        if asked is not None and len(ran) == 1 and (known or len(calls) == 1):
            self._keep_place(next(iter(ran.values())), batch)
            raise asked
        if any(o is None or o.asked is not None for o in outcomes.values()):
            if (wants := self._next_task(outcomes, ran, batch)) is not None:
                return await self._begin_task(
                    wants, [o or Outcome(answers[i]) for i, o in outcomes.items()], ran, batch
                )
            return self._wait(outcomes, ran, answers, batch)
        return await self._finish([o for o in outcomes.values() if o is not None], list(ran.values()), batch)

    def route(self, state: dict[str, Any], turn: NodesSide | None = None) -> str | None:
        """Where the graph goes from here: to the target of a handoff, or back to the agent.

        Args:
            state: with what this node has written.
            turn: the turn that it runs in. It knows which batch this node has answered; behind a task, others may have
                come since. None: the agent's last one.

        None: the turn ends without a reply, or this node runs once more. A handoff that this node has just made leads
        to its target by itself. That it is read from the state too is for a state that was edited.
        """
        if not any(isinstance(m, AIMessage) and m.tool_calls for m in state.get("messages") or ()):
            return self.agent.name  # an edit in the name of this node, in a state in which it has nothing to do
        if (node := moved_to(state, self.agent.name)) is not None:
            return node
        if returned_to(state, self.agent.name) is not None:
            return None  # another tool call of the batch goes on
        asking, answers = _batch(state["messages"])
        behind_task = False
        own = turn.answers.get(self.name) if turn is not None else None
        if own is None or all(message.id != own for message in state["messages"]):
            own = _last_batch_of(self.agent.name, state["messages"])
        if own not in (None, asking.id):
            # Its tool call has gone on behind a task, whose own tool calls stand behind it.
            behind_task = True
            asking, answers = _batch(state["messages"], own)
        found = [answers[call["id"]] for call in asking.tool_calls if call["id"] in answers]
        for message in found:
            if (target := message.additional_kwargs.get(GOTO)) is not None:
                return str(target)
        if any(WAITS in m.additional_kwargs for m in found) or ends_turn(
            [m.additional_kwargs.get(NO_REPLY) for m in found], said=bool(asking.text.strip()) and not behind_task
        ):
            return None
        return self.agent.name

    # ---- running

    async def _run(
        self, calls: Sequence[tuple[ToolCall, str]], batch: ToolBatch, answers: Mapping[str, ToolMessage]
    ) -> list[Outcome]:
        tasks = [
            asyncio.create_task(
                self._one(call, call_id, batch, answers.get(call_id)), name=f"graph_voice.tool.{call['name']}"
            )
            for call, call_id in calls
        ]
        outcomes = []
        # A cancellation reaches the tools too; they may clean up before it goes on.
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome  # LangGraph's control exceptions; all others have become results
            outcomes.append(outcome)
        return outcomes

    async def _one(self, call: ToolCall, call_id: str, batch: ToolBatch, waits: ToolMessage | None) -> Outcome:
        again = batch.turn.run.tool_call(call_id) if batch.turn is not None else None
        if waits is None and again is not None and again.result is not None and WAITS in again.result.additional_kwargs:
            waits = again.result  # it has asked, or the process ended while it ran, and it runs again
        earlier = waits.additional_kwargs.get(WAITS, {}) if waits is not None else {}
        outcome = await self._runner.run(call, call_id, batch, earlier=earlier)
        dropped = batch.asking.additional_kwargs.get(DROPPED)
        if dropped and call_id == batch.asking.tool_calls[-1]["id"]:
            note = f"[{dropped} more tool calls of this message were not run: make fewer at once]"
            outcome.message = outcome.message.model_copy(update={"content": f"{outcome.message.text}\n{note}"})
        frame = returned_to(batch.state, self.agent.name)
        if (
            frame is not None
            and frame["call_id"] == call_id
            and not outcome.message.additional_kwargs.get("placeholder")
        ):
            marks = {**outcome.message.additional_kwargs, TASKS: frame["begun"][1]}
            outcome.message = outcome.message.model_copy(update={"additional_kwargs": marks})
        if not outcome.moves and outcome.asked is None:
            batch.ended(outcome)
            batch.answer(outcome.message)
        return outcome

    # ---- a tool call that asks

    def _note_questions(self, ran: Mapping[str, Outcome], batch: ToolBatch) -> None:
        where = batch.runtime.execution_info
        for call_id, outcome in ran.items():
            found = batch.turn.run.tool_call(call_id) if batch.turn is not None else None
            if found is None or where is None:
                continue
            asked: Sequence[Interrupt] = next(iter(outcome.asked.args), ()) if outcome.asked is not None else ()
            # Its first question only: another graph's, and a second one, are answered at another place.
            own = len(asked) == 1 and asked[0].id == Interrupt.from_ns(None, where.checkpoint_ns).id
            found.question = asked[0] if own else None

    def _asked_before(self, call_id: str, batch: ToolBatch) -> Interrupt | None:
        """The question of a tool call that has run up to it, as this node's own. None when the tool has to run: it has
        the answer, or the question is of a graph that it runs."""
        where, turn = batch.runtime.execution_info, batch.turn
        found = turn.run.tool_call(call_id) if turn is not None else None
        if turn is None or found is None or found.question is None or where is None:
            return None
        if (resumes := turn.run.resumes) is not None and resumes.interrupts[0].id == found.question.id:
            return None
        found.question = Interrupt.from_ns(
            found.question.value, where.checkpoint_ns, response_schema=found.question.response_schema
        )
        return found.question

    def _wait(
        self,
        outcomes: Mapping[str, Outcome | None],
        ran: Mapping[str, Outcome],
        answers: Mapping[str, ToolMessage],
        batch: ToolBatch,
    ) -> list[Command[Any]]:
        """Write what is finished, and run the node again for the tool call that asks."""
        messages: list[ToolMessage] = []
        for call_id, outcome in outcomes.items():
            if outcome is None:
                message = answers[call_id]
            elif outcome.request is not None or outcome.asked is not None or outcome.wants is not None:
                message = self._waiting.placeholder(outcome, batch.work.current)
                if batch.turn is not None:
                    batch.turn.waits(message)
            else:
                message = outcome.message
            messages.append(message)
        spoken = batch.spoken(ran.values())
        return [*self._written(messages, spoken, list(ran.values()), batch), Command(goto=self.name)]

    def _keep_place(self, outcome: Outcome, batch: ToolBatch) -> None:
        """A tool call asks, and runs again from its start: what it has told is not told again."""
        if batch.turn is not None and (outcome.told or outcome.said):
            batch.turn.waits(self._waiting.placeholder(outcome, batch.work.current))

    # ---- the batch

    def _choose(self, outcomes: Sequence[Outcome], batch: ToolBatch) -> Outcome | None:
        """The winner is the first handoff or task, in the tool calls' order. Each other one is answered as not done.
        Only tool calls that want a task wait for the one that has begun."""
        turn = batch.turn
        winner: Outcome | None = None
        for outcome in outcomes:
            if not outcome.moves:
                continue
            policy = outcome.request.on_interruption if outcome.request is not None else "cancel"
            if turn is not None and turn.interrupted and (turn.closed or policy == "cancel"):
                why = "the caller interrupted before the transfer"
            elif winner is None:
                winner = outcome
                continue
            elif outcome.wants is not None and winner.wants is not None:
                continue
            else:
                why = winner.where
            outcome.request = outcome.wants = outcome.done = None
            outcome.message = without_transfer(outcome.message, f"not done: {why}.", why=why)
            batch.answer(outcome.message)
        return winner

    async def _finish(
        self, outcomes: Sequence[Outcome], ran: Sequence[Outcome], batch: ToolBatch
    ) -> list[Command[Any]]:
        winner = self._choose(outcomes, batch)
        if winner is not None and winner.wants is not None:
            return await self._begin_task(winner, outcomes, {o.message.tool_call_id: o for o in ran}, batch)
        if winner is not None and winner.done is not None:
            return await self._complete_task(winner, outcomes, ran, batch)
        spoken = batch.spoken(ran)
        control = await self._transfers.hand_off(winner, outcomes, spoken, batch) if winner is not None else {}
        messages: list[AnyMessage] = [o.message for o in outcomes]
        if winner is None and all(NO_REPLY in o.message.additional_kwargs for o in outcomes):
            messages += self._said_directly(outcomes, batch.turn)
        written = self._written(messages, spoken, ran, batch)
        if winner is None or winner.request is None:
            return written
        # The handoff is an update of its own, so that all of it is undone when the front end says it did not happen.
        return [*written, Command(update=control, goto=winner.request.to)]

    def _written(
        self, messages: Sequence[AnyMessage], spoken: Sequence[AIMessage], ran: Sequence[Outcome], batch: ToolBatch
    ) -> list[Command[Any]]:
        """The updates of the state: the tool results, what the tools' own commands write, the userdata."""
        if batch.turn is not None:
            if any(o.ending for o in ran):
                batch.turn.call_ends()
            for message in (m for o in ran for m in o.additions):
                batch.turn.remember([message])
        update: dict[str, Any] = {
            "messages": [*messages, *(m for o in ran for m in o.additions), *batch.redacted.values()]
        }
        if spoken:
            update["messages"].insert(0, _with_lines(batch.asking, spoken))
        if changes := batch.work.changes():
            update["userdata"] = changes
        if stack := self._stack_after(messages, ran, batch):
            update["stack"] = stack
        if batch.chat_ctx is not None:
            update["chat_ctx"] = batch.chat_ctx
        return [*(Command(update=u) for o in ran for u in o.updates), Command(update=update)]

    # ---- tasks

    async def _end_group(self, ran: Sequence[Outcome], batch: ToolBatch) -> None:
        """When a tool call has gone on behind a group of tasks, show its agent what the group leaves."""
        if any(outcome.asked is not None for outcome in ran):
            return
        wanted = next((outcome.wants for outcome in ran if outcome.wants is not None), None)
        chat_ctx = await self._tasks.group_over(batch.state, batch.config, wanted)
        if chat_ctx is not None:
            batch.chat_ctx = chat_ctx
            batch.state = {**batch.state, "chat_ctx": chat_ctx}

    def _stack_after(self, messages: Sequence[AnyMessage], ran: Sequence[Outcome], batch: ToolBatch) -> StackUpdate:
        return self._tasks.stack_after(
            batch.state,
            batch.draft,
            ended=[o.message.tool_call_id for o in ran if o.asked is None and o.wants is None],
            waiting=[m.tool_call_id for m in messages if is_open(m)],
        )

    def _after(self, messages: Sequence[AnyMessage], ran: Sequence[Outcome], batch: ToolBatch) -> dict[str, Any]:
        """The state with what a batch writes."""
        return {
            **batch.state,
            "messages": merged(batch.state["messages"], messages),
            "userdata": batch.work.current,
            "stack": merge_stack(batch.state.get("stack"), self._stack_after(messages, ran, batch)),
        }

    def _next_task(
        self, outcomes: Mapping[str, Outcome | None], ran: Mapping[str, Outcome], batch: ToolBatch
    ) -> Outcome | None:
        """The tool call whose task begins now, though others have no result yet. Behind a handoff, none begins."""
        moving = next((o for o in outcomes.values() if o is not None and o.moves), None)
        if moving is None or moving.wants is None or any(o.asked is not None for o in ran.values()):
            return None
        if batch.turn is not None and batch.turn.interrupted:
            moving.wants = None
            moving.message = without_transfer(moving.message, "not done: the caller interrupted before the transfer.")
            batch.answer(moving.message)
            return None
        return moving

    async def _begin_task(
        self, winner: Outcome, outcomes: Sequence[Outcome], ran: Mapping[str, Outcome], batch: ToolBatch
    ) -> list[Command[Any]]:
        """Write what is finished, and let the task take over. Tool calls that want another task wait behind it."""
        assert winner.wants is not None
        turn, call_id = batch.turn, winner.message.tool_call_id
        for outcome in outcomes:
            if outcome.wants is not None:
                outcome.message = self._waiting.placeholder(outcome, batch.work.current)
            elif not is_open(outcome.message):
                continue  # one that asks goes on behind the task
            if turn is not None and outcome is not winner:
                turn.result(self.agent.name, outcome.message, waits=True)
        if turn is not None:
            turn.result(self.agent.name, winner.message, hands_off=True, waits=True)
        messages: list[AnyMessage] = [o.message for o in outcomes]
        spoken = batch.spoken(ran.values())
        after = self._after(messages, list(ran.values()), batch)
        control = await self._tasks.begin(
            winner.wants, after, batch.config, turn, call_id=call_id, asking=batch.asking.id
        )
        written = self._written(messages, spoken, list(ran.values()), batch)
        return [*written, Command(update=control, goto=winner.wants.task)]

    async def _complete_task(
        self, winner: Outcome, outcomes: Sequence[Outcome], ran: Sequence[Outcome], batch: ToolBatch
    ) -> list[Command[Any]]:
        """End the task: whoever waits for it goes on."""
        assert winner.done is not None
        turn, call_id = batch.turn, winner.message.tool_call_id
        spoken = batch.spoken(ran)
        frame = frame_of(batch.state, self.agent.name)
        waits = frame["agent"] if frame is not None else None
        waited_for = waits is not None
        mark = {ENDS: _kept_end(winner.done, waits, batch.known)} if waited_for else {NO_REPLY: "stopped"}
        marks = {**winner.message.additional_kwargs, **mark}
        winner.message = winner.message.model_copy(update={"additional_kwargs": marks})
        if turn is not None:
            batch.ended(winner)
            turn.result(self.agent.name, winner.message, hands_off=waited_for)
        messages: list[AnyMessage] = [o.message for o in outcomes]
        after = self._after(messages, ran, batch)
        control, node = await self._tasks.complete(winner.done, after, batch.config, turn, call_id=call_id)
        if node is not None and self.agent.on_exit is not None:
            if turn is not None and not await turn.record.handoffs.decided():
                return self._written(messages, spoken, ran, batch)
            await leave(self.runtime, batch.state, batch.config, batch.runtime, turn, batch.work)
        written = self._written(messages, spoken, ran, batch)
        if node is None:
            return [*written, Command(update=control)]
        return [*written, Command(update=control, goto=node)]

    def _said_directly(self, outcomes: Sequence[Outcome], turn: NodesSide | None) -> list[AnyMessage]:
        """The reply of tools with LangChain's `return_direct`: their output. After `StopResponse` there is none."""
        texts = [o.message.text for o in outcomes if o.message.additional_kwargs[NO_REPLY] == "direct"]
        text = " ".join(t for t in texts if t)
        if not text:
            return []
        message_id = new_id("direct")
        if turn is not None:
            turn.line(self.agent.name, message_id, text)
        return [AIMessage(text, id=message_id, name=self.agent.name)]


def _last_batch_of(agent: str, messages: Sequence[AnyMessage]) -> str | None:
    """The id of the last message in which this agent has called tools."""
    own = (m for m in reversed(messages) if isinstance(m, AIMessage) and m.tool_calls and m.name == agent)
    return next((m.id for m in own), None)


def _batch(messages: Sequence[AnyMessage], asking: str | None = None) -> tuple[AIMessage, dict[str, ToolMessage]]:
    """The last message that has tool calls, or the one of this id, and the results so far."""
    answers: dict[str, ToolMessage] = {}
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answers[message.tool_call_id] = message
        elif isinstance(message, AIMessage) and message.tool_calls and asking in (None, message.id):
            own = {call["id"] for call in message.tool_calls}
            return message, {call_id: found for call_id, found in answers.items() if call_id in own}
    raise AssertionError("the tool node runs after a message that has tool calls")


def _kept_end(done: Done, agent: str | None, secrets: Known) -> dict[str, Any]:
    """How a task ends, for a process that goes on before the active agent has changed. What is secret is left out."""
    result = done.result()
    is_open = done.is_open and secrets.value(result) == result
    return {"agent": agent, "end": result if is_open else None}


def _with_lines(asking: AIMessage, spoken: Sequence[AIMessage]) -> AIMessage:
    """The asking message with its tools' words added: one message, since a prompt may not end with an assistant's."""
    return add_words(asking, " ".join(line.text for line in spoken if line.text))
