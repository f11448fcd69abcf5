"""Prefetched summaries: prepared in the background, so that no caller waits for one at a handoff.

When the active agent declares a handoff whose history policy has `history.summarize(...)`, a summary may be prepared
after each turn, while the caller talks. So is one of the talk of each task, or group of tasks, whose `returns` has it.
The handoff, or the end of the task, uses the newest summary that is ready, and adds what was said after it verbatim
(`graph_voice.history.summaries`).
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig

from graph_voice.call.state import CallState
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.build import runtime_of
from graph_voice.graph.frames import stack_of
from graph_voice.history.apply import apply
from graph_voice.history.context import divided, earlier_context, view
from graph_voice.history.operation import Operation
from graph_voice.history.pure_operations import exceeds
from graph_voice.history.summaries import Prepared, TranscriptLine, ask, head_lines, key_of
from graph_voice.messages.pairs import pair_safe

__all__ = ["STALE_AFTER", "PrefetchedSummaries", "background"]

logger = logging.getLogger("graph_voice")

STALE_AFTER = 2
"""How many user turns a prepared summary may lack before another is prepared."""

Key = tuple[Any, Any]


@dataclass(frozen=True)
class _Policy:
    """A history operation that will be applied when the conversation moves on."""

    operation: Operation
    target: str
    """The agent that will be shown what it makes."""
    shown: list[AnyMessage]
    """To what it would be applied now."""


def background(call: CallState[Any]) -> RunnableConfig:
    """The config of a model run that belongs to the call but to none of its turns."""
    metadata = {**call.config.get("metadata", {}), "thread_id": call.thread_id}
    return {**call.config, "metadata": metadata}


class PrefetchedSummaries:
    """The prepared summaries of one call. Owned by its conversation, which reports when a turn is over."""

    def __init__(self, call: CallState[Any]) -> None:
        self._call = call
        self._known: dict[Key, list[Prepared]] = {}
        self._planning: asyncio.Task[None] | None = None

    def ready(self, key: Key, lines: Sequence[TranscriptLine]) -> Prepared | None:
        """The newest finished summary of the beginning of these lines."""
        found = [p for p in self._known.get(key, ()) if p.succeeded and p.fits(lines)]
        return found[-1] if found else None

    def coming(self, key: Key, lines: Sequence[TranscriptLine]) -> Prepared | None:
        """The newest summary of the beginning of these lines that is still being made."""
        found = [p for p in self._known.get(key, ()) if not p.task.done() and p.fits(lines)]
        return found[-1] if found else None

    def prepare(self) -> None:
        """A turn is over: start the summaries that a handoff of the active agent may need. Returns at once."""
        call = self._call
        runtime = runtime_of(call.graph, call.active_agent)
        if self._planning is not None:
            self._planning.cancel()  # it plans from an older conversation
        if runtime is None:
            return
        state = dict(call.state)
        policies = [*self._of_handoffs(runtime, state), *self._of_tasks(state)]
        if not (policies or self._known):
            return
        self._planning = asyncio.create_task(self._plan(policies, state, runtime))
        self._planning.add_done_callback(_log_failure)

    def _of_handoffs(self, runtime: AgentRuntime, state: dict[str, Any]) -> Iterator[_Policy]:
        for way in runtime.agent.declared:
            if _summarizes(way.history):
                yield _Policy(way.history, way.to, view(state))

    def _of_tasks(self, state: dict[str, Any]) -> Iterator[_Policy]:
        """What is shown of the talk of the tasks that run, at their ends."""
        for frame in stack_of(state):
            if frame["done"] or (waits := runtime_of(self._call.graph, frame["agent"] or "")) is None:
                continue
            group = waits.agent.own_groups.get(frame.get("group") or "")
            task = waits.agent.own_tasks.get(frame["task"])
            returns = group.returns if group is not None else task.returns if task is not None else None
            if returns is not None and _summarizes(returns):
                yield _Policy(returns, waits.agent.name, pair_safe(divided(state, frame["chat_ctx"])[1]))

    async def _plan(self, policies: Sequence[_Policy], state: dict[str, Any], runtime: AgentRuntime) -> None:
        wanted: dict[Key, list[Sequence[TranscriptLine]]] = {}
        for policy in policies:
            found = await self._before_summary(policy.operation, policy.shown, state, policy.target)
            if found is None:
                continue
            messages, step = found
            lines = head_lines(messages, step)
            if any(line.is_turn for line in lines):  # a greeting alone is not worth a summary
                wanted.setdefault(key_of(step), []).append(lines)
                self._refresh(lines, step, runtime)
        self._forget_all_but(wanted)

    async def _before_summary(
        self, policy: Operation, shown: list[AnyMessage], state: dict[str, Any], target: str
    ) -> tuple[list[AnyMessage], dict[str, Any]] | None:
        """What the first `summarize` step of a policy would get now, and its arguments. None: it would not run."""
        for step in policy.steps:
            args = {k: v for k, v in step.items() if k != "op"}
            if step["op"] == "summarize":
                return shown, args
            if step["op"] == "when":
                then = Operation(args.pop("then"))
                if not exceeds(shown, **args):
                    continue
                if (found := await self._before_summary(then, shown, state, target)) is not None:
                    return found
            shown = await apply(
                Operation([step]), shown, userdata=state.get("userdata"), earlier=earlier_context(state, target)
            )
        return None

    def _refresh(self, lines: Sequence[TranscriptLine], step: dict[str, Any], runtime: AgentRuntime) -> None:
        known = self._known.setdefault(key_of(step), [])
        turns = sum(line.is_turn for line in lines)
        if any(p.alive and p.fits(lines) and turns - p.turns <= STALE_AFTER for p in known):
            return
        config = background(self._call)
        model = None if step.get("model") is not None else runtime.model(config)
        task = asyncio.create_task(ask(lines, step, model, config), name="graph_voice.summary")
        task.add_done_callback(_log_failure)
        known.append(Prepared(tuple(line.text for line in lines), turns, task))

    def _forget_all_but(self, wanted: dict[Key, list[Sequence[TranscriptLine]]]) -> None:
        """Drop summaries of what the active agent is no longer shown and, of those that fit, all before the newest."""
        for key, known in list(self._known.items()):
            fitting = [p for p in known if p.alive and any(p.fits(lines) for lines in wanted.get(key, ()))]
            newest = max((i for i, p in enumerate(fitting) if p.succeeded), default=0)
            self._known[key] = kept = fitting[newest:]
            for prepared in known:
                if prepared not in kept:
                    prepared.task.cancel()
            if not kept:
                del self._known[key]

    async def aclose(self) -> None:
        """The call is over: cancel what is in progress."""
        tasks: list[asyncio.Task[Any]] = [p.task for known in self._known.values() for p in known]
        if self._planning is not None:
            tasks.append(self._planning)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._known.clear()


def _summarizes(operation: Operation) -> bool:
    return any(step["op"] == "summarize" for step in operation.flat())


def _log_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        # The next turn that ends tries again. A handoff before that asks for its own summary.
        logger.warning("a summary could not be prepared: %r", error)
