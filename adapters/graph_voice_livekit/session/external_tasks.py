"""External tasks, which are LiveKit's own `AgentTask`s: who makes them, and what becomes of their results."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from livekit.agents import AgentTask, ToolError, llm

from graph_voice import Conversation
from graph_voice.errors import BuildError
from graph_voice.graph.frames import running_task
from graph_voice.graph.roles import Roles
from graph_voice_livekit.convert.converters import to_chat_context

__all__ = ["ExternalTaskRun", "ExternalTasks", "MakeTask"]

logger = logging.getLogger("graph_voice.livekit")


@dataclass(frozen=True)
class ExternalTaskRun:
    """What LiveKit's task is made for."""

    inputs: Mapping[str, Any]
    """What `ctx.run_task` was given."""
    userdata: Any
    """The call's facts."""
    chat_ctx: llm.ChatContext
    """The conversation so far."""


MakeTask = Callable[[ExternalTaskRun], Awaitable[Any]]
"""Makes LiveKit's task, or anything else that is awaited for its result."""


class ExternalTasks:
    """The LiveKit tasks that a graph names as external.

    Args:
        roles: of the graph, which declares the names.
        made_by: name -> a function that makes the task.

    Raises `BuildError` when a name is missing on either side.
    """

    def __init__(self, roles: Roles, made_by: Mapping[str, MakeTask]) -> None:
        self._made_by = dict(made_by)
        for name in sorted(set(made_by) - roles.external_tasks):
            known = ", ".join(sorted(roles.external_tasks)) or "none"
            raise BuildError(
                f'tasks={{"{name}": ...}}: the graph declares no external task of that name (declared: {known}). Write '
                f'create_voice_graph(..., external_tasks={{"{name}": Result}}).'
            )
        for name in sorted(roles.external_tasks - set(made_by)):
            raise BuildError(
                f'the graph\'s external task "{name}" has no LiveKit task. Write GraphAgent(graph, tasks={{"{name}": '
                "lambda run: MyAgentTask(...)}), a function of the run (run.inputs) that makes it."
            )
        for name, make in made_by.items():
            if isinstance(make, AgentTask) or not callable(make) or not _takes_run(make):
                raise BuildError(
                    f'tasks={{"{name}": {make!r:.60}}}: write a function of the run that makes the task, '
                    f'tasks={{"{name}": lambda run: MyAgentTask(...)}}; it is called each time the task begins.'
                )

    def __contains__(self, name: str) -> bool:
        return name in self._made_by

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._made_by)

    async def run(self, name: str, conversation: Conversation[Any]) -> tuple[Any, str | None] | None:
        """Let LiveKit run the task. Returns its result, and why it has none; None if the graph has not begun it.

        Called from `on_enter` of a LiveKit agent, where a task may be awaited.
        """
        frame = running_task(conversation.state)
        if frame is None or frame["task"] != name:
            return None
        state = conversation.call.state
        about = ExternalTaskRun(frame["inputs"], state.value("userdata"), to_chat_context(conversation.messages))
        try:
            return await self._made_by[name](about), None
        except ToolError as error:
            return None, error.message
        except Exception:
            logger.exception("LiveKit's task %s failed", name)
            return None, "An internal error occurred."


def _takes_run(make: Any) -> bool:
    if isinstance(make, type):
        return False  # LiveKit's class itself: its first argument is no run
    try:
        inspect.signature(make).bind(None)
    except (TypeError, ValueError):
        return False
    return True
