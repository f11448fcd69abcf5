"""What a tool's function returns: text, an agent, a handoff, the end of a task, messages, commands."""

import dataclasses
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command
from pydantic import BaseModel, TypeAdapter

from graph_voice.agents.handoff import Handoff
from graph_voice.agents.livekit_names import is_livekit, refused_task
from graph_voice.agents.run_context import RunContext, running
from graph_voice.agents.task_end import Done
from graph_voice.errors import HandoffError

__all__ = ["tool_output"]

_JSON: TypeAdapter[Any] = TypeAdapter(Any)
_BLOCKS = frozenset({"text", "image", "image_url", "audio", "file", "video", "json"})


def tool_output(result: Any) -> Any:
    """What a function returned, as LangChain takes it: text, or messages and commands as they are."""
    if isinstance(result, Handoff):
        RunContext.current().request_handoff(result)
        return result.answer
    if isinstance(result, Done):
        RunContext.current().finished = result
        return result.answer
    if isinstance(result, Command):
        return _with_answer(result)
    if (handoff := _returned_agent(result)) is not None:
        return tool_output(handoff)
    if result is None:
        if (ctx := running.get()) is not None:
            ctx.returned_none = True
        return ""
    if isinstance(result, str | ToolMessage) or _is_for_langchain(result):
        return result
    if isinstance(result, BaseModel | dict | list | tuple | set | frozenset) or dataclasses.is_dataclass(result):
        return _JSON.dump_json(result, fallback=str).decode()
    return str(result)


def _returned_agent(result: Any) -> Handoff | None:
    """A handoff as LiveKit's tools return it: an agent, or an agent and the tool's own words."""
    agent, words = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if words is not None and not isinstance(words, str):
        return None
    if getattr(type(agent), "is_graph_agent", False):
        return RunContext.current().handoff(agent.name, words)
    if not is_livekit(agent, "Agent"):
        return None
    if (why := refused_task(agent)) is not None:
        raise HandoffError(f"The tool returned a task. {why}")
    if (ctx := RunContext.current()) and getattr(agent, "id", None) in ctx.ways:
        return ctx.handoff(agent.id, words)
    raise HandoffError(
        f"The tool returned {type(agent).__name__}, an agent of LiveKit's. In a graph, return "
        'ctx.handoff("billing"), and name LiveKit\'s own agents in create_voice_graph(..., external=["billing"]).'
    )


def _is_for_langchain(result: Any) -> bool:
    """Messages and commands, or content blocks (`{"type": "image", ...}`)."""
    return (
        isinstance(result, list)
        and bool(result)
        and all(
            isinstance(item, ToolMessage | Command) or (isinstance(item, dict) and item.get("type") in _BLOCKS)
            for item in result
        )
    )


def _with_answer(command: Command[Any]) -> Command[Any]:
    """LangGraph needs the tool call's answer in each `Command(update=...)` of a tool: add an empty one if missing."""
    if not isinstance(command.update, dict) or command.graph is not None:
        return command
    call_id = RunContext.current().tool_call_id or ""
    messages = command.update.get("messages", [])
    messages = list(messages) if isinstance(messages, list | tuple) else [messages]
    if any(isinstance(m, ToolMessage) and m.tool_call_id == call_id for m in messages):
        return command
    update = {**command.update, "messages": [*messages, ToolMessage("", tool_call_id=call_id)]}
    return dataclasses.replace(command, update=update)
