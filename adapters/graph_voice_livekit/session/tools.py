"""Mirrors: LiveKit's tools for a graph's tools. Starting one permits the tool call, and the graph gives its result."""

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import RunContext, function_tool, llm
from livekit.agents.voice import SpeechHandle

from graph_voice import Turn, events

__all__ = ["GrowingLine", "MirroredBatch", "Mirrors", "answer_tool_calls_not_run"]

Execute = Callable[[RunContext[Any]], Awaitable[Any]]
"""The body of every mirror. It returns what LiveKit takes as the tool's result."""


class Mirrors:
    """The mirrors of one call. Each is made once, however often its agent becomes the active one.

    Args:
        execute: what a mirror does.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._made: dict[int, tuple[BaseTool, llm.Tool]] = {}

    def of(self, tools: Iterable[BaseTool]) -> list[llm.Tool]:
        """The mirrors of these tools."""
        return [self._of(tool) for tool in tools]

    def _of(self, tool: BaseTool) -> llm.Tool:
        if id(tool) not in self._made:
            self._made[id(tool)] = (tool, _make_mirror(self._execute, tool))
        return self._made[id(tool)][1]


def _make_mirror(execute: Execute, tool: BaseTool) -> llm.Tool:
    """A LiveKit tool with the name and schema of a graph's tool, whose body runs in the graph."""
    schema = convert_to_openai_tool(tool)["function"]

    parameters = schema.get("parameters") or {"type": "object", "properties": {}}

    async def mirror(*_: Any, raw_arguments: Any = None, livekit_context: RunContext[Any], **__: Any) -> Any:
        return await execute(livekit_context)

    mirror.__name__ = mirror.__qualname__ = tool.name
    mirror.__annotations__ |= dict.fromkeys(parameters.get("properties", ()), Any)
    made = function_tool(
        mirror,
        raw_schema={"name": schema["name"], "description": schema.get("description", ""), "parameters": parameters},
    )
    # LiveKit binds the arguments by the tool's signature, and calls a mock (`mock_tools`) with them.
    made.__signature__ = _Arguments.of(parameters)  # type: ignore[attr-defined]
    return made


class _Arguments(inspect.Signature):
    """The signature of a tool that has only a schema, so that a mock gets each argument by name."""

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> "_Arguments":
        required = set(schema.get("required", ()))
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        found = [
            inspect.Parameter(name, kind, default=inspect.Parameter.empty if name in required else about.get("default"))
            for name, about in schema.get("properties", {}).items()
            if name.isidentifier()
        ]
        found.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
        return cls([*found, inspect.Parameter("livekit_context", inspect.Parameter.KEYWORD_ONLY)])

    def bind(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """Turn what LiveKit calls such a tool with, `raw_arguments` and the context, into the tool's own arguments.

        Missing and unknown arguments pass: the graph tells the model about them.
        """
        given = kwargs.get("raw_arguments") or {}
        own = {name: given[name] for name in self.parameters if name in given}
        return inspect.BoundArguments(self, OrderedDict(own, livekit_context=kwargs.get("livekit_context")))


@dataclass
class MirroredBatch:
    """The tool calls of one model step, which LiveKit executes through their mirrors."""

    agent: str
    tool_calls: dict[str, events.ToolCall]
    results: dict[str, events.ToolResult] = field(default_factory=dict)
    handoff: events.HandedOff | None = None
    started: set[str] = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[SpeechHandle] = field(default_factory=list)
    """LiveKit's speeches of what the tools of the batch, or its handoff, say."""
    asks: bool = False
    """Whether a tool call asks the caller (LangGraph's `interrupt()`). Missing results come in a later turn."""
    unanswered: dict[str, llm.FunctionCallOutput | None] = field(default_factory=dict)
    """Tool calls whose mirror was released before the result came, with LiveKit's item that waits for it."""
    speech: SpeechHandle | None = None
    """The speech whose mirrors wait for this batch; None until one has started."""

    def wants_reply(self, said: bool) -> bool:
        """Whether the agent speaks of the results. `said`: it said something beside the tool calls."""
        reasons = [result.no_reply for result in self.results.values()]
        return "direct" in reasons or not events.ends_turn(reasons, said=said)

    def late_result(self, call_id: str) -> None:
        """Put the real result into LiveKit's item, so that LiveKit's history and judges have it."""
        result, item = self.results.get(call_id), self.unanswered.get(call_id)
        if result is not None and item is not None:
            item.output, item.is_error = result.output, result.is_error


def answer_tool_calls_not_run(turn: Turn, batch: MirroredBatch) -> None:
    """Tell the graph about the tool calls of a batch that LiveKit answers itself: those of unknown and of mocked tools.

    No mirror starts for such a tool call, while the mirrors of the others wait for the whole batch. LiveKit reports its
    answers with `function_tools_executed` only when the batch is over, so the mirrors would wait forever. But an answer
    is among the speech's items before that: for an unknown tool before any mirror starts, because LiveKit gets the tool
    calls of a batch at once, and for a mock when it has ended.
    """
    others = [call_id for call_id in batch.tool_calls if call_id not in batch.started]
    if batch.speech is None or batch.done.is_set() or not others:
        return
    outputs = {item.call_id: item for item in batch.speech.chat_items if item.type == "function_call_output"}
    for call_id in others:
        if (output := outputs.get(call_id)) is not None:
            turn.resolve(call_id, output.output, is_error=output.is_error)


class GrowingLine:
    """A line that grows while it is spoken: the async iterable that LiveKit's `say` takes as text."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    def push(self, text: str) -> None:
        self._queue.put_nowait(text)

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (text := await self._queue.get()) is not None:
            yield text
