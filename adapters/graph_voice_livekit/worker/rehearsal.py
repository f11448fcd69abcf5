"""A worker prepares a call once, in a process of its own, before it takes any."""

import asyncio
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from livekit.agents import JobExecutorType, JobProcess

from graph_voice.errors import LoadError, NoModelError
from graph_voice_livekit.worker.prepared import Plan, prepare

__all__ = ["Rehearsal"]

TIMEOUT = 60.0
"""Seconds that it may take at least: it imports alone what the job processes share."""
_VARIABLES = {"ws_url": "LIVEKIT_URL", "api_key": "LIVEKIT_API_KEY", "api_secret": "LIVEKIT_API_SECRET"}


class Rehearsal:
    """Prepares a call as a job process does, to see whether one could be held.

    Not in the worker's own process: what a user's file does when it is imported (signals, threads, connections) is not
    for the process that starts the others.

    Args:
        plan: what the job processes get.
        timeout: seconds for a job process to get ready. The rehearsal is given at least a minute.
    """

    def __init__(self, plan: Plan, timeout: float | None) -> None:
        self._plan = plan
        self._timeout = max(TIMEOUT, timeout or 0.0)
        self._environment: dict[str, str] = {}

    def know(self, **options: Any) -> None:
        """Options of LiveKit's `AgentServer`, which sets them as variables for its job processes when it runs."""
        given = {variable: options.get(name) for name, variable in _VARIABLES.items()}
        self._environment |= {variable: value for variable, value in given.items() if isinstance(value, str)}

    async def play(self) -> None:
        """Raises `LoadError` with the reason when there could be no call."""
        spawn = multiprocessing.get_context("spawn")
        receiver, sender = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_play, args=(sender, self._plan, self._environment), name="graph_voice check")
        process.start()
        sender.close()
        try:
            async with asyncio.timeout(self._timeout):
                reason = await asyncio.to_thread(_received, receiver)
        except TimeoutError:
            reason = (
                f"{self._plan.graph} and its plugins are not ready after {self._timeout:g} s. For more time: "
                "create_server(initialize_process_timeout=...)."
            )
        finally:
            process.kill()
            process.join()
            receiver.close()
        if reason is not None:
            raise LoadError(reason)


def _received(receiver: Connection) -> str | None:
    try:
        reason: str | None = receiver.recv()
    except (EOFError, OSError):  # it was killed, or has killed itself
        return "the process that loads the graph and the plugins has ended without a word."
    return reason


def _play(sender: Connection, plan: Plan, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    prepared = prepare(JobProcess(executor_type=JobExecutorType.PROCESS, user_arguments=None, http_proxy=None), plan)
    reason, lacks = prepared.reason, prepared.model_error
    if reason is None and lacks is not None and not (isinstance(lacks, NoModelError) and plan.call is not None):
        reason = str(lacks)  # a model that is named is meant; one that is not may come with each call
    sender.send(reason)
