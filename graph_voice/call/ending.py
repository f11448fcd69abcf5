"""The end of a call: running turns end, then the active agent's `on_exit` runs."""

import asyncio
import logging
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.runtime import Runtime

from graph_voice.agents.handoff import Utterance
from graph_voice.call.state import CallState
from graph_voice.call.trace import CallTrace
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.build import runtime_of
from graph_voice.userdata.working_copy import WorkingCopy

__all__ = ["CLOSE_TIMEOUT", "leave_call", "stop"]

logger = logging.getLogger("graph_voice")

CLOSE_TIMEOUT = 30.0
"""Seconds that running tools may take after the call has ended, and then again `on_exit`."""
_GRACE = 1.0
"""Seconds that cancelled code may take to clean up."""


async def stop(running: set[asyncio.Task[Any]], timeout: float | None) -> None:
    """Wait until nothing runs any more. Tasks that don't end within `timeout` seconds are cancelled.

    Args:
        running: the tasks. Each leaves the set when it is done, and may add another.
        timeout: seconds. None: no limit.
    """
    try:
        async with asyncio.timeout(timeout):
            while running:
                await asyncio.wait(running)
    except TimeoutError:
        logger.warning(
            "%d turns did not end within %g seconds of the call's end; they are stopped", len(running), timeout
        )
        try:
            async with asyncio.timeout(_GRACE):
                while running:
                    for task in running:
                        task.cancel()
                    await asyncio.wait(running, timeout=_GRACE / 10)
        except TimeoutError:
            logger.error("%d turns could not be stopped; their tools ignore cancellation", len(running))


async def leave_call(call: CallState[Any], traces: CallTrace, reason: str, timeout: float | None) -> dict[str, Any]:
    """Run the active agent's `on_exit`. Returns an update of the state; never raises.

    Args:
        call: what is remembered.
        traces: the call's traces, to which the hook's run is added.
        reason: what the agent gets as `ctx.close_reason`.
        timeout: seconds; then the hook is cancelled, and its changes so far count.
    """
    runtime = runtime_of(call.graph, call.active_agent)
    if runtime is None or runtime.agent.on_exit is None:
        return {}
    work = WorkingCopy(call.state)

    async def leave(_: Any, config: RunnableConfig) -> None:
        await _leave(runtime, call, work, config, reason)

    try:
        # A run of its own, so that what the hook does (a model that sums up the call) is on the call's trace.
        async with asyncio.timeout(timeout):
            await RunnableLambda(leave).ainvoke(reason, traces.config(_config(call, runtime)))
    except TimeoutError:
        logger.error("agent %s: on_exit did not end within %s seconds", runtime.agent.name, timeout)
    except Exception:
        logger.exception("agent %s: on_exit failed", runtime.agent.name)
    if (wrong := work.undo_invalid()) is not None:
        logger.error("agent %s: on_exit set invalid userdata, which is not stored: %s", runtime.agent.name, wrong)
    return {"userdata": changes} if (changes := work.changes()) else {}


async def _leave(
    runtime: AgentRuntime, call: CallState[Any], work: WorkingCopy, config: RunnableConfig, reason: str
) -> None:
    own: Runtime[Any] = Runtime(context=call.context, store=call.store or call.graph.store)
    ctx = runtime.context(call.state, config, own, None, userdata=work.current)
    if "userdata" in call.state:
        ctx.userdata = work.value
    ctx.close_reason = reason
    ctx.speak = _unheard
    await runtime.run_hook(runtime.agent.on_exit, ctx)


async def _unheard(message_id: str, line: Utterance) -> str:
    """Say nothing: nobody is on the line, so nothing is generated or remembered."""
    return ""


def _config(call: CallState[Any], runtime: AgentRuntime) -> RunnableConfig:
    config = call.config
    named = {"thread_id": call.thread_id}
    return {
        **config,
        "configurable": {**config.get("configurable", {}), **named},
        "metadata": {**config.get("metadata", {}), **named},
        "run_name": f"{runtime.agent.name}.on_exit",
    }
